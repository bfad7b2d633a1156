"""How a trained model is made smaller or faster, to see what survives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scaling.model import Bert, Gpt2, Llama, ModernBert
from scaling.part import Part

PASS_SIZES = (1, 32)
"""Rows that are answered at once where the time of that is measured."""
NUM_ROUNDS = 31
"""Passes of each size, each of other rows; their median is told, of the second time that each is answered."""


class Magnitude(Part):
    """The smallest weights of linear layers set to 0: `frac` of each layer's, or of all together (Han et al. 2015)."""

    kind: Literal["magnitude"] = "magnitude"
    frac: float = Field(default=0.5, gt=0, lt=1)
    scope: Literal["layer", "model"] = "layer"


class Heads(Part):
    """Attention heads cut out: `frac` of each layer's, those whose output projection has the smallest norm.

    Michel et al. 2019 rank by gradient; the norm needs no data.
    """

    kind: Literal["heads"] = "heads"
    frac: float = Field(default=0.25, gt=0, lt=1)

    def num_cut(self, num_heads: int) -> int:
        """Of so many heads of a layer. ValueError if that is none of them, or all."""
        found = round(self.frac * num_heads)
        if not 0 < found < num_heads:
            raise ValueError(
                f"compress.frac must cut at least 1 of the {num_heads} heads of a layer, and leave one,"
                f" got {self.frac}: {found}"
            )
        return found


class Int8Weights(Part):
    """Weights of linear layers in 8 bits, activations as they are (torchao)."""

    kind: Literal["int8_weights"] = "int8_weights"


class Int8Dynamic(Part):
    """Weights in 8 bits, activations brought to 8 bits as they come (torchao)."""

    kind: Literal["int8_dynamic"] = "int8_dynamic"


class Distillation(Part):
    """A smaller model, taught by the fine-tuned one on the task's training rows (Hinton et al. 2015).

    loss = (1 - weight) nats of the label + weight temperature^2 KL(teacher || student), both at that temperature.
    learning_rate: None: that of the fine-tuning.
    """

    kind: Literal["distillation"] = "distillation"
    student: Annotated[Llama | Gpt2 | Bert | ModernBert, Field(discriminator="kind")]
    temperature: float = Field(default=2.0, gt=0)
    weight: float = Field(default=0.5, ge=0, le=1)
    num_epochs: float = Field(default=3.0, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)


Compression = Annotated[Magnitude | Heads | Int8Weights | Int8Dynamic | Distillation, Field(discriminator="kind")]
