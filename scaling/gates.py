"""The gate before training: all that the runs of a sweep read is there, is enough, and is what their specs say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from scaling.child import AnySpec, ChildSpec, CompressSpec, FinetuneSpec
from scaling.compression import Int8Dynamic, Int8Weights
from scaling.data.prepare import Prepared, open_stream, packed, prepare, prepare_tokenizer
from scaling.data.stream import check_budget
from scaling.identity import digest
from scaling.spec import RunSpec


class Planned(Protocol):
    """A run of a sweep, and its folder."""

    @property
    def spec(self) -> AnySpec: ...

    @property
    def run_dir(self) -> Path: ...


def prepare_all(planned: Sequence[Planned], cache: Path, report: Callable[[str], None]) -> dict[Path, Prepared]:
    """What every run of pretraining reads; the rows of tasks are read, and checked, too.

    ValueError, in one line, for what is wrong with a source or a task, or for a library that is not there.
    """
    prepared, rows = {}, RowCounts(cache)
    for run in planned:
        spec = run.spec
        if isinstance(spec, RunSpec):
            prepared[run.run_dir] = prepare(spec, cache, report)
        elif isinstance(spec, FinetuneSpec):
            if spec.start == "initial":
                prepare_tokenizer(spec.parent, cache, report)
            report(f"task {spec.task.name}")
            rows.num_rows(spec)
        elif isinstance(spec.compress, Int8Weights | Int8Dynamic) and find_spec("torchao") is None:
            raise ValueError(f"compress={spec.compress.kind} needs torchao: pip install 'data-scaling[int8]'")
    return prepared


class RowCounts:
    """How many rows children train on, counted once for all seeds: those differ by a few, where labels are balanced."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, int] = {}

    def num_rows(self, spec: ChildSpec) -> int:
        """Of an epoch. ValueError, in one line, if the rows of the task cannot be read, or be taken so many."""
        from scaling.data.tasks.read import read_task
        from scaling.data.tasks.subset import training_facts

        tuned = spec.parent if isinstance(spec, CompressSpec) else spec
        method = tuned.method.model_dump(mode="json", include={"sampling", "augmentation"})
        asked = digest({**tuned.model_dump(mode="json", include={"task", "content", "num_examples"}), "method": method})
        if asked not in self._known:
            facts = training_facts(read_task(tuned.task, self._cache), tuned.num_examples, tuned.seed, tuned.method)
            self._known[asked] = facts["num_rows"]
        return self._known[asked]


def check_all(planned: Sequence[Planned], prepared: Mapping[Path, Prepared]) -> None:
    """Raises ValueError, with the numbers of the first run that it is about, if budgets ask for more than there is."""
    errors: list[tuple[Planned, ValueError]] = []
    for run in planned:
        if isinstance(run.spec, RunSpec):
            try:
                check_data(run.spec, prepared[run.run_dir])
            except ValueError as error:
                errors.append((run, error))
    if errors:
        run, first = errors[0]
        where = f" (in {len(errors)} of {len(planned)} runs, first: {run.run_dir.name})" if len(planned) > 1 else ""
        raise ValueError(f"{first}{where}")


def check_data(spec: RunSpec, prepared: Prepared) -> None:
    """ValueError, with the numbers, if a run's data is too little to train on or to evaluate."""
    stream = open_stream(spec, prepared)
    check_budget(stream)
    for name, selected in prepared.validation.items():
        if packed(selected, spec.batch.sequence_length).num_sequences == 0:
            raise ValueError(
                f"corpus.domains.{name} has {selected.counts.tokens} validation tokens: wanted at least one sequence of"
                f" {spec.batch.sequence_length}: more documents, or a larger corpus.validation_frac"
                f" (now {spec.recipe.corpus.validation_frac:g})"
            )
