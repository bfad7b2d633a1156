"""What a model is pretrained to predict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scaling.model import ENCODER_DECODERS
from scaling.part import Part


class CausalLM(Part):
    """Predict each token from those before it."""

    kind: Literal["clm"] = "clm"


class MaskedLM(Part):
    """Predict masked tokens; of those, 80 % show the mask, 10 % a random token, 10 % themselves (BERT)."""

    kind: Literal["mlm"] = "mlm"
    mask_frac: float = Field(default=0.15, gt=0, lt=1)


class MaskedNextSentence(Part):
    """BERT's objective: masked LM, and whether the second half of a sequence follows its first (Devlin et al. 2019).

    Sequences 2k and 2k + 1 both keep their second halves, or exchange them, with equal probability. So each token is
    read once, as without this objective. The loss is the mean nats of a masked token plus those of a sequence's pair.
    """

    kind: Literal["mlm_nsp"] = "mlm_nsp"
    mask_frac: float = Field(default=0.15, gt=0, lt=1)


class NoObjective(Part):
    """Nothing is pretrained: the model is a checkpoint whose own objective is none of ours, and is fine-tuned as it is
    (finetune.start=initial)."""

    kind: Literal["none"] = "none"


Objective = Annotated[CausalLM | MaskedLM | MaskedNextSentence | NoObjective, Field(discriminator="kind")]

TRAINS: dict[str, tuple[str, ...]] = {
    "clm": ("llama", "gpt2"),
    "mlm": ("bert", "modernbert"),
    "mlm_nsp": ("bert",),
    "none": ENCODER_DECODERS,
}
"""The families that an objective trains, by their kind."""


def pair_params(objective: Objective, hidden_size: int) -> int:
    """Weights of BERT's pooler, and of what tells a sequence that was exchanged; 0 without next sentences."""
    return hidden_size * hidden_size + hidden_size + 2 * hidden_size + 2 if objective.kind == "mlm_nsp" else 0
