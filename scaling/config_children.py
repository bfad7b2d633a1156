"""From the sections task, method, compress and finetune of a configuration to the runs that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from scaling.child import AnySpec, CompressSpec, FinetuneSpec, LinearDecay, Measuring, TaskBatch, check_is_smaller
from scaling.compression import Compression, Distillation, Heads
from scaling.config_errors import ConfigError, checked, lines_of
from scaling.data.pretrained import num_heads
from scaling.identity import digest
from scaling.method import Method
from scaling.model import Checkpoint
from scaling.names import default_name
from scaling.part import Part
from scaling.spec import AdamW, RunSpec, check_pretrains
from scaling.task import AnyTask

CHILD_SECTIONS = ("task", "method", "compress", "finetune")

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Finetune(Part):
    """What the section `finetune` says; see FinetuneSpec."""

    start: Literal["pretrained", "initial"]
    num_examples: int | None = Field(ge=1)
    batch: TaskBatch
    schedule: LinearDecay
    optimizer: AdamW
    measuring: Measuring


class Asked(Part):
    """What a configuration asks for beyond pretraining."""

    task: AnyTask
    method: Method
    compress: Compression | None
    finetune: Finetune


class FinetuneSeeds(Part):
    """The seeds of fine-tuning: each is a run."""

    finetune: tuple[Seed, ...] = Field(min_length=1)


class Tasks:
    """What tasks hold, each looked up once and not at every point of a sweep."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, tuple[AnyTask, dict[str, str]]] = {}

    def resolve(self, task: AnyTask) -> tuple[AnyTask, dict[str, str]]:
        """A task that says all that it means, and the fingerprint of what each split holds."""
        from scaling.data.tasks.read import resolve_task

        asked = digest(task.model_dump(mode="json"))
        if asked not in self._known:
            self._known[asked] = resolve_task(task, self._cache)
        return self._known[asked]


def children(
    pretraining: RunSpec, asked: Mapping[str, Any], seeds: Any, name: str | None, tasks: Tasks
) -> list[AnySpec]:
    """The runs that a configuration asks for: that of pretraining itself where it names no task.

    Raises ConfigError, or ValueError for what a task's rows do not hold.
    """
    if asked.get("task") is None:
        if asked.get("compress") is not None:
            raise ConfigError([f"compress needs a task to be measured on: task=..., got {asked['compress']['kind']}"])
        check_pretrains(pretraining)
        return [pretraining]
    tree = {key: asked.get(key) for key in CHILD_SECTIONS}
    tree["compress"] = _with_family(tree["compress"], pretraining)
    wanted = checked(Asked, tree, tree)
    each_seed = checked(FinetuneSeeds, {"finetune": seeds}, {"finetune": seeds}, "seeds").finetune
    task, content = tasks.resolve(wanted.task)
    shared = {
        "study": pretraining.study,
        "zero": pretraining.zero,
        "placement": pretraining.placement,
        "tracking": pretraining.tracking,
        "measuring": wanted.finetune.measuring,
    }
    specs: list[AnySpec] = []
    for seed in dict.fromkeys(each_seed):
        tuned = _checked_spec(
            FinetuneSpec,
            {
                **shared,
                "name": name or "run",
                "parent": pretraining,
                "start": wanted.finetune.start,
                "task": task,
                "method": wanted.method,
                "num_examples": wanted.finetune.num_examples,
                "seed": seed,
                "batch": wanted.finetune.batch,
                "schedule": wanted.finetune.schedule,
                "optimizer": wanted.finetune.optimizer,
                "precision": pretraining.precision,
                "content": content,
            },
        )
        tuned = tuned.model_copy(update={"name": name or default_name(tuned)})
        if wanted.compress is None:
            specs.append(tuned)
            continue
        compressed = _checked_spec(
            CompressSpec, {**shared, "name": name or "run", "parent": tuned, "compress": wanted.compress}
        )
        if isinstance(wanted.compress, Heads) and isinstance(pretraining.model, Checkpoint):
            wanted.compress.num_cut(num_heads(pretraining.model))
        if isinstance(wanted.compress, Distillation):
            check_is_smaller(tuned, wanted.compress)
        specs.append(compressed.model_copy(update={"name": name or default_name(compressed)}))
    return specs


def _with_family(compress: Any, pretraining: RunSpec) -> Any:
    """A student is of its teacher's family where it names none."""
    if not isinstance(compress, Mapping) or not isinstance(student := compress.get("student"), Mapping):
        return compress
    return {**compress, "student": {**student, "kind": student.get("kind") or pretraining.anatomy.family}}


def _checked_spec(kind: Any, fields: Mapping[str, Any]) -> Any:
    """A spec of a child, whose own checks name the fields as a configuration does."""
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        raise ConfigError(lines_of(error, fields)) from None
