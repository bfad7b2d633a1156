"""The tasks of a study in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from analysis.contrasts.verdict import chance
from analysis.downstream.cells import MIN_DEGREES, Cell, Gap, is_pretraining_repeated
from analysis.downstream.demand import FROM_SCRATCH, NEAR_BEST, Demand
from analysis.downstream.downstream import Downstream
from analysis.downstream.task_study import start_text
from analysis.downstream.tradeoff import Compressed
from analysis.downstream.verdicts import TaskVerdict, leading, not_shown
from analysis.fitting.result import Estimate
from analysis.page.labels import count_text, percent_text
from analysis.page.language import listed, say
from analysis.page.table import estimate_text, number_text

MOST_COMPRESSIONS = 4
LATENCY = "latency_ms_batch1"


def headline(found: Downstream) -> str:
    """What pretraining does for the tasks, and which of them needs the most data, in one sentence or two."""
    said = []
    if not any(v.cell.noise.is_known for v in leading(found.verdicts)):
        said.append(say("Measured: {scores}. Without repeated seeds nothing can be told from chance.",
                        scores=listed(_bare_score(v) for v in leading(found.verdicts))))  # fmt: skip
        return listed([*said, *_costs_of_compression(found)], " ")
    over_scratch = {v.task: v.over_scratch for v in leading(found.verdicts) if v.over_scratch}
    over_baseline = {v.task: v.over_baseline for v in leading(found.verdicts) if v.over_baseline}
    if over_scratch:
        won, lost, open_ = _by_verdict(over_scratch)
        if won:
            said.append(
                say("Pretraining beats training from scratch beyond the noise on {won} of {count} tasks{names}.",
                    won=len(won), count=len(over_scratch), names=_in_brackets(won))
            )  # fmt: skip
        elif open_:
            said.append(say("Cannot tell whether pretraining beats training from scratch on {tasks}.",
                            tasks=listed(open_)))  # fmt: skip
        if lost:
            said.append(say("Training from scratch is better than pretraining on {tasks}.", tasks=listed(lost)))
    if over_baseline:
        won, lost, open_ = _by_verdict(over_baseline)
        if won:
            said.append(
                say("The pretrained model beats the baseline on {won} of {count}{names}.",
                    won=len(won), count=len(over_baseline), names=_in_brackets(won))
                if over_scratch
                else say("The fine-tuned models beat the baseline on {won} of {count} tasks{names}.",
                         won=len(won), count=len(over_baseline), names=_in_brackets(won))
            )  # fmt: skip
        elif open_:
            said.append(say("Cannot tell whether the model beats the baseline on {tasks}.", tasks=listed(open_)))
        if lost:
            said.append(say("The baseline is better on {tasks}.", tasks=listed(lost)))
    said += _costs_of_compression(found)
    if sentence := _needs(found):
        said.append(sentence)
    if not said:
        scores = listed(
            say("{task} {score}", task=v.task, score=estimate_text(v.cell.estimate)) for v in leading(found.verdicts)
        )
        said.append(say("Measured: {scores}.", scores=scores))
    return listed(said, " ")


def _by_verdict(gaps: Mapping[str, Gap]) -> tuple[list[str], list[str], list[str]]:
    """The tasks on which a model is better, worse, and those on which it cannot be told."""
    better, worse, open_ = (
        [task for task, gap in gaps.items() if gap.verdict == verdict] for verdict in ("better", "worse", "cannot tell")
    )
    return better, worse, open_


def _costs_of_compression(found: Downstream) -> list[str]:
    """Per compression what it keeps and saves, of the largest pretraining with the most labels, where it costs most."""
    by_name: dict[str, list[Compressed]] = {}
    for c in found.compressions:
        by_name.setdefault(c.cell.setting.compress, []).append(c)
    said = []
    for name, own in list(by_name.items())[:MOST_COMPRESSIONS]:
        sizes = {(c.cell.setting.task): (0, 0) for c in own}
        for c in own:
            sizes[c.cell.setting.task] = max(sizes[c.cell.setting.task], (c.cell.setting.labels, c.cell.setting.tokens))
        largest = [c for c in own if (c.cell.setting.labels, c.cell.setting.tokens) == sizes[c.cell.setting.task]]
        said.append(_cost_of(name, min(largest, key=lambda c: c.kept), len(sizes)))
    if len(by_name) > MOST_COMPRESSIONS:
        said.append(say("{count} more compressions are in the table.", count=len(by_name) - MOST_COMPRESSIONS))
    return said


def _cost_of(name: str, c: Compressed, num_tasks: int) -> str:
    share = c.share_kept
    times = [(cost, c.ratio(at)) for cost, at in ((say("the bytes"), "bytes"), (say("the latency"), LATENCY))]
    left = [say("{share} of {cost}", share=percent_text(x), cost=cost) for cost, x in times if x is not None]
    told = {"name": name, "metric": c.cell.runs[0].metric, "task": c.cell.setting.task}
    if math.isfinite(share.lo) and math.isfinite(share.hi):
        value, lo, hi = (f"{100 * end:.1f}" for end in (share.value, share.lo, share.hi))
        text = say("Compressed ({name}), the model keeps {value} % ({lo} to {hi}) of its {metric} on {task}",
                   value=value, lo=lo, hi=hi, **told)  # fmt: skip
    else:
        text = say("Compressed ({name}), the model keeps {value} % of its {metric} on {task} (no interval without "
                   "repeated seeds)", value=number_text(100 * share.value, 3), **told)  # fmt: skip
    if num_tasks > 1:
        text = say("{sentence}, the least of {count} tasks", sentence=text, count=num_tasks)
    return say("{sentence}, with {costs}.", sentence=text, costs=listed(left)) if left else say(
        "{sentence}.", sentence=text
    )  # fmt: skip


def _bare_score(v: TaskVerdict) -> str:
    """A score beside those that it is compared with, without an interval."""
    beside = [say("from scratch {score}", score=number_text(v.scratch.mean, 3))] if v.scratch else []
    if v.baseline:
        beside.append(say("baseline {score}", score=number_text(v.baseline.level.value, 3)))
    text = say("{task} {score}", task=v.task, score=f"{v.metric} {number_text(v.cell.mean, 3)}")
    return listed([text, _in_brackets(beside)], "")


def _in_brackets(names: list[str]) -> str:
    return say(" ({names})", names=listed(names)) if names else ""


def _needs(found: Downstream) -> str | None:
    """How much pretraining each task needs to come near its best, the most demanding first."""
    near: dict[str, Demand] = {}
    for demand in found.demands:
        if demand.level == NEAR_BEST and demand.tokens:
            known = near.get(demand.task)
            if known is None or demand.tokens.value < (known.tokens.value if known.tokens else math.inf):
                near[demand.task] = demand
    if not near:
        return None
    scratch = {d.task: d.value for d in found.demands if d.level == FROM_SCRATCH}
    without = [task for task, d in near.items() if scratch.get(task, -math.inf) >= d.value]
    doubted = not_shown(found.verdicts)
    unknown = [
        task for task, d in near.items()
        if task not in without and not (d.tokens and d.tokens.has_limits and (task, d.line) not in doubted)
    ]  # fmt: skip
    ordered = sorted(near.values(), key=lambda d: -(d.tokens.value if d.tokens else 0.0))
    amounts = listed(
        say("{task} {amount}", task=d.task, amount=_tokens(d)) for d in ordered if d.task not in (*without, *unknown)
    )  # fmt: skip
    said = []
    if amounts:
        said.append(say("Tokens of pretraining to come within 5 % of the best result: {amounts}.", amounts=amounts))
    if unknown:
        said.append(
            say("How much pretraining it takes to come within 5 % of the best result cannot be told on {tasks}.",
                tasks=listed(unknown))
        )  # fmt: skip
    if without:
        said.append(
            say("From scratch the model comes within 5 % of the best result on {tasks}.", tasks=listed(without))
        )
    return listed(said, " ")


def _tokens(demand: Demand) -> str:
    amount = demand.tokens
    assert amount is not None
    if amount.value == 0:
        return say("{tokens} or fewer", tokens=count_text(demand.tokens_measured[0]))
    if not math.isfinite(amount.value):
        return say("more than the {tokens} that were measured", tokens=count_text(demand.tokens_measured[1]))
    return count_text(amount.value)


def scratch_sentences(found: Downstream) -> list[str]:
    """Per task, on its best recipe: what pretraining brings over its absence and over the baseline."""
    return [_sentence(verdict) for verdict in leading(found.verdicts)]


def _sentence(v: TaskVerdict) -> str:
    s = v.cell.setting
    began = (
        say("pretrained on {tokens} tokens ({recipe})", tokens=count_text(s.tokens), recipe=s.line)
        if s.start == "pretrained"
        else start_text(s.line)
    )
    text = say(
        "{task}: {began}, with {labels} labels, the model reaches {metric} {score}",
        task=v.task, began=began, labels=f"{s.labels:,}", metric=v.metric, score=estimate_text(v.cell.estimate),
    )  # fmt: skip
    more = []
    if v.over_scratch and v.scratch:
        more.append(_against(v.over_scratch, say("the same model from scratch"), v.cell))
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
        more.append(say("from scratch it does not beat that baseline"))
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
    return say("it does not beat {other} beyond the noise ({gap})", **told)


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


def upstream_sentences(found: Downstream) -> list[str]:
    """Per task, the domain whose loss tells the metric best."""
    said = []
    for task in found.study.tasks:
        own = [u for u in found.upstream if u.task == task]
        if not own:
            continue
        best = own[0]
        told = {"task": task, "domain": best.domain, "error": number_text(best.error, 2),
                "flat": number_text(best.flat_error, 2)}  # fmt: skip
        if math.isnan(best.error):
            said.append(say("{task}: too few sizes to hold one out.", task=task))
        elif best.error < best.flat_error:
            said.append(say("{task}: the loss on {domain} tells the metric of the held-out pretraining to within "
                            "{error} (the mean of the others: {flat}).", **told))  # fmt: skip
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
    thin = sorted({c.setting.task for c in found.cells.cells if c.noise.degrees < MIN_DEGREES})
    if thin:
        said.append(
            say("On {tasks} too few seeds of fine-tuning are repeated: no interval is known, and nothing is decided.",
                tasks=listed(thin))
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
    untold = sorted({c.setting.task for c in found.cells.cells if not any(_has_ends(run.score) for run in c.runs)})
    if untold:
        said.append(
            say("On {tasks} the logs hold no interval over test rows: only seeds are in the intervals.",
                tasks=listed(untold))
        )  # fmt: skip
    behind, open_, ahead = _against_baseline(found.verdicts)
    if behind:
        said.append(say("Behind a baseline that was pretrained on nothing: {names}.", names=listed(behind)))
    if open_:
        said.append(say("Not beyond the noise of a baseline that was pretrained on nothing: {names}.",
                        names=listed(open_)))  # fmt: skip
    if ahead:
        said.append(say("A baseline that was pretrained on nothing is ahead, by chance or not: {names}.",
                        names=listed(ahead)))  # fmt: skip
    if study.failed:
        said.append(
            say("{count} fine-tunings or compressions are not complete and left out: {runs}.",
                count=len(study.failed), runs=_some([run.name for run in study.failed]))
        )  # fmt: skip
    return said


def _has_ends(score: Estimate) -> bool:
    return math.isfinite(score.lo) and math.isfinite(score.hi)


def _against_baseline(verdicts: Iterable[TaskVerdict]) -> tuple[list[str], list[str], list[str]]:
    """Tasks, with the recipe where there are several: behind, not told apart, and behind by a gap of unknown noise."""
    verdicts = tuple(verdicts)
    is_one = len({v.cell.setting.line for v in verdicts}) == 1
    behind: list[str] = []
    open_: list[str] = []
    ahead: list[str] = []
    for v in verdicts:
        name = v.task if is_one else say("{recipe} on {task}", recipe=start_text(v.cell.setting.line), task=v.task)
        if v.over_baseline is None or v.over_baseline.verdict == "better":
            continue
        if not v.cell.noise.is_known:
            ahead += [name] if v.over_baseline.gap.value < 0 else []
        else:
            (behind if v.over_baseline.verdict == "worse" else open_).append(name)
    return behind, open_, ahead


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
