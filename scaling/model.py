"""What is trained: a transformer of some family and size."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scaling.part import Part


class Shape(Part):
    """The size of a transformer: one rung of a ladder."""

    hidden_size: int = Field(ge=8)
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)


class Llama(Shape):
    """Llama-style decoder: rotary positions, RMSNorm, SwiGLU, tied embeddings."""

    kind: Literal["llama"] = "llama"

    def num_params(self, vocab_size: int) -> int:
        """N: all but the embedding, which is also the head."""
        h, f = self.hidden_size, self.intermediate_size
        return self.num_layers * (4 * h * h + 3 * h * f + 2 * h) + h


class Bert(Shape):
    """BERT-style encoder: learned positions, LayerNorm, GELU, tied embeddings, no dropout."""

    kind: Literal["bert"] = "bert"

    def num_params(self, vocab_size: int) -> int:
        """N: all but token, position and type embeddings; the head's transform and bias are in it."""
        h, f = self.hidden_size, self.intermediate_size
        return self.num_layers * (4 * h * h + 2 * h * f + 9 * h + f) + 2 * h + (h * h + 3 * h) + vocab_size


Model = Annotated[Llama | Bert, Field(discriminator="kind")]
