"""Next runs: what would narrow the answer most for half of what was spent."""

from __future__ import annotations

from dataclasses import replace

from analysis.contrasts.contrast import Contrast
from analysis.design import Design, design, facts, forecast_table, note, proposal_sentence, run_table, runs_for
from analysis.page.answer import Answer
from analysis.page.labels import flops_text, percent_text
from analysis.page.language import say
from analysis.planning.assumed import fitted_curves
from analysis.planning.noise_floor import study_floor
from analysis.planning.plan import Plan, plan_of
from analysis.planning.planned_run import flops_to_train
from analysis.planning.question import Question
from analysis.runs.logs import AnalysisError
from analysis.runs.points import Study
from analysis.sections.section import Section

MOST_SHOWN = 12
"""Questions that the page shows; the file has all."""


def section(study: Study, results: Answer) -> Section | None:
    """The runs that the contrast of the headline needs most, or the curve of the one recipe."""
    title = say("Next runs")
    floor = study_floor(study)
    if floor is None:
        text = say(
            "Repeat a seed of pretraining first: without the noise between them, no interval of the loss can be given "
            "and no run of pretraining be weighed. Two further seeds of each recipe at the largest size are the least "
            "that helps."
        )
        return Section("next_runs", title, (text,))
    try:
        plan = plan_of(study)
        fits = {fit.recipe: fit for fit in results.fits if fit.domain == study.target}
        found = design(plan, floor, fitted_curves(plan, study, fits), question=_question(plan, results.main))
    except AnalysisError as error:  # a study that holds nothing to compare says so in its caveats
        return Section("next_runs", title, (say("No runs are proposed: {reason}.", reason=str(error)),))
    texts = [floor.sentence, proposal_sentence(found)]
    every = forecast_table(found)
    tables = [replace(every, rows=every.rows[:MOST_SHOWN])]
    files = (replace(every, name="forecasts_all"),) if len(every.rows) > MOST_SHOWN else ()
    if found.proposal:
        tables.append(run_table(found.proposal))
        texts.append(
            say(
                "To write them as a sweep, or to weigh other questions and budgets: python -m analysis design, with "
                "the folder of the runs and --out sweeps/next.yaml."
            )
        )
    return Section(
        "next_runs",
        title,
        tuple(texts),
        points=_needed(found),
        tables=tuple(tables),
        notes=(note(),),
        files=files,
        facts=facts(found),
    )


def _question(plan: Plan, main: Contrast | None) -> Question | None:
    """The gap of the headline's contrast, by the labels of the plan; None: the plan's own first question."""
    if main is None or main.refused is not None or main.tokens is None:
        return None
    names = {theirs: ours for ours, theirs in plan.label_in.items()}
    if main.a not in names or main.b not in names:
        return None
    return Question("gap", names[main.a], names[main.b], main.tokens)


def _needed(found: Design) -> tuple[str, ...]:
    """What it costs to see half the effect that can be seen now."""
    now = found.proposal.before if found.proposal else found.forecasts[0]
    if now.question.kind != "gap" or not now.is_known:
        return ()
    plan = found.plan
    runs = runs_for(now.question, now.half_width / 2, plan, found.floor, found.curves)
    if not runs:
        return ()
    flops, spent = flops_to_train([*plan.done, *runs]), flops_to_train([run.again() for run in plan.runs])
    return (
        say(
            "To halve that interval takes {count} runs for {flops} FLOPs, {share} of what the study has cost.",
            count=len(runs),
            flops=flops_text(flops),
            share=percent_text(flops / spent),
        ),
    )
