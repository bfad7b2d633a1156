"""The audits of a study: what a reader must know before acting on its answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from analysis.contrast import Contrast, Decision
from analysis.fit import EPOCHS_TOLERANCE, MAX_EPOCHS, Fit, HeldOut
from analysis.fitting.result import Status
from analysis.labels import count_text
from analysis.points import Study
from analysis.recipes import changed_domains
from analysis.table import estimate_text, number_text

MIN_DIFFERENCE_IN_U = 0.03
"""Unique tokens at equal D that differ by less are whole sequences and rounding."""


LOW_LR_FRAC = 0.1
"""Where a decay should have ended: the usual end of a cosine (Hoffmann et al. 2022)."""


def find_caveats(study: Study, fits: Sequence[Fit], found: Sequence[Contrast]) -> list[str]:
    """One sentence for each thing that weakens the answer; empty if there is none."""
    return [
        *_run_caveats(study),
        *_exposure_caveats(study),
        *_noise_caveats(study, fits),
        *_fit_caveats(study, fits),
        *_contrast_caveats(study, found),
        *(f"Log: {warning}." for warning in study.warnings),
    ]


def _some_of(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _run_caveats(study: Study) -> list[str]:
    said = []
    broken = sorted((run for run in study.runs if run.state != "complete"), key=lambda run: (run.state, run.name))
    if broken:
        states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in broken).items())
        names = _some_of([f"{run.name} ({(run.error or run.state)[:80]})" for run in broken])
        said.append(f"{len(broken)} of {len(study.runs)} runs are not complete and enter no fit ({states}): {names}.")
    complete = [run for run in study.runs if run.state == "complete"]
    if diverged := Counter(study.recipe_of[run.fingerprint] for run in broken if run.state == "diverged"):
        names = _some_of([f"{label} ({count})" for label, count in diverged.items()])
        said.append(
            f"Runs diverged under {names}: what is left of them is what went well, so their losses may look too good."
        )
    if midway := [f"{run.name} ({run.mid_schedule})" for run in complete if run.mid_schedule]:
        said.append(
            f"{len(midway)} of {len(complete)} complete runs were measured in the middle of their schedule and enter "
            f"no fit: {_some_of(midway, 3)}."
        )
    if silent := [run.name for run in complete if not run.is_schedule_known]:
        said.append(
            f"Of {len(silent)} of {len(complete)} complete runs it is unknown whether the learning rate had ended its "
            f"decay; they are taken as if it had: {_some_of(silent, 3)}."
        )
    if study.lost:
        names, one = _some_of([run.name for run in study.lost]), len(study.lost) == 1
        said.append(
            f"{len(study.lost)} run{' was' if one else 's were'} interrupted and left out, before "
            f"{'it' if one else 'they'} logged anything: {names}."
        )
    if elastic := [run.name for run in study.runs if run.is_elastic]:
        said.append(
            f"{len(elastic)} of {len(study.runs)} runs were interrupted and went on under another placement (device, "
            f"ranks or micro-batch), which changes losses by rounding: {_some_of(elastic)}."
        )
    if short := [run.name for run in complete if run.steps_left_out]:
        total = sum(run.steps_left_out for run in complete)
        said.append(
            f"{total} steps of {len(short)} runs were left out, whose loss or gradient was no number; their tokens "
            f"count as trained on: {_some_of(short)}."
        )
    linear = [run for run in complete if run.spec["schedule"]["kind"] == "wsd"]  # a cosine says itself where it ends
    if high := [run.name for run in linear if (run.final_lr_frac or 0) > LOW_LR_FRAC]:
        said.append(
            f"{len(high)} of {len(complete)} runs end above {LOW_LR_FRAC:.0%} of their peak learning rate: their decay "
            f"is short, so their losses are higher than they need be: {_some_of(high, 3)}."
        )
    if changed := changed_domains(study.recipes):
        said.append(
            f'The data of {", ".join(changed)} changed between runs: recipes with "other data" were trained or '
            "evaluated on another text than most, which is told by its content hash."
        )
    epochs: dict[str, float] = {}
    for point in study.points:
        epochs[point.recipe] = max(epochs.get(point.recipe, 0.0), point.epochs)
    some = {
        label: most for label, most in epochs.items() if 1 + EPOCHS_TOLERANCE < most <= MAX_EPOCHS + EPOCHS_TOLERANCE
    }
    if some:
        names = _some_of([f"{label} (up to {most:.3g} epochs)" for label, most in some.items()])
        said.append(
            f"Tokens repeat in {names}; the law counts repeats as new tokens, which is nearly right up to "
            f"{MAX_EPOCHS:g} epochs (Muennighoff et al. 2023)."
        )
    off = [
        (abs(seen.weight - seen.realised_weight), run.name, domain, seen)
        for run in study.runs
        for domain, seen in (run.ledger.domains.items() if run.ledger else ())
        if abs(seen.weight - seen.realised_weight) > 0.01
    ]
    if off:
        _, name, domain, seen = max(off, key=lambda item: item[:3])
        runs = len({name for _, name, _, _ in off})
        most = f"{runs} runs saw another mixture than intended; furthest off, " if runs > 1 else ""
        said.append(f"{most}{name} saw {seen.realised_weight:.1%} of {domain} where {seen.weight:.1%} were intended.")
    differing = sorted(
        key
        for key in ("device", "torch", "transformers", "deepspeed", "scaling")
        if len({run.environment.get(key) for run in study.runs if run.state == "complete"}) > 1
    )
    if differing:
        said.append(f"The runs were not all made in one environment; they differ in {', '.join(differing)}.")
    return said


def _exposure_caveats(study: Study) -> list[str]:
    """Where recipes did not see as much text at equal D: one repeats what it has, the other does not."""
    reference = study.recipes[0].label
    unique: dict[str, dict[int, list[int]]] = {}
    for point in study.points:
        if point.domain == study.target:
            unique.setdefault(point.recipe, {}).setdefault(point.tokens, []).append(point.unique_tokens)
    if reference not in unique or study.match == "unique_tokens":
        return []
    said = []
    for recipe in study.recipes[1:]:
        for size in sorted({*unique.get(recipe.label, {})} & {*unique[reference]}, reverse=True):
            ours, theirs = float(np.mean(unique[recipe.label][size])), float(np.mean(unique[reference][size]))
            if abs(ours - theirs) > MIN_DIFFERENCE_IN_U * max(ours, theirs):
                said.append(f"{recipe.label} {count_text(ours)} against {count_text(theirs)}")
                break
    if not said:
        return []
    return [
        f"At equal tokens not all recipes saw as many unique tokens as {reference}, because some repeat what they have "
        f"({_some_of(said, 3)}): a gap to it holds the cost of repeating as well as the effect of the text."
    ]


def _noise_caveats(study: Study, fits: Sequence[Fit]) -> list[str]:
    seeds = [len({p.seeds for p in study.points_of(r.label, study.target)}) for r in study.recipes]
    seeds = [count for count in seeds if count]
    known = [fit for fit in fits if fit.domain == study.target and fit.noise.is_known]
    if not known:
        curves = len({p.tokens for p in study.points}) > 1
        return [
            "Seeds are not repeated often enough to see how trunks vary (at least two degrees of freedom are needed): "
            "which recipe is best may be chance, so none is called better"
            + (", and the intervals of the curves hold within a trunk only." if curves else ".")
        ]
    if min(seeds) < 3:
        return [
            f"A recipe has fewer than 3 trunks: the intervals rest on the seed variance pooled over recipes "
            f"({known[0].noise.degrees} degrees of freedom), taken to be equal in all of them."
        ]
    return []


def _curves(some: Sequence[Fit], fits: Sequence[Fit]) -> str:
    """Which curves a sentence is about: by name where they are few, else how many of all, with the first few."""
    names = [f"{fit.recipe} on {fit.domain}" for fit in some]
    if len(names) <= 2:
        return "; ".join(names)
    return f"On {len(names)} of {len(fits)} curves ({_some_of(names, 3)})"


def _is_within(test: HeldOut) -> bool:
    return test.predicted.lo <= test.loss <= test.predicted.hi


def _fit_caveats(study: Study, fits: Sequence[Fit]) -> list[str]:
    said: list[str] = []
    if len({p.tokens for p in study.points}) == 1:
        return said  # there is no curve to say anything about
    for status in (
        Status.REPEATS,
        Status.TOO_FEW_POINTS,
        Status.NOT_CONVERGED,
        Status.NOT_IDENTIFIED,
        Status.AT_BOUND,
    ):
        those = [fit for fit in fits if fit.status is status]
        if those:
            said.append(f"{_curves(those, fits)}: {status.value}")
    astray = [fit for fit in fits if fit.holds and fit.noise.is_known and fit.residual_sd > 3 * fit.noise.sd]
    if astray:
        fit = max(astray, key=lambda fit: fit.residual_sd / fit.noise.sd)
        most = "" if len(astray) == 1 else "up to "
        said.append(
            f"{_curves(astray, fits)}: the losses lie {most}{fit.residual_sd:.1%} off the curve where seeds vary "
            f"by {fit.noise.sd:.2%}: they do not follow the law. Are the smallest sizes still in warmup?"
        )
    missed = [(fit, test) for fit in fits if fit.holds for test in fit.held_out if not _is_within(test)]
    if missed:
        wrong = [fit for fit in fits if any(fit is other for other, _ in missed)]
        fit, test = max(missed, key=lambda item: abs(item[1].error))
        where = f"{fit.recipe} on {fit.domain}: " if len(missed) > 1 else ""
        said.append(
            f"{_curves(wrong, fits)}: the law does not hold at the held-out "
            f"sizes; {'furthest off, ' if where else ''}{where}it predicts {estimate_text(test.predicted)} at "
            f"{count_text(test.tokens)} tokens, measured was {number_text(test.loss)}."
        )
    if study.hold_out and not any(fit.held_out for fit in fits):
        said.append("No prediction was tested: no fitted recipe has a held-out size.")
    elif not study.hold_out:
        said.append("The study holds no size out, so the fits have not been tested on one.")
    return said


def _contrast_caveats(study: Study, found: Sequence[Contrast]) -> list[str]:
    said = []
    refused: dict[tuple[str, str, str], list[str]] = {}
    for c in found:
        if c.refused:
            refused.setdefault((c.a, c.b, c.refused), []).append(c.domain)
    for (a, b, why), domains in list(refused.items())[:3]:
        said.append(f"{a} against {b} on {_some_of(domains)}: not compared, because {why}.")
    if len(refused) > 3:
        said.append(f"{len(refused) - 3} more pairs of recipes were not compared; the table of contrasts says why.")
    far = [c for c in found if c.is_extrapolated and c.decision is not Decision.CANNOT_TELL]
    if far:
        names = _some_of([f"{c.a} against {c.b} on {c.domain}" for c in far], 3)
        said.append(f"{names}: no loss is shared within the measured sizes; the multiplier is extrapolated.")
    if bounds := [c for c in found if c.is_bound]:
        names = _some_of([f"{c.a} against {c.b} on {c.domain}" for c in bounds], 3)
        said.append(f"{names}: no loss is shared within the measured sizes, so the multiplier is a bound.")
    for c in (c for c in found if not c.refused):
        said += [f"{c.a} against {c.b}: {note}." for note in c.notes if c.domain == study.target]
        m = c.multiplier
        if c.domain == study.target and c.check and m and math.isfinite(m.lo) and not m.lo <= c.check <= m.hi:
            said.append(
                f"{c.a} against {c.b}: without a law, the multiplier is "
                f"{number_text(c.check, 3)}, outside the interval "
                f"{estimate_text(m)}; the law may not fit well at the largest size."
            )
    on_target = [c for c in found if c.domain == study.target and not c.refused]
    if len(on_target) > 1 and all(c.gap and math.isfinite(c.gap.lo) for c in on_target):
        said.append(
            f"{len(on_target)} contrasts were made on {study.target}; each interval in their table holds with 95 % on "
            "its own. Those of the headline and of the ranking hold together."
        )
    tested = len(np.unique([p.tokens for p in study.points]))
    if tested < 5:
        more = {1: ": a ranking is possible, a curve is not", 2: "", 3: ""}.get(tested, "")
        said.append(f"Only {tested} size{'s were' if tested > 1 else ' was'} measured{more}.")
    return said
