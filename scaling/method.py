"""How a model is adapted to a task: which of its weights learn, what the loss counts, and what is done to the rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.part import Part, Share

# ---- which weights learn -------------------------------------------------------------------------------


class Full(Part):
    """All weights. layer_decay: the learning rate of each layer below the head, as a part of the one above it (Howard
    and Ruder 2018); 1: the same everywhere."""

    kind: Literal["full"] = "full"
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class HeadOnly(Part):
    """The head alone; the model is a fixed encoder, without dropout (linear probe).

    Where a text is made, the head is the projection onto the vocabulary, with embeddings that are tied to it.
    """

    kind: Literal["head"] = "head"


class TopLayers(Part):
    """The head, the last `num_layers` layers, and the norm after them; layer_decay as in Full."""

    kind: Literal["top_layers"] = "top_layers"
    num_layers: int = Field(default=1, ge=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class Lora(Part):
    """Low-rank updates of the linear layers (Hu et al. 2021), through `peft`."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: Share = 0.0


class AdaLora(Part):
    """Low-rank updates whose ranks are shared out by importance (Zhang et al. 2023).

    Each linear layer begins with `initial_rank`; `rank` is what is left of it on average.
    """

    kind: Literal["adalora"] = "adalora"
    initial_rank: int = Field(default=12, ge=1)
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: Share = 0.0

    @model_validator(mode="after")
    def _begins_with_more(self) -> AdaLora:
        if self.rank > self.initial_rank:
            raise ValueError(f"rank must be at most initial_rank = {self.initial_rank}, got {self.rank}")
        return self


class Prefix(Part):
    """Keys and values put before those of the text in each layer (Li and Liang 2021)."""

    kind: Literal["prefix"] = "prefix"
    num_tokens: int = Field(default=16, ge=1)


class Adapter(Part):
    """Two small layers with a bottleneck after each feed-forward (Houlsby et al. 2019; one a layer, as in Pfeiffer et
    al. 2021)."""

    kind: Literal["adapter"] = "adapter"
    size: int = Field(default=32, ge=1)


Adaptation = Annotated[Full | HeadOnly | TopLayers | Lora | AdaLora | Prefix | Adapter, Field(discriminator="kind")]

# ---- what the loss counts ------------------------------------------------------------------------------


class CrossEntropy(Part):
    """Nats of the right label. class_weights: `balanced` weighs each label by the inverse of its share of the training
    rows. label_smoothing: the share of the target that is spread over all labels."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Focal(Part):
    """(1 - p)^gamma of the nats: what is sure already counts less (Lin et al. 2017)."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0)
    class_weights: Literal["none", "balanced"] = "none"


TaskLossRule = Annotated[CrossEntropy | Focal, Field(discriminator="kind")]

# ---- what is done to the training rows -----------------------------------------------------------------


class Augmentation(Part):
    """Noisy copies of each training text, beside it: a data axis of its own, as more labels are (Wei and Zou 2019).

    kind: words deleted, words swapped, or letters lost and found again (back-and-forth noise).
    """

    kind: Literal["delete", "swap", "noise"]
    copies: int = Field(default=1, ge=1, le=16)
    frac: float = Field(default=0.1, gt=0, lt=1)


class EarlyStopping(Part):
    """Stop where the deciding metric has not become better on validation for `patience` evaluations."""

    patience: int = Field(default=3, ge=1)


class Method(Part):
    """How a model is adapted.

    sampling: rows of rare labels repeated (`over`), or of frequent ones left out (`under`), until all are as frequent.
    dropout: of the head, and wherever the model has a place for it. keep: the weights that are measured: the best on
    validation, or the last.
    """

    adaptation: Adaptation = Full()
    loss: TaskLossRule = CrossEntropy()
    sampling: Literal["as_is", "over", "under"] = "as_is"
    augmentation: Augmentation | None = None
    dropout: Share = 0.1
    early_stopping: EarlyStopping | None = None
    keep: Literal["best", "last"] = "best"

    @model_validator(mode="after")
    def _stops_at_the_best(self) -> Method:
        if self.early_stopping is not None and self.keep != "best":
            raise ValueError(f"method.keep must be best under method.early_stopping, got {self.keep!r}")
        return self
