"""Which runs to add: the fewest FLOPs for a width, or the narrowest interval for a budget.

What is chosen are whole sets of runs, because their worth is not a sum: runs of one trunk cost little and share their
noise, a law needs four sizes, a variance two repeated seeds. So the search starts from sets of equal trunks, of
every subset of the sizes and every number of new seeds (c-optimal designs for one quantity rest on few sizes; which
ones follows from the assumed curve), then adds, drops and exchanges single runs until no such step helps.
Where all sets can be tried, it finds the best of them in nearly all cases (tests/analysis/planning).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.planning.noise_floor import NoiseFloor
from analysis.planning.planned_run import PlannedRun, Seeds, new_seeds
from analysis.planning.precision import Precision, incidence, pooled
from analysis.planning.question import AssumedCurve, Question

MAX_NEW_SEEDS = 12
MAX_SUBSET = 3
"""Of many sizes, starts use so many at most; what more would help is added afterwards."""
MANY_SIZES = 7
NUM_STARTS = 3
MAX_STEPS = 60
MAX_ROUNDS = 4
NEAR = 0.02
"""A rehearsed width this little off needs no further search."""

Shape = tuple[NDArray[np.bool_], ...]
"""Per recipe of the question: which trunk (rows) measures which size (columns)."""
Score = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Field:
    """All that could be run. templates: a run of each recipe. sizes: D. seeds: of the rows, those in use first.

    done: what is there already; planned: and what was to be added. branches: where a decay begins, per recipe and size.
    """

    templates: tuple[PlannedRun, ...]
    sizes: tuple[int, ...]
    seeds: tuple[Seeds, ...]
    done: Shape
    planned: Shape
    precision: Precision
    branches: NDArray[np.int64]

    def flops(self, shape: Shape) -> float:
        """FLOPs of all that is not done: a run goes on from the largest smaller one of its trunk."""
        tokens = np.array(self.sizes, float)
        total = 0.0
        for own, done, branch, run in zip(shape, self.done, self.branches, self.templates, strict=True):
            reached = np.maximum.accumulate(np.where(own, branch, 0), axis=1)
            start = np.concatenate([np.zeros((len(own), 1), int), reached[:, :-1]], axis=1)
            start = np.where(start <= branch, start, 0)
            total += float(((tokens - start) * (own & ~done)).sum()) * run.flops_per_token
        return total

    def runs(self, shape: Shape) -> tuple[PlannedRun, ...]:
        """The runs that are not done."""
        return tuple(
            run.at(self.sizes[k], self.seeds[row])
            for run, own, done in zip(self.templates, shape, self.done, strict=True)
            for row, k in np.argwhere(own & ~done)
        )


def field_of(
    question: Question,
    runs: Sequence[PlannedRun],
    sizes: Sequence[int],
    curves: Mapping[str, AssumedCurve],
    floor: NoiseFloor,
) -> Field:
    """What could be run for a question: its recipes at `sizes` and those in use, with the seeds in use and new ones.

    runs: of all recipes that the noise is pooled over; of the others, those that are done.
    """
    own = [run for run in runs if run.recipe in question.recipes]
    templates = tuple(next(run for run in own if run.recipe == recipe) for recipe in question.recipes)
    done = [run for run in own if run.is_done]
    known = {run.num_tokens for run in own}
    every = tuple(
        sorted(known | {run.schedule.whole(size) for run in templates for size in sizes if size not in known})
    )
    used = sorted({run.seeds for run in done})
    planned = sorted({run.seeds for run in own} - set(used))
    seeds = (*used, *planned, *new_seeds(own, max(0, MAX_NEW_SEEDS - len(planned))))
    there, then = ([incidence(run.recipe, some, seeds, every) for run in templates] for some in (done, own))
    branches = np.array([[run.schedule.branch_tokens(size) for size in every] for run in templates])
    others = [run for run in runs if run.is_done and run.recipe not in question.recipes]
    all_seeds = (*seeds, *sorted({run.seeds for run in others} - set(seeds)))
    precision = Precision(question, curves, floor, every, pooled(question, others, all_seeds, every))
    return Field(templates, every, seeds, tuple(there), tuple(then), precision, branches)


def cheapest(field: Field, half_width: float) -> tuple[PlannedRun, ...] | None:
    """The runs with the fewest FLOPs after which the interval is at most so wide, in log loss; None if none do.

    The formula that sets are tried by may be off: what it proposes is rehearsed, it is asked again for what it is off
    by, and of the cheapest that will do every run is dropped that need not be there.
    """
    formula = replace(field, precision=field.precision.opened(half_width))
    aim, found = half_width, [field.planned]
    for _ in range(MAX_ROUNDS):
        shape = _cheapest(formula, aim)
        if shape is None:
            break
        reached = field.precision.careful(shape) / half_width
        found.append(shape)
        if 1 - NEAR <= reached <= 1 + 1e-9:
            break
        aim /= reached * (1 + NEAR / 4)
    enough = [shape for shape in found if field.precision.careful(shape) <= half_width * (1 + 1e-9)]
    if not enough:
        return None
    best = min(enough, key=field.flops)
    return field.runs(best if field.precision.is_measured else _thinned(field, best, half_width))


def _thinned(field: Field, shape: Shape, half_width: float) -> Shape:
    """Without the runs, the dearest first, that the interval is narrow enough without."""
    while True:
        fewer = [s for s in _neighbours(field, shape, moves=False) if field.flops(s) < field.flops(shape)]
        good = (s for s in sorted(fewer, key=field.flops) if field.precision.careful(s) <= half_width * (1 + 1e-9))
        if (following := next(good, None)) is None:
            return shape
        shape = following


def _cheapest(field: Field, half_width: float) -> Shape | None:
    def score(shape: Shape) -> Score:
        half = field.precision.half_width(shape)
        short = max(0.0, half / half_width - 1) if math.isfinite(half) else math.inf
        return (short if short > 1e-9 else 0.0), field.flops(shape)

    best = _search(field, score)
    return best if score(best)[0] == 0 else None


def narrowest(field: Field, max_flops: float) -> tuple[PlannedRun, ...]:
    """The runs within a budget after which the interval is narrowest; none where none gives an interval.

    As the formula goes by how wide the interval will be, it is asked again with what its first answer came to.
    """
    formula, found = field, []
    for _ in range(1 if field.precision.is_measured else MAX_ROUNDS):
        shape = _narrowest(formula, max_flops)
        if shape is None:
            break
        found.append(shape)
        wide = min(field.precision.careful(shape), 2 * field.precision.half_width(shape))
        formula = replace(field, precision=field.precision.opened(wide))
    best = min(found, key=field.precision.careful, default=field.done)
    return field.runs(best) if math.isfinite(field.precision.careful(best)) else ()


def _narrowest(field: Field, max_flops: float) -> Shape | None:
    def score(shape: Shape) -> Score:
        over = max(0.0, field.flops(shape) / max_flops - 1)
        return (over, math.inf) if over > 1e-9 else (0.0, field.precision.half_width(shape))

    best = _search(field, score)
    value = score(best)
    return best if value[0] == 0 and math.isfinite(value[1]) else None


def _search(field: Field, score: Callable[[Shape], Score]) -> Shape:
    """The best set that the starts lead to."""
    first = _best_starts(field, score)
    found = [_descend(field, shape, score) for shape in (*first, field.planned)]
    return min(found, key=score)


def _best_starts(field: Field, score: Callable[[Shape], Score]) -> list[Shape]:
    """The best few of the starts. They are tried from the cheapest on: once there are as many whose score is their cost
    alone, the dearer ones cannot be among them, and their widths need not be worked out.
    """
    tried: list[tuple[Score, int, Shape]] = []
    num_good = 0
    for cost, i, shape in sorted(((field.flops(s), i, s) for i, s in enumerate(_starts(field))), key=lambda x: x[:2]):
        value = score(shape)
        tried.append((value, i, shape))
        num_good += value == (0.0, cost)
        if num_good == NUM_STARTS:
            break
    return [shape for _, _, shape in sorted(tried, key=lambda x: x[:2])[:NUM_STARTS]]


def _starts(field: Field) -> Iterator[Shape]:
    """What is done; what is planned; and m further trunks of each recipe, all with the same sizes, which those that are
    there get, too, or not.
    """
    yield field.done
    yield field.planned
    places, num_used = field.precision.places, int(max(own.any(axis=1).sum() for own in field.done))
    k = len(places)
    most = k if k <= MANY_SIZES else MAX_SUBSET
    subsets = [list(s) for count in range(1, most + 1) for s in itertools.combinations(places, count)]
    for subset in subsets:
        for extend in (False, True) if num_used else (False,):
            for count in _counts(0 if extend else 1, len(field.seeds) - num_used, is_many=k > MANY_SIZES):
                shape = tuple(own.copy() for own in field.done)
                rows = range(0 if extend else num_used, num_used + count)
                for own in shape:
                    own[np.ix_(rows, subset)] = True
                yield shape


def _counts(least: int, most: int, is_many: bool) -> list[int]:
    """Numbers of new seeds that starts try: all, or where there are many sizes, ever fewer of the large ones."""
    return [n for n in ((0, 1, 2, 3, 4, 6, 8, 12) if is_many else range(most + 1)) if least <= n <= most]


def _descend(field: Field, shape: Shape, score: Callable[[Shape], Score]) -> Shape:
    """Take the best single step until none helps; runs are moved where none need be added or dropped."""
    value = score(shape)
    for _ in range(MAX_STEPS):
        best = None
        for moves in (False, True):
            for neighbour in _neighbours(field, shape, moves):
                found = score(neighbour)
                if found < value:
                    value, best = found, neighbour
            if best is not None:
                break
        if best is None:
            return shape
        shape = best
    return shape


def _neighbours(field: Field, shape: Shape, moves: bool) -> Iterator[Shape]:
    """Sets one step away, in one recipe or in all: a run added or dropped, a trunk dropped; or else a run moved."""
    rows, useful = _distinct_rows(shape), set(field.precision.places)
    cells = [(row, k) for row in rows for k in range(len(field.sizes))]
    places = [(i,) for i in range(len(shape))] + ([tuple(range(len(shape)))] if len(shape) > 1 else [])
    for where in places:
        free = [c for c in cells if c[1] in useful and not any(shape[i][c] for i in where)]
        taken = [c for c in cells if all(shape[i][c] and not field.done[i][c] for i in where)]
        if moves:
            yield from (_toggled(shape, where, pair) for pair in itertools.product(taken, free))
            continue
        yield from (_toggled(shape, where, (cell,)) for cell in (*free, *taken))
        for row in {row for row, _ in taken}:
            yield _toggled(shape, where, [cell for cell in taken if cell[0] == row])


def _distinct_rows(shape: Shape) -> list[int]:
    """Rows that differ: what is done with one of equal trunks could be done with another."""
    seen: dict[bytes, int] = {}
    for row in range(len(shape[0])):
        seen.setdefault(b"".join(own[row].tobytes() for own in shape), row)
    return sorted(seen.values())


def _toggled(shape: Shape, where: Sequence[int], cells: Sequence[tuple[int, int]]) -> Shape:
    changed = list(shape)
    for i in where:
        changed[i] = shape[i].copy()
        for cell in cells:
            changed[i][cell] ^= True
    return tuple(changed)
