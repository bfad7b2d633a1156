"""The tasks of a study in sentences."""

from __future__ import annotations

import math

from analysis.contrasts.verdict import chance
from analysis.downstream.cells import Cell, Gap, is_pretraining_repeated
from analysis.downstream.downstream import Downstream
from analysis.downstream.headline import fewest_labels
from analysis.downstream.tables import quantity, times_of
from analysis.downstream.task_study import start_text
from analysis.downstream.verdicts import ClearFrom, TaskVerdict, clear_from, leading
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text
from analysis.page.language import listed, say
from analysis.page.table import cell_text, estimate_text, number_text


def scratch_sentences(found: Downstream) -> list[str]:
    """Per task, on its best recipe: what pretraining brings over its absence and over the baseline."""
    has_one_recipe = len(found.study.starts("pretrained")) == 1
    return [_sentence(v, has_one_recipe, clear_from(found.sizes, v)) for v in leading(found.verdicts)]


def _sentence(v: TaskVerdict, has_one_recipe: bool, clear: ClearFrom | None) -> str:
    s = v.cell.setting
    if s.start != "pretrained":
        began = start_text(s.line)
    elif has_one_recipe:
        began = say("pretrained on {tokens} tokens", tokens=count_text(s.tokens))
    else:
        began = say("pretrained on {tokens} tokens ({recipe})", tokens=count_text(s.tokens), recipe=s.line)
    text = say(
        "{task}: {began}, with {labels} labels, the model reaches {metric} {score}",
        task=v.task, began=began, labels=f"{s.labels:,}", metric=v.metric, score=estimate_text(v.cell.estimate),
    )  # fmt: skip
    more = []
    if v.over_scratch and v.scratch:
        more.append(_against(v.over_scratch, say("the same model from scratch"), v.cell))
    if clear and clear.tokens and clear.below:
        more.append(say("that gain is beyond the noise from {tokens} tokens on, not at {below}",
                        tokens=count_text(clear.tokens), below=count_text(clear.below)))  # fmt: skip
    elif clear and clear.tokens:
        more.append(say("that gain is beyond the noise at every size measured, from {tokens} tokens on",
                        tokens=count_text(clear.tokens)))  # fmt: skip
    if v.over_checkpoint and v.checkpoint:
        more.append(_against(v.over_checkpoint, say("the checkpoint as it was"), v.cell))
    if v.over_baseline and v.baseline:
        more.append(_against(v.over_baseline, say("the baseline {name}", name=v.baseline.name), v.cell))
    if v.scratch_over_baseline and v.baseline and v.scratch and not v.scratch.noise.is_known:
        if (gap := v.scratch_over_baseline.gap.value) < 0:
            more.append(say("from scratch it is behind that baseline by {gap}", gap=number_text(-gap, 2)))
    elif v.scratch_over_baseline and v.baseline and v.scratch_over_baseline.verdict == "worse":
        more.append(say("from scratch it is behind that baseline by {gap}", gap=_behind(v.scratch_over_baseline)))
    elif v.scratch_over_baseline and v.baseline and v.scratch_over_baseline.verdict != "better":
        more.append(say("from scratch, cannot tell whether it beats that baseline"))
    return say("{sentence}; {more}.", sentence=text, more=listed(more, "; ")) if more else say(
        "{sentence}.", sentence=text
    )  # fmt: skip


def _against(gap: Gap, other: str, cell: Cell) -> str:
    if not cell.noise.is_known:
        told = {"other": other, "gap": number_text(abs(gap.gap.value), 2)}
        if gap.gap.value < 0:
            return say("{other} is ahead of it by {gap} (how much of that is chance is unknown without repeated seeds)",
                       **told)  # fmt: skip
        return say("it is ahead of {other} by {gap} (how much of that is chance is unknown without repeated seeds)",
                   **told)  # fmt: skip
    told = {"other": other, "gap": estimate_text(gap.gap)}
    if gap.verdict == "better":
        return say("it beats {other} by {gap}", **told)
    if gap.verdict == "worse":
        return say("it does not beat {other}: it is behind by {gap}", other=other, gap=_behind(gap))
    return say("cannot tell whether it beats {other}: {gap}", **told)


def _behind(gap: Gap) -> str:
    behind = type(gap.gap)(-gap.gap.value, -gap.gap.hi, -gap.gap.lo)
    return estimate_text(behind)


def best_sentences(found: Downstream) -> list[str]:
    """Per task with several recipes, which is best, or that it cannot be told."""
    said = []
    for b in found.best:
        first = b.candidates[0]
        told = {"task": b.task, "tokens": count_text(b.tokens), "labels": f"{b.labels:,}", "recipe": first.line}
        if math.isnan(first.probability):
            said.append(say("Cannot tell which recipe is best for {task}: no seeds are repeated; {recipe} has the "
                            "highest mean at {tokens} tokens and {labels} labels.", **told))  # fmt: skip
        elif b.best:
            said.append(say("{recipe} is best for {task} at {tokens} tokens and {labels} labels, with probability "
                            "{chance}.", chance=chance(first.probability), **told))  # fmt: skip
        else:
            said.append(say("Cannot tell which recipe is best for {task} at {tokens} tokens and {labels} labels: "
                            "{recipe} has the highest mean, and is best with probability {chance}.",
                            chance=chance(first.probability), **told))  # fmt: skip
    return said


def transfer_sentences(found: Downstream) -> list[str]:
    """Per task, of its fewest labels after the largest pretraining: how many labels from scratch they stand for."""
    said = []
    for t in fewest_labels(found.transferred):
        needed, times = cell_text(quantity(t.needed)), cell_text(times_of(t.times, t.needed))
        told = {"task": t.task, "labels": f"{t.labels:,}", "tokens": count_text(t.tokens), "times": times}
        if t.times.lo > 1 and math.isinf(t.needed.value):
            said.append(say("{task}: after {tokens} tokens of pretraining, {labels} labels do what from scratch takes "
                            "more than {needed} labels, {times} times as many.", needed=count_text(t.needed.lo), **told)
                        )  # fmt: skip
        elif t.times.lo > 1:
            said.append(say("{task}: after {tokens} tokens of pretraining, {labels} labels do what from scratch takes "
                            "{needed} labels, {times} times as many.", needed=needed, **told))  # fmt: skip
        elif t.times.hi < 1:
            said.append(say("{task}: after {tokens} tokens of pretraining, {labels} labels do what from scratch takes "
                            "fewer ({times} times as many): pretraining does harm.", **told))  # fmt: skip
        else:
            said.append(say("{task}: with {labels} labels, cannot tell whether {tokens} tokens of pretraining are "
                            "worth any (times as many labels from scratch: {times}).", **told))  # fmt: skip
    return said


def upstream_sentences(found: Downstream) -> list[str]:
    """Per task, the domain whose loss tells the metric best."""
    said = []
    for task in found.study.tasks:
        own = [u for u in found.upstream if u.task == task]
        if not own:
            continue
        best = own[0]
        told = {"task": task, "domain": best.domain, "count": len(own), "error": number_text(best.error, 2),
                "flat": number_text(best.flat_error, 2), "noise": number_text(best.noise, 2)}  # fmt: skip
        if math.isnan(best.error):
            said.append(say("{task}: too few sizes to hold one out.", task=task))
        elif math.isinf(best.noise):
            said.append(say("{task}: cannot tell whether a loss tells the metric: no seeds are repeated.", task=task))
        elif best.tells is None:
            said.append(say("{task}: cannot tell whether a loss tells the metric: of {count} losses, the best "
                            "({domain}) is off by {error} on the held-out pretraining, the mean of the others by "
                            "{flat}, and seeds alone may make {noise}.", **told))  # fmt: skip
        elif best.tells:
            said.append(say("{task}: of {count} losses, that on {domain} tells the metric of the held-out pretraining "
                            "best: it is off by {error}, the mean of the others by {flat}, and seeds alone may make "
                            "{noise}.", **told))  # fmt: skip
        else:
            said.append(say("{task}: no validation loss tells the metric of the held-out pretraining better than the "
                            "mean of the others does ({domain}: {error}, mean: {flat}).", **told))  # fmt: skip
    if said and len({line for u in found.upstream for line in u.lines}) == 1 and len(found.upstream) > len(said):
        said.append(say("One recipe was pretrained, so the losses of all domains fall together: which of them tells a "
                        "metric best is hardly more than chance."))  # fmt: skip
    return said


def caveats(found: Downstream) -> list[str]:
    """What a reader must know of the tasks' numbers."""
    study = found.study
    said = list(study.warnings)
    thin = {c.setting.task for c in found.cells.cells if not c.noise.is_known}
    if thin:
        said.append(
            say("On {tasks} too few seeds of fine-tuning are repeated to know what chance does: nothing is decided.",
                tasks=listed(sorted(thin)))
        )  # fmt: skip
    if any(run.start == "pretrained" for run in study.runs) and not is_pretraining_repeated(study.runs):
        said.append(
            say("Every recipe was pretrained with one seed: the intervals of the tasks hold for these very "
                "pretrainings, and another seed of pretraining may move them.")
        )  # fmt: skip
    small = sorted({run.task for run in study.runs if run.num_items is not None and run.num_items < 200})
    if small:
        said.append(
            say("The test sets of {tasks} have fewer than 200 rows: chance in them outweighs most differences.",
                tasks=listed(small))
        )  # fmt: skip
    without = {c.setting.task for c in found.cells.cells if not any(_has_ends(run.score) for run in c.runs)}
    if untold := sorted(without - thin):
        said.append(
            say("On {tasks} the logs hold no interval over test rows: only seeds are in the intervals.",
                tasks=listed(untold))
        )  # fmt: skip
    if study.failed:
        said.append(
            say("{count} fine-tunings or compressions are not complete and left out: {runs}.",
                count=len(study.failed), runs=_some([run.name for run in study.failed]))
        )  # fmt: skip
    return said


def _has_ends(score: Estimate) -> bool:
    return math.isfinite(score.lo) and math.isfinite(score.hi)


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
