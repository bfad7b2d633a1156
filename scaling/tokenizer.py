"""The tokenizer of a study: trained on its documents, or a checkpoint's own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from scaling.part import Name, Part


class Tokenizer(Part):
    """A tokenizer trained on training documents: `num_bytes` of text, shared evenly by `domains`.

    It names its own domains, so that adding a point to a sweep retrains nothing.
    """

    kind: Literal["bpe", "wordpiece"] = "bpe"
    vocab_size: int = Field(ge=300, le=1_000_000)
    domains: Annotated[tuple[Name, ...], AfterValidator(lambda names: tuple(sorted(names)))] = Field(min_length=1)
    num_bytes: int = Field(default=10_000_000, ge=1)

    end_of_text_id: ClassVar[int] = 0
    mask_id: ClassVar[int] = 1
    pad_id: ClassVar[int] = 2
    first_word_id: ClassVar[int] = 3
    """The first id that is no special token."""


class CheckpointTokenizer(Part):
    """The tokenizer in the folder of the checkpoint that the model is.

    All but the kind is filled in when a run is specified. content: a hash of its tokenizer.json. vocab_size: its ids.
    mask_id: None if it has no mask.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    content: str
    vocab_size: int = Field(ge=1)
    end_of_text_id: int
    mask_id: int | None
    pad_id: int | None

    @property
    def first_word_id(self) -> int:
        """The first id that can be drawn in place of a masked token.

        As in BERT, any id of a vocabulary whose special tokens do not simply come first.
        """
        return 3 if {self.end_of_text_id, self.mask_id, self.pad_id} == {0, 1, 2} else 0


AnyTokenizer = Annotated[Tokenizer | CheckpointTokenizer, Field(discriminator="kind")]
