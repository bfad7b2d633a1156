"""Before money is spent: what a planned sweep can see, and which runs to add for the question that matters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.contrasts.matching import why_not_comparable
from analysis.page.labels import flops_text, percent_text
from analysis.page.language import say
from analysis.page.table import Probability, Table, number_text
from analysis.planning.forecast import Forecast, forecast
from analysis.planning.noise_floor import NoiseFloor
from analysis.planning.plan import Plan
from analysis.planning.planned_run import PlannedRun, flops_to_train
from analysis.planning.question import AssumedCurve, Kind, Question, in_log_loss, said
from analysis.planning.search import Field, cheapest, field_of, narrowest
from analysis.runs.logs import AnalysisError

FAR = 4
"""A loss is asked for at so many times the largest size."""


@dataclass(frozen=True)
class Proposal:
    """Runs to add. flops: of them, trunks counted once. before, after: the forecast without and with them.

    even_flops: of the planned runs of the question's recipes that are not done, for comparison; None where all are.
    """

    runs: tuple[PlannedRun, ...]
    flops: float
    before: Forecast
    after: Forecast
    even_flops: float | None


@dataclass(frozen=True, eq=False)
class Design:
    """What a plan can see. forecasts: for all questions. flops: of what is not done. question: the one that was chosen.

    proposal: None where no runs reach the width; why: then, in a sentence.
    """

    plan: Plan
    floor: NoiseFloor
    curves: Mapping[str, AssumedCurve]
    flops: float
    forecasts: tuple[Forecast, ...]
    question: Question
    proposal: Proposal | None
    why: str | None


def design(
    plan: Plan,
    floor: NoiseFloor,
    curves: Mapping[str, AssumedCurve],
    *,
    question: Question | None = None,
    half_width: float | None = None,
    max_flops: float | None = None,
    sizes: Sequence[int] = (),
) -> Design:
    """Judge a plan, and find the runs that answer one question best.

    question: by default the gap between the first comparable pair of recipes at the largest size, else the loss of the
    one recipe beyond it. half_width: what its 95 % interval is to reach, in units of Forecast, with the fewest FLOPs;
    by default that of the whole plan. max_flops: instead, the narrowest interval for so much; the default where all
    is done is half of what was spent, and where the plan gives no interval, what is planned. sizes: D to consider
    besides those of the plan. Raises AnalysisError for a question about what the plan does not have.
    """
    asked = questions_of(plan)
    chosen = question or asked[0]
    _check(plan, chosen, half_width, max_flops, sizes)
    every = (chosen, *(q for q in asked if q != chosen))
    forecasts = tuple(forecast(one, plan.pooled_with(*one.recipes), curves, floor) for one in every)
    open_flops = flops_to_train(plan.runs)
    own = [run for run in plan.runs if run.recipe in chosen.recipes]
    done = [run for run in plan.pooled_with(*chosen.recipes) if run.is_done]
    before = forecast(chosen, done, curves, floor)
    field = _field(plan, chosen, curves, floor, sizes)
    if half_width is None and max_flops is None:
        if open_flops and forecasts[0].is_known:
            half_width = said(chosen, field.precision.careful(field.planned), curves)
        else:
            max_flops = flops_to_train(own) or flops_to_train([run.again() for run in own]) / 2
    if half_width is not None:
        found = _cheapest(field, chosen, half_width, curves)
    else:
        assert max_flops is not None
        found = narrowest(field, max_flops)
    if not found:
        why = _why_none(chosen, before, half_width, curves)
        return Design(plan, floor, curves, open_flops, forecasts, chosen, None, why)
    after = forecast(chosen, [*done, *found], curves, floor)
    even = flops_to_train(own)
    proposal = Proposal(found, flops_to_train([*plan.done, *found]), before, after, even or None)
    return Design(plan, floor, curves, open_flops, forecasts, chosen, proposal, None)


def runs_for(
    question: Question, half_width: float, plan: Plan, floor: NoiseFloor, curves: Mapping[str, AssumedCurve]
) -> tuple[PlannedRun, ...]:
    """The cheapest runs that bring the interval of a question of a plan to half_width; none where no runs do."""
    return _cheapest(_field(plan, question, curves, floor), question, half_width, curves)


def _field(
    plan: Plan, question: Question, curves: Mapping[str, AssumedCurve], floor: NoiseFloor, sizes: Sequence[int] = ()
) -> Field:
    runs = plan.pooled_with(*question.recipes)
    known = {run.num_tokens for run in runs if run.recipe in question.recipes}
    return field_of(question, runs, (*sizes, *known), curves, floor)


def _cheapest(
    field: Field, question: Question, half_width: float, curves: Mapping[str, AssumedCurve]
) -> tuple[PlannedRun, ...]:
    return cheapest(field, in_log_loss(question, half_width, curves) * (1 + 1e-9)) or ()


def questions_of(plan: Plan) -> tuple[Question, ...]:
    """What a plan may be asked: gap and multiplier of each recipe over the first that is like it; losses beyond."""
    found: list[Question] = []
    for i, recipe in enumerate(plan.recipes):
        others = [other for other in plan.recipes[:i] if why_not_comparable(recipe, other, plan.target) is None]
        if others and (sizes := plan.sizes_of(recipe.label, others[0].label)):
            kinds: tuple[Kind, ...] = ("gap", "multiplier")
            found += [Question(kind, recipe.label, others[0].label, sizes[-1]) for kind in kinds]
    for recipe in plan.recipes:
        if sizes := plan.sizes_of(recipe.label):
            found.append(Question("loss", recipe.label, None, FAR * sizes[-1]))
    return tuple(found)


def question_about(plan: Plan, kind: Kind, a: str | None, b: str | None, num_tokens: int | None) -> Question:
    """A question by the labels of its recipes; what is not said is as in `questions_of`."""
    labels = [recipe.label for recipe in plan.recipes]
    for option, label in (("--a", a), ("--b", b)):
        if label is not None and label not in labels:
            raise AnalysisError(f"{option}: no recipe {label!r}; there are {', '.join(map(repr, labels))}")
    usual = next((q for q in questions_of(plan) if q.kind == kind and a in (None, q.recipe)), None)
    if kind == "loss":
        recipe = a or (usual.recipe if usual else labels[0])
        return Question(kind, recipe, None, num_tokens or FAR * plan.sizes_of(recipe)[-1])
    first = a or (usual.recipe if usual else None)
    second = b or (usual.reference if usual else next((label for label in labels if label != first), None))
    if first is None or second is None or first == second:
        raise AnalysisError(f"a {kind} is between two recipes, and the plan has {', '.join(map(repr, labels))}")
    sizes = plan.sizes_of(first, second)
    if not sizes:
        raise AnalysisError(f"{first!r} and {second!r} have no size in common")
    at = num_tokens or sizes[-1]
    return Question(kind, first, second, min(sizes, key=lambda size: abs(size - at)) if at <= sizes[-1] * 1.01 else at)


def _check(
    plan: Plan, question: Question, half_width: float | None, max_flops: float | None, sizes: Sequence[int]
) -> None:
    by_label = {recipe.label: recipe for recipe in plan.recipes}
    if question.reference is not None:
        pair = by_label[question.recipe], by_label[question.reference]
        if why := why_not_comparable(*pair, plan.target):
            raise AnalysisError(f"{question.recipe!r} and {question.reference!r} may not be compared: {why}")
    if half_width is not None and max_flops is not None:
        raise AnalysisError("give a half-width to reach or a budget of FLOPs, not both")
    least = 1.0 if question.kind == "multiplier" else 0.0
    if half_width is not None and not (math.isfinite(half_width) and half_width > least):
        raise AnalysisError(f"half-width of a {question.kind} must be above {least:g}, got {half_width:g}")
    if max_flops is not None and not (math.isfinite(max_flops) and max_flops > 0):
        raise AnalysisError(f"budget must be FLOPs above 0, got {max_flops:g}")
    batch = max(run.schedule.batch_tokens for run in plan.runs if run.recipe in question.recipes)
    if sizes and min(sizes) < batch:
        raise AnalysisError(f"sizes must be of a batch ({batch:,} tokens) at least, got {min(sizes):,}")


def _why_none(
    question: Question, before: Forecast, half_width: float | None, curves: Mapping[str, AssumedCurve]
) -> str:
    if half_width is not None and before.half_width <= half_width:
        return say("The runs that are done reach this width: none need be added.")
    if half_width is None:
        return say("No set of runs within this budget narrows the interval: repeated seeds cost more.")
    return say(
        "No set of these sizes with 12 further seeds brings the {question} within {width}: ask for less, or at a "
        "smaller size.",
        question=question.text,
        width=width_text(question, half_width),
    )


# ---- for people ----------------------------------------------------------------------------------


def width_text(question: Question, half_width: float) -> str:
    """A half-width in the units of its question."""
    if not math.isfinite(half_width):
        return say("no interval")
    if question.kind == "multiplier":
        return say("a factor of {factor}", factor=f"{half_width:.4g}")
    return say("± {half} nats per token", half=number_text(half_width, 2))


def sentences(found: Design) -> tuple[str, ...]:
    """What was assumed, what the plan can see, and what to run."""
    lines = [
        say("Noise floor. {floor}", floor=found.floor.sentence),
        say("Curves: {source}.", source="; ".join(sorted({curve.source for curve in found.curves.values()}))),
    ]
    first = found.forecasts[0]
    if not first.is_known:
        lines.append(
            say(
                "The plan gives no interval for the {question}: at the sizes that it rests on, seeds are not repeated "
                "often enough (two degrees of freedom are needed), or a curve has fewer than 4 sizes.",
                question=first.question.text,
            )
        )
    else:
        lines.append(
            say(
                "The plan ({flops} FLOPs to go) gives the {question} within {width}; the smallest effect that it sees "
                "in 80 % of cases is {least}.",
                flops=flops_text(found.flops),
                question=first.question.text,
                width=width_text(first.question, first.half_width),
                least=_effect_text(first.question, first.detectable),
            )
        )
    return (*lines, proposal_sentence(found))


def proposal_sentence(found: Design) -> str:
    """What to run next, and what it buys."""
    if found.proposal is None:
        return found.why or ""
    proposal = found.proposal
    values = {
        "question": found.question.text, "count": len(proposal.runs), "flops": flops_text(proposal.flops),
        "before": width_text(found.question, proposal.before.half_width),
        "after": width_text(found.question, proposal.after.half_width),
    }  # fmt: skip
    if len(proposal.runs) == 1:
        text = say("Best for the {question}: one run for {flops} FLOPs, which brings it from {before} to {after}.",
                   **values)  # fmt: skip
    else:
        text = say("Best for the {question}: {count} runs for {flops} FLOPs, which bring it from {before} to {after}.",
                   **values)  # fmt: skip
    if proposal.even_flops:
        share = percent_text(proposal.flops / proposal.even_flops)
        text += " " + say("That is {share} of what the planned runs of these recipes cost.", share=share)
    return text


def _effect_text(question: Question, effect: float) -> str:
    if question.kind == "multiplier":
        return say("a factor of {factor}", factor=f"{effect:.4g}")
    return say("{effect} nats per token", effect=number_text(effect, 2))


def forecast_table(found: Design) -> Table:
    """A row per question."""
    columns = (say("question"), say("95 % interval"), say("smallest effect seen"), say("degrees of freedom"))
    rows = []
    for one in found.forecasts:
        least = _effect_text(one.question, one.detectable) if math.isfinite(one.detectable) else None
        rows.append((one.question.text, width_text(one.question, one.half_width), least, _whole(one.degrees)))
    return Table("forecasts", columns, tuple(rows))


def _whole(degrees: float) -> int | None:
    return round(degrees) if math.isfinite(degrees) else None


def power_table(found: Design) -> Table | None:
    """The chance to see effects of several sizes, for the questions that compare recipes."""
    rows = [
        (one.question.text, _true_text(one.question, effect), Probability(round(power, 3)))
        for one in found.forecasts
        for effect, power in one.powers.items()
    ]
    return Table("power", (say("question"), say("true effect"), say("power")), tuple(rows)) if rows else None


def _true_text(question: Question, effect: float) -> str:
    return f"{effect:g}x" if question.kind == "multiplier" else percent_text(effect, 2)


def run_table(proposal: Proposal) -> Table:
    """The runs to add: a row per recipe and size."""
    counts = Counter((run.recipe, run.num_tokens) for run in proposal.runs)
    seeds = {key: sorted({run.seeds for run in proposal.runs if (run.recipe, run.num_tokens) == key}) for key in counts}
    columns = (say("recipe"), say("D [tokens]"), say("runs"), say("seeds"))
    rows = [
        (recipe, size, count, "; ".join(_seed_text(seed) for seed in seeds[recipe, size]))
        for (recipe, size), count in sorted(counts.items())
    ]
    return Table("next_runs", columns, tuple(rows))


def _seed_text(seeds: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in seeds)


def note() -> str:
    """How the widths and effects are meant."""
    return say(
        "Widths are those to expect of 95 % intervals if the noise is as measured and the same at all sizes; an effect "
        "counts as seen if 80 % of studies see it."
    )


def facts(found: Design) -> dict[str, Any]:
    """For scripts: plain values; inf where there is no interval."""

    def of(one: Forecast) -> dict[str, Any]:
        q = one.question
        return {
            "kind": q.kind,
            "a": q.recipe,
            "b": q.reference,
            "tokens": q.num_tokens,
            "half_width": one.half_width,
            "detectable": one.detectable,
            "degrees": float(one.degrees),
            "power": {f"{effect:g}": power for effect, power in one.powers.items()},
        }

    proposal = found.proposal
    return {
        "noise_floor": {
            "sd": found.floor.sd,
            "trunk_share": found.floor.trunk_share,
            "degrees": found.floor.degrees,
        },
        "flops": found.flops,
        "forecasts": [of(one) for one in found.forecasts],
        "next_runs": None
        if proposal is None
        else {
            "flops": proposal.flops,
            "planned_flops": proposal.even_flops,
            "before": of(proposal.before),
            "after": of(proposal.after),
            "runs": [
                {"recipe": run.recipe, "tokens": run.num_tokens, "seeds": dict(run.seeds)} for run in proposal.runs
            ],
        },
        "why_no_runs": found.why,
    }
