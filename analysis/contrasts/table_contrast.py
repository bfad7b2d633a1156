"""Recipe against recipe on a table of runs of several sizes N: laws L(N, D), compared at equal N and D.

For runs that others trained, mostly once each: what chance does is read off the scatter of the runs about their laws,
since every run is a draw of its own. (Branches of one trunk are not, and are taken together; with fewer than 3 trunks
nothing is decided.) With one N in common the law is L(D), with two it is L(D) at the N of the target alone.

Both recipes are fitted to the (N, D) that both have. A size that does badly with one, for its learning rate or batch,
mostly does so with the other too; that cancels in their difference. With e_a, e_b the residuals at the same cell,
h_a, h_b how the two predictions answer to them and r the correlation of the e, the variance of the difference is
s_a^2 |h_a|^2 + s_b^2 |h_b|^2 - 2 r s_a s_b h_a.h_b, so the intervals of the two laws, which are profile intervals, are
scaled by the root of that over the same with r = 0.

Measured, 150 tables of 2 recipes x 5 N x 6 D, noise 1 %, r = 0 and .8: nominal 95 % intervals covered the gap at the
largest cell in 97 and 95 %, the multiplier there in 98 and 97 %, both 4 times beyond it in 96 %; with r = .8 they are
.44 as wide as with r = 0. In the runs of Gadre et al. 2024 r is about .9.

Fewer than 5 trunks of a recipe do not tell r: their rows correlate by chance. Measured, 3 trunks of 6 D each, r = 0,
150 tables, noise nearly all of trunks: with the r that was found the gap was covered in 88 %, without in 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from analysis.contrasts.contrast import Contrast, gap_between
from analysis.contrasts.curves import REACH, Band
from analysis.contrasts.fit import CONFIDENCE, EPOCHS_TOLERANCE, MAX_EPOCHS
from analysis.contrasts.matching import MATCHES, why_amounts_differ, why_weights_differ
from analysis.contrasts.multiplier import multiplier_at, smallest_shared, trace_multiplier
from analysis.contrasts.noise import MIN_DEGREES, MIN_PAIRS
from analysis.contrasts.slices import Pair, Slice
from analysis.contrasts.verdict import Decision, Forecast, decide, find_crossing, probability_lower
from analysis.fitting.law_fit import LawFit, fit_law
from analysis.fitting.result import Estimate
from analysis.laws.chinchilla import Chinchilla
from analysis.laws.law import Array, Law
from analysis.laws.power import Power
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.page.table import number_text
from analysis.runs.logs import AnalysisError
from analysis.runs.run_table import RunTable
from analysis.runs.table_checks import doubts_of_units, why_checkpoints

MIN_RUNS = 3
"""Independent runs of a recipe below which no interval is given."""
Cell = tuple[float | None, float]
"""N (None where the table has none) and D."""


def compare_table(
    table: RunTable,
    a: str,
    b: str,
    match: str = "tokens",
    at: Sequence[Cell] = (),
    confidence: float = CONFIDENCE,
) -> Contrast:
    """Contrast recipe a with recipe b of a table, at the largest (N, D) that both have, or refuse with the numbers.

    at: further (N, D); an N of None is that of the largest. Raises AnalysisError where the table lacks a recipe or a
    column that the match needs.
    """
    sides = _sides(table, a, b, match)
    cells = [cells_of(side) for side in sides]
    common = sorted(set(cells[0]) & set(cells[1]), key=lambda cell: ((cell[0] or 1.0) * cell[1], cell[1]))
    found = Contrast(a, b, table.response, match, refused=None, unit=table.unit)
    if why := _why_unmatched(sides, cells, common, match):
        return replace(found, refused=why)
    N, D = common[-1]
    pair = table.where(np.isin(table.recipe, [a, b]))
    notes = doubts_of_units(pair, Chinchilla if "N" in table.columns else Power)
    if left_out := len({*cells[0], *cells[1]}) - len(common):
        notes.append(say("{count} sizes that only one recipe has are left out", count=left_out))
    sides = [_chosen(side, cell, set(common)) for side, cell in zip(sides, cells, strict=True)]
    found = _by_means(replace(found, num_params=N, tokens=round(D)), sides, (N, D), confidence)
    law = _law_for({cell[0] for cell in common})
    if law is None:
        law = Power()
        sides = [side.where(side.columns["N"] == N) for side in sides]
        notes.append(say("two model sizes do not settle L(N, D): only the runs at the larger are read"))
    fits: list[LawFit] = []
    reason = "no_law"
    if why := why_checkpoints(pair):
        reason = "checkpoints"
        notes.append(f"{why}, so no law of them is compared: --cluster COLUMN says which rows share a run")
        if found.probability is None:
            found = replace(found, reason=reason)
    elif any(_repeats(side) for side in sides):
        notes.append(say("tokens repeat more than 4 times, where no law of D holds"))
    else:
        fits = [fit_law(side, law) for side in sides]
    notes += [fit.why.rstrip(".") for fit in fits if fit.working is None]
    if not fits or any(fit.working is None or fit.num_clusters < MIN_RUNS for fit in fits):
        lost = tuple(
            Forecast(N if size is None else size, tokens, None, None, None, Decision.CANNOT_TELL, reason, math.nan)
            for size, tokens in at
        )
        return replace(found, forecasts=lost, notes=tuple(notes))
    assert found.gap is not None
    gap = number_text(found.gap.value, 3)
    notes.append(say("measured there: a gap of {gap} {unit}", gap=gap, unit=found.unit_text))
    return replace(_by_laws(found, fits, common, at, confidence), notes=tuple(notes))


def _by_laws(
    found: Contrast, fits: Sequence[LawFit], common: Sequence[Cell], at: Sequence[Cell], confidence: float
) -> Contrast:
    """The contrast by a law of each recipe, fitted to the cells that both have."""
    N, D = common[-1]
    num_runs = min(fit.num_clusters for fit in fits)
    is_clustered = any(fit.num_clusters < len(fit.table) for fit in fits)
    few = is_clustered and num_runs < MIN_PAIRS
    r, num_pairs = (0.0, 0) if few else _correlation(fits[0], fits[1])
    degrees = max(1, num_runs - (1 if is_clustered else len(fits[0].law.params)))
    sizes = sorted({tokens for _, tokens in common})
    here = sorted(tokens for size, tokens in common if size == N)
    span = (here[0] if here[0] < D else D / REACH), D

    def pair_at(size: float | None) -> Pair:
        reach = sizes[0] / REACH, sizes[-1] * REACH
        return Pair((Slice(fits[0], size, reach), Slice(fits[1], size, reach)), r, degrees)

    pair = pair_at(N)
    bands = pair.bands(confidence)
    top = _forecast(pair, bands, D, 1.0, confidence)
    start = smallest_shared(pair.curves, span)
    start = start if start and start < D else None
    forecasts = []
    for size, tokens in at:
        other = pair if size in (None, N) else pair_at(size)
        beyond = _beyond((other.slices[0].num_params, tokens), common)
        other_bands = bands if other is pair else other.bands(confidence)
        forecasts.append(_forecast(other, other_bands, tokens, beyond, confidence))
    read = np.geomspace(span[0], D * REACH, 128)
    return replace(
        found,
        method=say("{law} fitted to each recipe", law=fits[0].law.equation),
        decision=top.decision, reason=top.reason, gap=top.gap, probability=top.probability, multiplier=top.multiplier,
        loss=max(float(one.loss(D)) for one in pair.slices), num_pairs=num_pairs,
        at_smallest=multiplier_at(bands, start) if start else None, at_smallest_tokens=start,
        growth=pair.growth(start, D, confidence) if start else None,
        trace=trace_multiplier(bands, start, D) if start else None,
        crossing=find_crossing(read, *gap_between(bands, read), D), forecasts=tuple(forecasts),
    )  # fmt: skip


def _by_means(found: Contrast, sides: Sequence[RunTable], cell: Cell, confidence: float) -> Contrast:
    """The contrast by the mean losses at one cell: what can be said without a law.

    The noise is that between the runs of one recipe at one cell, pooled; where both have the same 5 seeds or more
    there, that of the differences between runs of one seed.
    """
    here, squares, free, degrees = [], 0.0, 0, 0
    for side in sides:
        groups: dict[Cell, list[tuple[str, float]]] = {}
        for key, seed, y in zip(cells_of(side), side.seed.tolist(), side.y, strict=True):
            groups.setdefault(key, []).append((seed, math.log(y)))
        here.append(groups[cell])
        squares += sum(float(np.var([y for _, y in group])) * len(group) for group in groups.values())
        free += sum(len(group) - 1 for group in groups.values())
        degrees += max(len(group) for group in groups.values()) - 1
    means = [math.exp(float(np.mean([y for _, y in group]))) for group in here]
    found = replace(
        found, gap=Estimate(means[0] - means[1], -math.inf, math.inf), method=say("mean losses at one size")
    )
    if degrees < MIN_DEGREES:
        return replace(found, reason="too_few_repeated_seeds" if degrees else "no_repeated_seeds")
    se = math.sqrt(squares / free * sum(1 / len(group) for group in here))
    by_seed = [dict(group) for group in here]
    num_pairs = len(by_seed[0])
    is_paired = num_pairs >= MIN_PAIRS and all(len(group) == num_pairs for group in here)
    if is_paired := is_paired and by_seed[0].keys() == by_seed[1].keys() and "" not in by_seed[0]:
        differences = [by_seed[0][seed] - by_seed[1][seed] for seed in by_seed[0]]
        se, degrees = float(np.std(differences, ddof=1)) / math.sqrt(num_pairs), num_pairs - 1
    half = float(special.stdtrit(degrees, 0.5 + confidence / 2)) * se * math.sqrt(means[0] * means[1])
    gap = Estimate(means[0] - means[1], means[0] - means[1] - half, means[0] - means[1] + half)
    decision = decide(gap)
    return replace(
        found, gap=gap, decision=decision, reason="within_noise" if decision is Decision.CANNOT_TELL else None,
        probability=probability_lower(gap, degrees, confidence), num_pairs=num_pairs if is_paired else 0,
    )  # fmt: skip


def _repeats(table: RunTable) -> bool:
    """Whether tokens repeat beyond where a law of D holds."""
    if "U" not in table.columns:
        return False
    return bool((table.columns["D"] > (MAX_EPOCHS + EPOCHS_TOLERANCE) * table.columns["U"]).any())


def _sides(table: RunTable, a: str, b: str, match: str) -> list[RunTable]:
    by_recipe = table.by_recipe()
    for name in (a, b):
        if name not in by_recipe:
            raise AnalysisError(f"recipe must be one of {', '.join(by_recipe)}, got {name!r}")
    if match not in MATCHES:
        raise AnalysisError(f"match must be one of {', '.join(MATCHES)}, got {match!r}")
    needed = {"unique_tokens": "U", "flops": "C", "weights": "w"}.get(match)
    if needed and needed not in table.columns:
        raise AnalysisError(f"match {match} needs column {needed}; the table has {', '.join(sorted(table.columns))}")
    if "D" not in table.columns:
        raise AnalysisError(f"a contrast needs column D; the table has {', '.join(sorted(table.columns))}")
    return [by_recipe[a], by_recipe[b]]


def cells_of(table: RunTable) -> list[Cell]:
    """(N, D) of each row."""
    tokens = table.columns["D"].tolist()
    sizes = table.columns["N"].tolist() if "N" in table.columns else [None] * len(tokens)
    return list(zip(sizes, tokens, strict=True))


def predictions(table: RunTable, recipes: Sequence[str], at: Cell) -> tuple[Array, Array, int] | None:
    """What a law of each recipe says of one (N, D): log losses and standard errors (r,), degrees of freedom.

    The errors are those that enter differences: their squares add up, in pairs, to the variances of the differences as
    nearly as may be. None where a recipe has too few runs for a law, or branches of trunks.
    """
    tables = [table.by_recipe()[name] for name in recipes]
    common = set.intersection(*(set(cells_of(one)) for one in tables))
    law = _law_for({cell[0] for cell in common}) if common else None
    if law is None:
        return None
    fits = [fit_law(_chosen(one, cells_of(one), common), law) for one in tables]
    if any(fit.working is None or fit.num_clusters < len(fit.table) for fit in fits):
        return None
    slices = [Slice(fit, at[0], (at[1], at[1])) for fit in fits]
    degrees = len(common) - len(law.params)
    quantile = float(special.stdtrit(degrees, 0.5 + CONFIDENCE / 2))
    count = len(slices)
    variance = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            pair = Pair((slices[i], slices[j]), _correlation(fits[i], fits[j])[0], degrees)
            half = pair.half_width((slices[i].gradient(at[1]), slices[j].gradient(at[1])), CONFIDENCE)
            variance[i, j] = variance[j, i] = (half / quantile) ** 2
    rows = variance.sum(axis=1)
    own = variance[0, 1:] / 2 if count == 2 else (rows - rows.sum() / (2 * (count - 1))) / (count - 2)
    errors = np.sqrt(np.maximum(own, 0.1 * rows / (2 * (count - 1)))) if count > 2 else np.sqrt(np.repeat(own, 2))
    return np.array([math.log(float(one.loss(at[1]))) for one in slices]), errors, degrees


def _law_for(sizes: set[float | None]) -> Law | None:
    """L(D) of one N, L(N, D) of three or more, and none of two."""
    return {1: Power(), 2: None}.get(len(sizes), Chinchilla())


def _chosen(table: RunTable, cells: Sequence[Cell], common: set[Cell]) -> RunTable:
    """The rows at the common cells, by N, D, seed."""
    kept = table.where(np.array([cell in common for cell in cells]))
    order = sorted(range(len(kept)), key=lambda i: (cells_of(kept)[i][0] or 0.0, kept.columns["D"][i], kept.seed[i], i))
    return replace(
        kept,
        columns={name: column[order] for name, column in kept.columns.items()},
        **{name: getattr(kept, name)[order] for name in ("y", "recipe", "run", "seed", "row")},
    )


def _why_unmatched(
    sides: Sequence[RunTable], cells: Sequence[Sequence[Cell]], common: Sequence[Cell], match: str
) -> str | None:
    if not common:
        ours, theirs = (_grid_text(side) for side in cells)
        return say("they need a size in common and have 0: {ours} against {theirs} tokens", ours=ours, theirs=theirs)
    if match == "weights":
        shares = [dict(zip(side.domains, side.columns["w"].mean(axis=0).tolist(), strict=True)) for side in sides]
        return why_weights_differ(shares[0], shares[1])
    column = {"unique_tokens": "U", "flops": "C"}.get(match)
    for cell in common if column else ():
        amounts = [
            float(np.mean([x for x, at in zip(side.columns[column], own, strict=True) if at == cell]))  # type: ignore[index]
            for side, own in zip(sides, cells, strict=True)
        ]
        if why := why_amounts_differ(match, amounts[0], amounts[1], _cell_text(cell)):
            return why
    return None


def _grid_text(cells: Sequence[Cell]) -> str:
    """The first few of the cells, and how many more there are."""
    ordered = sorted(set(cells), key=lambda cell: (cell[0] or 0.0, cell[1]))
    text = "; ".join(_cell_text(cell) for cell in ordered[:4])
    return text if len(ordered) < 5 else say("{some} and {count} more", some=text, count=len(ordered) - 4)


def _cell_text(cell: Cell) -> str:
    return count_text(cell[1]) if cell[0] is None else f"N = {count_text(cell[0])}, D = {count_text(cell[1])}"


def _correlation(a: LawFit, b: LawFit) -> tuple[float, int]:
    """Of the residuals at the same cells and seeds, and how many such pairs there are; 0, 0 where rows do not pair."""
    keys = [list(zip(cells_of(fit.table), fit.table.seed.tolist(), strict=True)) for fit in (a, b)]
    if keys[0] != keys[1]:
        return 0.0, 0
    assert a.working is not None
    assert b.working is not None
    x, y = (w.noise.residuals * np.sqrt(w.noise.weights) for w in (a.working, b.working))
    size = math.sqrt(float(x @ x) * float(y @ y))
    return (min(float(x @ y) / size, 0.98) if size > 0 else 0.0), len(x)


def _beyond(cell: Cell, common: Sequence[Cell]) -> float:
    """How far a cell lies beyond the measured ones: the larger of N and D over their largest."""
    by_tokens = cell[1] / max(tokens for _, tokens in common)
    sizes = [size for size, _ in common if size is not None]
    return max(by_tokens, cell[0] / max(sizes)) if sizes and cell[0] is not None else by_tokens


def _forecast(pair: Pair, bands: tuple[Band, Band], D: float, beyond: float, confidence: float) -> Forecast:
    N = pair.slices[0].num_params
    value, lo, hi = (float(end[0]) for end in gap_between(bands, np.array([D])))
    if beyond > REACH * (1 + 1e-9):
        bare = Estimate(value, -math.inf, math.inf)
        return Forecast(N, D, bare, None, None, Decision.CANNOT_TELL, "beyond_reach", beyond)
    gap = Estimate(value, lo, hi)
    decision = decide(gap)
    reason = "within_noise" if decision is Decision.CANNOT_TELL else None
    probability = probability_lower(gap, pair.degrees, confidence)
    return Forecast(N, D, gap, multiplier_at(bands, D), probability, decision, reason, beyond)
