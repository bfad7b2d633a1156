"""Runs that go on from another run: FinetuneSpec from pretraining, CompressSpec from fine-tuning; all that they are.

A child holds the whole spec of its parent. So its parent is found by fingerprint, trained if it is missing, and never
trained twice; and all that the parent was trained on is in the child's record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from scaling.compression import Compression, Distillation, Heads
from scaling.files import write_json
from scaling.method import AdaLora, Adapter, Full, Method, Prefix, TopLayers
from scaling.model import ENCODER_DECODERS, Checkpoint
from scaling.objective import TRAINS, MaskedNextSentence, NoObjective
from scaling.part import Name, Part, Share
from scaling.placement import Placement, Precision, Zero, check_placement, needs_deepspeed
from scaling.spec import AdamW, RunSpec, Study, Tracking
from scaling.task import AnyTask, Generation, check_metric

ALONE = "wants a model that is an encoder or a decoder alone"
"""What T5 and BART are told where a method or a compression has no place in two stacks of layers."""
WRITERS = (*TRAINS["clm"], *ENCODER_DECODERS)
"""The families of models that write texts."""


class TaskBatch(Part):
    """The rows of one optimiser step, over all ranks.

    max_length: tokens that a text is cut to; None: as long as the parent's sequences.
    """

    num_sequences: int = Field(default=32, ge=1)
    max_length: int | None = Field(default=None, ge=8)


class LinearDecay(Part):
    """Linear warmup, then linear decay to 0 at the end.

    num_epochs: passes over the training rows, but at least `min_steps` optimiser steps: with a few labels, few epochs
    are a handful of steps (Mosbach et al. 2021).
    """

    num_epochs: float = Field(default=3.0, gt=0)
    min_steps: int = Field(default=0, ge=0)
    warmup_frac: Share = 0.1


class Measuring(Part):
    """How often validation is measured while a model learns, and how its intervals are made.

    num_resamples: of the rows, for an interval. max_rows: of validation and test, None: all.
    """

    num_evaluations: int = Field(default=3, ge=1)
    num_resamples: int = Field(default=1000, ge=100)
    max_rows: int | None = Field(default=None, ge=1)


class FinetuneSpec(Part):
    """One fine-tuning, in full.

    start: the parent as it was trained, or as it began (`initial`): random weights, or the checkpoint that it names.
    num_examples: labelled rows trained on, nested subsets of each other; None: all. seed: of the head, the subset, the
    order of rows, and dropout. content: the fingerprint of what each split of the task holds.
    """

    kind: Literal["finetune"] = "finetune"
    name: Name
    study: Study
    parent: RunSpec
    start: Literal["pretrained", "initial"] = "pretrained"
    task: AnyTask
    method: Method = Method()
    num_examples: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    batch: TaskBatch = TaskBatch()
    schedule: LinearDecay = LinearDecay()
    optimizer: AdamW
    measuring: Measuring = Measuring()
    precision: Precision = "fp32"
    content: dict[str, str]
    zero: Zero = Zero()
    placement: Placement = Placement()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fits_together(self) -> FinetuneSpec:
        check_metric(self.task)
        if self.start == "pretrained" and isinstance(self.parent.objective, NoObjective):
            raise ValueError(
                "finetune.start must be initial with objective=none, which pretrains nothing, got pretrained"
            )
        family = self.parent.anatomy.family
        if self.task.kind == "generation" and family not in WRITERS:
            raise ValueError(f"task.kind=generation wants a model that writes, one of {list(WRITERS)}, got {family}")
        if self.task.kind != "generation" and family in ENCODER_DECODERS:
            raise ValueError(
                f"model {family} is fine-tuned on tasks of kind generation only, got task.kind={self.task.kind}"
            )
        if isinstance(self.task, Generation) and self.task.max_target_tokens + 1 >= self.max_length:
            raise ValueError(
                f"task.max_target_tokens must leave room for a source in finetune.batch.max_length={self.max_length}"
                f" tokens, got {self.task.max_target_tokens}"
            )
        check_placement(self.zero, self.placement, self.precision)
        stopping, count = self.method.early_stopping, self.measuring.num_evaluations
        if stopping is not None and stopping.patience > count - 2:
            raise ValueError(
                f"method.early_stopping.patience must be at most finetune.measuring.num_evaluations - 2 = {count - 2},"
                f" or it never stops a run, got {stopping.patience}"
            )
        adaptation, num_layers = self.method.adaptation, self.parent.anatomy.num_layers
        if isinstance(adaptation, Prefix | Adapter) and family in ENCODER_DECODERS:
            raise ValueError(f"method.adaptation.kind={adaptation.kind} {ALONE}, got {family}")
        if isinstance(adaptation, AdaLora) and self.placement.compile:
            raise ValueError("placement.compile must not be true under method.adaptation.kind=adalora, got true")
        if isinstance(adaptation, TopLayers) and adaptation.num_layers > num_layers:
            raise ValueError(
                f"method.adaptation.num_layers must be at most the model's {num_layers} layers,"
                f" got {adaptation.num_layers}"
            )
        longest = self.parent.anatomy.max_length
        if self.max_length > longest:
            raise ValueError(
                f"finetune.batch.max_length must be at most the model's {longest} positions, got {self.max_length}"
            )
        per_pass = self.placement.ranks * (self.placement.micro_batch or 1)
        if self.batch.num_sequences % per_pass:
            raise ValueError(
                f"finetune.batch.num_sequences must be a multiple of placement.ranks x micro_batch = {per_pass},"
                f" got {self.batch.num_sequences}"
            )
        return self

    @property
    def max_length(self) -> int:
        """Tokens that a text is cut to."""
        return self.batch.max_length or self.parent.batch.sequence_length

    def num_steps(self, num_rows: int) -> int:
        """Optimiser steps on so many rows: the epochs in whole batches, and no fewer than are asked for."""
        in_epochs = math.ceil(self.schedule.num_epochs * num_rows / self.batch.num_sequences - 1e-9)
        return max(1, self.schedule.min_steps, in_epochs)

    def forward_flops_per_token(self, length: int) -> float:
        """FLOPs of a token in a row of so many, forward alone: a third of `RunSpec.flops_per_token`. Where a text is
        written, as if all of a row were projected onto the vocabulary."""
        anatomy = self.parent.anatomy
        weights = anatomy.num_params - anatomy.head_params
        if self.task.kind == "generation":
            weights += anatomy.vocab_size * anatomy.hidden_size
        return 2 * weights + 4 * anatomy.attention_width * anatomy.attended(length)

    @property
    def micro_batch(self) -> int:
        """Rows per rank and forward pass."""
        return self.placement.micro_batch or self.batch.num_sequences // self.placement.ranks

    @property
    def needs_deepspeed(self) -> bool:
        """Whether one process of plain torch does not do."""
        return needs_deepspeed(self.zero, self.placement, self.precision)


class CompressSpec(Part):
    """One compression of a fine-tuned model, measured on its task."""

    kind: Literal["compress"] = "compress"
    name: Name
    study: Study
    parent: FinetuneSpec
    compress: Compression
    measuring: Measuring = Measuring()
    zero: Zero = Zero()
    placement: Placement = Placement()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fits_its_model(self) -> CompressSpec:
        tuned, compress = self.parent.parent, self.compress
        if isinstance(compress, Heads | Distillation) and tuned.anatomy.family in ENCODER_DECODERS:
            raise ValueError(f"compress.kind={compress.kind} {ALONE}, got {tuned.anatomy.family}")
        if isinstance(compress, Heads) and not isinstance(tuned.model, Checkpoint):
            compress.num_cut(tuned.model.num_heads)
        if isinstance(compress, Distillation):
            _check_student(self.parent, compress)
        return self

    @property
    def needs_deepspeed(self) -> bool:
        """Whether one process of plain torch does not do: compression is of one process."""
        return False


def student_of(teacher: FinetuneSpec, method: Distillation) -> FinetuneSpec:
    """How a student is trained: as its teacher was, but of another size, from random weights, all of them."""
    batch = teacher.parent.batch.model_copy(update={"sequence_length": teacher.max_length})
    learning_rate = method.learning_rate or teacher.optimizer.learning_rate
    return teacher.model_copy(
        update={
            "parent": teacher.parent.model_copy(update={"model": method.student, "batch": batch}),
            "start": "initial",
            "method": teacher.method.model_copy(update={"adaptation": Full(), "early_stopping": None, "keep": "last"}),
            "schedule": teacher.schedule.model_copy(update={"num_epochs": method.num_epochs}),
            "optimizer": teacher.optimizer.model_copy(update={"learning_rate": learning_rate}),
        }
    )


def check_is_smaller(teacher: FinetuneSpec, method: Distillation) -> None:
    """ValueError if a student is no smaller than its teacher. Asked of a new run alone: there are records of others."""
    student, model = (tuned.parent.anatomy for tuned in (student_of(teacher, method), teacher))
    sizes = [found.num_params + found.embedding_params for found in (student, model)]
    if sizes[0] >= sizes[1]:
        raise ValueError(
            f"compress.student must be smaller than its teacher of {sizes[1]} weights, got one of {sizes[0]}"
        )


def _check_student(teacher: FinetuneSpec, method: Distillation) -> None:
    """ValueError if a student cannot learn what it is to learn."""
    model, kind, family = teacher.parent, method.student.kind, teacher.parent.anatomy.family
    if teacher.task.kind == "generation" and kind not in WRITERS:
        raise ValueError(f"compress.student.kind must be one that writes, of {list(TRAINS['clm'])}, got {kind}")
    reads_two = teacher.task.kind == "qa" or getattr(teacher.task, "second", None) is not None
    tells_apart = family == "bert" and (reads_two or isinstance(model.objective, MaskedNextSentence))
    if tells_apart and kind != "bert":
        raise ValueError(f"compress.student.kind must be bert, as its teacher, which tells two texts apart, got {kind}")
    if teacher.precision == "fp16":
        raise ValueError("compress.kind=distillation learns without ZeRO: precision must be fp32 or bf16, got fp16")


AnySpec = RunSpec | FinetuneSpec | CompressSpec
ChildSpec = FinetuneSpec | CompressSpec


def parent_of(spec: AnySpec) -> AnySpec | None:
    """The run that must be complete before this one; None where there is none."""
    if isinstance(spec, CompressSpec) or (isinstance(spec, FinetuneSpec) and spec.start == "pretrained"):
        return spec.parent
    return None


def pretraining_of(spec: AnySpec) -> RunSpec:
    """The pretraining that a run goes back to."""
    return spec if isinstance(spec, RunSpec) else pretraining_of(spec.parent)


def task_of(spec: ChildSpec) -> AnyTask:
    """The task that a child is measured on."""
    return spec.task if isinstance(spec, FinetuneSpec) else spec.parent.task


def write_spec(path: Path, spec: AnySpec) -> None:
    """Write `spec.json`."""
    write_json(path, spec.model_dump(mode="json"))


SPECS: Mapping[str, type[RunSpec] | type[FinetuneSpec] | type[CompressSpec]] = {
    "pretrain": RunSpec,
    "finetune": FinetuneSpec,
    "compress": CompressSpec,
}
"""By the `kind` in spec.json, which pretraining does not have; also W&B's job types."""


def read_spec(path: Path) -> AnySpec:
    """Read `spec.json` of any run; ValueError if it is none."""
    tree: Any = json.loads(path.read_text(encoding="utf-8"))
    kind = str(tree.get("kind", "pretrain")) if isinstance(tree, dict) else ""
    if kind not in SPECS:
        raise ValueError(f"{path}: kind must be one of {list(SPECS)}, got {kind!r}")
    return SPECS[kind].model_validate(tree)


def job_type(spec: AnySpec) -> str:
    """W&B's word for what a run does."""
    return "pretrain" if isinstance(spec, RunSpec) else spec.kind
