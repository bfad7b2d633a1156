"""The gate before training: all that the runs of a sweep read is there, is enough, and is what their specs say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scaling.child import AnySpec, ChildSpec, CompressSpec, FinetuneSpec
from scaling.compression import Int8Dynamic, Int8Weights
from scaling.data.prepare import Prepared, open_stream, packed, prepare, prepare_tokenizer, prepared_tokenizer
from scaling.data.stream import check_budget
from scaling.identity import digest
from scaling.spec import RunSpec

if TYPE_CHECKING:
    from scaling.data.tasks.items import TaskData
    from scaling.data.tokenizer import TrainedTokenizer

BYTES_PER_TOKEN = 4.0
"""Of English text with a vocabulary of some ten thousands; until there is a tokenizer to count with."""


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


@dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a child's task. train: of an epoch. mean_tokens: of a row; by the tokenizer, or from its bytes."""

    train: int
    validation: int
    test: int
    mean_tokens: float
    is_tokenized: bool


class RowCounts:
    """How many rows children train on, counted once for all seeds: those differ by a few, where labels are balanced."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, int] = {}
        self._held: dict[str, tuple[int, int, float]] = {}

    def num_rows(self, spec: ChildSpec) -> int:
        """Of an epoch. ValueError, in one line, if the rows of the task cannot be read, or be taken so many."""
        from scaling.data.tasks.subset import training_facts

        tuned = spec.parent if isinstance(spec, CompressSpec) else spec
        method = tuned.method.model_dump(mode="json", include={"sampling", "augmentation"})
        asked = digest({**tuned.model_dump(mode="json", include={"task", "content", "num_examples"}), "method": method})
        if asked not in self._known:
            facts = training_facts(self._data(tuned), tuned.num_examples, tuned.seed, tuned.method)
            self._known[asked] = facts["num_rows"]
        return self._known[asked]

    def rows(self, spec: ChildSpec) -> TaskRows:
        """All that is known of the rows before anything is trained. ValueError as `num_rows`."""
        from scaling.data.tasks.lengths import mean_tokens

        tuned = spec.parent if isinstance(spec, CompressSpec) else spec
        tokenizer = prepared_tokenizer(tuned.parent, self._cache)
        address = None if tokenizer is None else tokenizer.address
        asked = digest([tuned.task.model_dump(mode="json"), tuned.content, tuned.max_length, address])
        if asked not in self._held:
            data, count = self._data(tuned), _bytes_count if tokenizer is None else _token_count(tokenizer)
            self._held[asked] = len(data.validation), len(data.test), mean_tokens(data, tuned.max_length, count)
        return TaskRows(self.num_rows(spec), *self._held[asked], is_tokenized=tokenizer is not None)

    def _data(self, spec: FinetuneSpec) -> TaskData[Any]:
        from scaling.data.tasks.read import read_task

        return read_task(spec.task, self._cache)


def _token_count(tokenizer: TrainedTokenizer) -> Callable[[Sequence[str]], list[int]]:
    opened = tokenizer.load()
    return lambda texts: [len(found.ids) for found in opened.encode_batch_fast(list(texts), add_special_tokens=False)]


def _bytes_count(texts: Sequence[str]) -> list[int]:
    return [round(len(text.encode()) / BYTES_PER_TOKEN) for text in texts]


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
