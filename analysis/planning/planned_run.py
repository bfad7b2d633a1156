"""Runs that are not there yet: what they are, what they cost, and how a new one is made from another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Seeds = tuple[tuple[str, int], ...]
"""The seeds of a run by name, sorted."""


@dataclass(frozen=True)
class Schedule:
    """What of a run's schedule decides which of its tokens another run has trained already.

    batch_tokens: of one step. decay_frac: the last part of the steps, which no other run shares; None: nothing is
    shared, because the learning rate, the order or the repetition of the text depends on D from the start.
    """

    batch_tokens: int
    decay_frac: float | None

    def whole(self, num_tokens: int) -> int:
        """D rounded down to whole batches, as it is trained."""
        return num_tokens // self.batch_tokens * self.batch_tokens

    def branch_tokens(self, num_tokens: int) -> int:
        """The tokens at which the decay of a run over D begins: up to there, runs of one trunk are the same run."""
        if self.decay_frac is None:
            return 0
        steps = num_tokens // self.batch_tokens
        return (steps - max(1, round(self.decay_frac * steps))) * self.batch_tokens


@dataclass(frozen=True)
class PlannedRun:
    """One training, done or to do. num_tokens: D as trained, whole batches. flops_per_token: C / D."""

    recipe: str
    num_tokens: int
    seeds: Seeds
    flops_per_token: float
    schedule: Schedule
    is_done: bool = False

    @property
    def trunk(self) -> tuple[str, Seeds]:
        """What it shares with the runs that it may go on from."""
        return self.recipe, self.seeds

    def at(self, num_tokens: int, seeds: Seeds) -> PlannedRun:
        """The same recipe at another size, with other seeds; not done."""
        return replace(self, num_tokens=num_tokens, seeds=seeds, is_done=False)

    def again(self) -> PlannedRun:
        """The same run, not done."""
        return replace(self, is_done=False)


def schedule_of(spec: Mapping[str, Any]) -> Schedule:
    """The schedule of a spec. Runs share a trunk under warmup-stable-decay, shuffled text and fixed hyperparameters."""
    batch = spec["batch"]["num_sequences"] * spec["batch"]["sequence_length"]
    shares = (
        spec["schedule"]["kind"] == "wsd"
        and spec["recipe"]["order"]["kind"] == "shuffled"
        and spec["budget"].get("repetition") is None
        and (spec.get("hyperparameters") or {"kind": "fixed"})["kind"] == "fixed"
    )
    return Schedule(batch, spec["schedule"]["decay_frac"] if shares else None)


def own_tokens(runs: Sequence[PlannedRun]) -> list[int]:
    """Per run, the tokens that it trains itself: what a smaller run of its trunk has trained is taken over.

    Runs that are done come first: a smaller run that is added later spares the larger one nothing.
    """
    begun: dict[tuple[str, Seeds], list[int]] = defaultdict(list)
    own = [0] * len(runs)
    for i in sorted(range(len(runs)), key=lambda i: (not runs[i].is_done, runs[i].num_tokens)):
        run = runs[i]
        branch = run.schedule.branch_tokens(run.num_tokens)
        taken = max((start for start in begun[run.trunk] if start <= branch), default=0)
        own[i] = run.num_tokens - taken
        begun[run.trunk].append(branch)
    return own


def flops_to_train(runs: Sequence[PlannedRun]) -> float:
    """FLOPs of the runs that are not done, trunks counted once."""
    tokens = zip(runs, own_tokens(runs), strict=True)
    return float(sum(own * run.flops_per_token for run, own in tokens if not run.is_done))


def new_seeds(runs: Sequence[PlannedRun], count: int) -> list[Seeds]:
    """Seeds that no run has: those that vary between runs go up by one each, all of them where none varies."""
    values: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        for name, value in run.seeds:
            values[name].add(value)
    varied = {name for name, seen in values.items() if len(seen) > 1} or set(values)
    first = 1 + max(max(values[name]) for name in varied)
    return [
        tuple((name, first + i if name in varied else min(seen)) for name, seen in sorted(values.items()))
        for i in range(count)
    ]
