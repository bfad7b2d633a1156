"""What is known of a fine-tuning, or of the compression of one: what it began from, what it learned, what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.fitting.result import Estimate

Start = Literal["pretrained", "initial", "checkpoint"]
"""Pretrained here; the first weights, random; or a checkpoint from elsewhere, as it was."""

DECIDING = {
    "classification": "accuracy",
    "similarity": "pearson",
    "tokens": "f1",
    "qa": "f1",
    "generation": "rouge_l",
}
"""The metric that decides where the task names none: the first of each kind in `scaling.task.METRICS`."""


@dataclass(frozen=True)
class Seen:
    """What the pretraining saw of one domain."""

    weight: float
    realised_weight: float
    tokens: int
    unique_tokens: int


@dataclass(frozen=True)
class Origin:
    """The pretraining that a run goes back to: D, U, C, its last loss on each domain [nats per token], its ledger."""

    tokens: int
    unique_tokens: int
    flops: float
    losses: Mapping[str, float]
    domains: Mapping[str, Seen]


@dataclass(frozen=True)
class Compressed:
    """How a fine-tuned model was made smaller. part: of the spec. cost, original_cost: by name, with its unit.

    original: the metrics of the model before. difference: what they changed by, with the interval over the rows that
    both were measured on; empty where no log tells.
    """

    part: Mapping[str, Any]
    cost: Mapping[str, float]
    original_cost: Mapping[str, float]
    original: Mapping[str, float]
    difference: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class OfClass:
    """How one class of a task was told. num: that many have it in test. None: not defined."""

    precision: float | None
    recall: float | None
    f1: float | None
    num: int


@dataclass(frozen=True)
class TaskRun:
    """One fine-tuning, or one compression of it. What only its end knows (scores, seconds) is empty unless complete.

    spec: of the fine-tuning, also for a compression. metric: the one that decides. labels: labelled rows trained on;
    None for a failed run that was to take all. scores, validation: by metric, with intervals over the rows alone.
    replicates: the deciding metric of resamples of the test rows; None in older logs. baselines, baseline_replicates:
    by name (and metric), of models without pretraining or weights of ours. classes: by label or type of entity.
    origin: None from the first weights, and for a failed run.
    """

    run_id: str
    name: str
    fingerprint: str
    spec: Mapping[str, Any]
    state: str
    error: str | None
    task: str
    metric: str
    start: Start
    labels: int | None
    num_params: int
    environment: Mapping[str, str]
    is_linked: bool = False
    scores: Mapping[str, Estimate] = field(default_factory=dict)
    validation: Mapping[str, Estimate] = field(default_factory=dict)
    replicates: tuple[float, ...] | None = None
    baselines: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    baseline_replicates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    classes: Mapping[str, OfClass] = field(default_factory=dict)
    num_items: int | None = None
    seconds: float | None = None
    num_trainable: int | None = None
    origin: Origin | None = None
    compressed: Compressed | None = None
    results_version: int | None = None

    @property
    def parent(self) -> Mapping[str, Any]:
        """The spec of the pretraining, whose first weights alone are used unless `start` is pretrained."""
        parent: Mapping[str, Any] = self.spec["parent"]
        return parent

    @property
    def seed(self) -> int:
        """Of the head, the subset of labels, and the order of rows."""
        return int(self.spec["seed"])

    @property
    def tokens(self) -> int:
        """D of the pretraining; 0 without one."""
        return self.origin.tokens if self.origin and self.start == "pretrained" else 0

    @property
    def score(self) -> Estimate:
        """The metric that decides, on test. Of a complete run."""
        return self.scores[self.metric]
