"""The answer of a study of tasks: what pretraining brings to which, against a baseline, and what most of it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from analysis.downstream.cells import Gap
from analysis.downstream.demand import MOST_GAIN, NEAR_BEST, Transferred
from analysis.downstream.downstream import Downstream
from analysis.downstream.tradeoff import Compressed
from analysis.downstream.verdicts import TaskVerdict, clear_from, leading, not_shown
from analysis.page.labels import count_text, percent_text
from analysis.page.language import listed, say
from analysis.page.table import Multiplier, Quantity, cell_text, estimate_text, number_text

MOST_COMPRESSIONS = 4
MOST_TASKS = 6
LATENCY = "latency_ms_batch1"


def headline(found: Downstream) -> str:
    """What pretraining brings to each task with its interval, what most of it takes, and what cannot be told."""
    first = leading(found.verdicts)
    if not any(v.cell.noise.is_known for v in first):
        said = [say("Measured: {scores}. Too few seeds are repeated to tell anything from chance: three of one setting"
                    " would do.", scores=listed(_bare_score(v) for v in first))]  # fmt: skip
        return listed([*said, *_costs_of_compression(found)], " ")
    said = [*_over_scratch(found, first), *_clear_from(found, first)]
    said = [*_in_labels(found), *said] if found.is_of_labels else [*said, *_in_labels(found)]
    said += [*_over_baseline(found, first), *_costs_of_compression(found)]
    said += _needs(found)
    if not said:
        scores = listed(say("{task} {score}", task=v.task, score=estimate_text(v.cell.estimate)) for v in first)
        said.append(say("Measured: {scores}.", scores=scores))
    return listed(said, " ")


def _over_scratch(found: Downstream, first: Sequence[TaskVerdict]) -> list[str]:
    told = {v: v.over_scratch for v in first if v.over_scratch}
    won, lost, open_ = (_by_verdict(found, told, verdict) for verdict in ("better", "worse", "cannot tell"))
    said = []
    if won:
        said.append(say("Pretraining beats training from scratch beyond the noise on {won} of {count} tasks: {gaps}.",
                        won=len(won), count=len(told), gaps=_some(won)))  # fmt: skip
    if lost:
        said.append(say("Pretraining is behind training from scratch: {gaps}.", gaps=_some(lost)))
    if open_:
        said.append(say("Cannot tell whether pretraining beats training from scratch: {gaps}.", gaps=_some(open_)))
    return said


def _clear_from(found: Downstream, first: Sequence[TaskVerdict]) -> list[str]:
    """The smallest corpus with a gain that chance does not explain, per task, the least demanding first."""
    told = []
    for v in first:
        clear = clear_from(found.sizes, v)
        if clear is not None and clear.tokens is not None:
            text = say("{task} {amount}", task=v.task, amount=count_text(clear.tokens))
            told.append((clear.tokens, text if clear.below else say("{text} (the smallest)", text=text)))
    told.sort(key=lambda item: item[0])
    if not told:
        return []
    return [say("Measured tokens from which on that gain is beyond the noise: {amounts}.",
                amounts=_some([text for _, text in told]))]  # fmt: skip


def _over_baseline(found: Downstream, first: Sequence[TaskVerdict]) -> list[str]:
    told = {v: v.over_baseline for v in first if v.over_baseline}
    won, lost, open_ = (_by_verdict(found, told, verdict) for verdict in ("better", "worse", "cannot tell"))
    said = []
    if won:
        said.append(say("The fine-tuned models beat the baseline on {won} of {count} tasks: {gaps}.",
                        won=len(won), count=len(told), gaps=_some(won)))  # fmt: skip
    if lost:
        said.append(say("The fine-tuned models are behind the baseline: {gaps}.", gaps=_some(lost)))
    if open_:
        said.append(say("Cannot tell whether the fine-tuned models beat the baseline: {gaps}.", gaps=_some(open_)))
    return said


def _by_verdict(found: Downstream, gaps: Mapping[TaskVerdict, Gap], verdict: str) -> list[str]:
    """The tasks of one verdict with what was gained or lost there, the most first; where labels are asked about, at how
    many."""
    own = sorted((item for item in gaps.items() if item[1].verdict == verdict), key=lambda item: -item[1].gap.value)
    said = []
    for v, gap in own:
        signed = ("+" if gap.gap.value > 0 else "") + estimate_text(gap.gap)
        text = say("{task} {metric} {gap}", task=v.task, metric=v.metric, gap=signed)
        if found.is_of_labels:
            text = say("{gap} with {labels} labels", gap=text, labels=f"{v.cell.setting.labels:,}")
        said.append(text)
    return said


def _some(parts: list[str]) -> str:
    """The first of some things, and how many more there are."""
    more = [say("{count} more", count=len(parts) - MOST_TASKS)] if len(parts) > MOST_TASKS else []
    return listed([*parts[:MOST_TASKS], *more])


def _in_labels(found: Downstream) -> list[str]:
    """Per task, how many times its labels the largest pretraining is worth, at the fewest with which that is clear."""
    largest: dict[tuple[str, str], int] = {}
    for t in found.transferred:
        largest[t.task, t.line] = max(t.tokens, largest.get((t.task, t.line), 0))
    own = [t for t in found.transferred if t.tokens == largest[t.task, t.line]]
    clear = fewest_labels(t for t in own if t.times.lo > 1)
    told = [
        say("{task} {times} times {labels} labels", task=t.task, labels=f"{t.labels:,}",
            times=cell_text(Multiplier(t.times.value, t.times.lo, t.times.hi)))
        for t in sorted(clear, key=lambda t: -t.times.value)
    ]  # fmt: skip
    said = [say("In labels, the largest pretraining is worth: {amounts}.", amounts=_some(told))] if told else []
    if open_ := sorted({t.task for t in own} - {t.task for t in clear}):
        said.append(say("Cannot tell whether pretraining replaces labels on {tasks}.", tasks=_some(open_)))
    return said


def fewest_labels(every: Iterable[Transferred]) -> list[Transferred]:
    """Per task and recipe the setting with the fewest labels, there the largest D; of a task the most worth first."""
    own: dict[tuple[str, str], Transferred] = {}
    for t in sorted(every, key=lambda t: (t.task, t.labels, -t.tokens)):
        own.setdefault((t.task, t.line), t)
    best: dict[str, Transferred] = {}
    for t in sorted(own.values(), key=lambda t: (t.task, -t.times.lo, -t.times.value)):
        best.setdefault(t.task, t)
    return list(best.values())


def _needs(found: Downstream) -> list[str]:
    """How much pretraining each task needs for most of what it brings, the most demanding first."""
    doubted = not_shown(found.verdicts)
    least: dict[str, tuple[str, Quantity]] = {}
    for d in found.demands:
        is_asked = d.level in (MOST_GAIN, NEAR_BEST) and d.tokens is not None and not math.isnan(d.value)
        if d.tokens is None or not is_asked or (d.task, d.line) in doubted:
            continue
        if d.task not in least or d.tokens.value < least[d.task][1].value:
            least[d.task] = d.level, Quantity(d.tokens.value, d.tokens.lo, d.tokens.hi, d.tokens.up_to)
    ordered = sorted(least.items(), key=lambda item: -item[1][1].value)
    told = {
        level: [
            say("{task} {amount}", task=task, amount=cell_text(amount))
            for task, (own, amount) in ordered if own == level and amount.is_told
        ]
        for level in (MOST_GAIN, NEAR_BEST)
    }  # fmt: skip
    said = []
    if amounts := told[MOST_GAIN]:
        said.append(say("Tokens of pretraining for 90 % of what it brings: {amounts}.", amounts=_some(amounts)))
    if amounts := told[NEAR_BEST]:
        said.append(say("Tokens of pretraining to come within 5 % of the best result: {amounts}.",
                        amounts=_some(amounts)))  # fmt: skip
    if len(least) > len(told[MOST_GAIN]) + len(told[NEAR_BEST]):
        open_ = [task for task, (_, amount) in least.items() if not amount.is_told]
        said.append(
            say(
                "How much pretraining it takes to come near the best result cannot be told on {tasks}.",
                tasks=_some(open_),
            )
        )
    return said


def _costs_of_compression(found: Downstream) -> list[str]:
    """Per compression what it keeps and saves, of the largest pretraining with the most labels, where it costs most."""
    by_name: dict[str, list[Compressed]] = {}
    for c in found.compressions:
        by_name.setdefault(c.cell.setting.compress, []).append(c)
    said = []
    shown = list(by_name)[: MOST_COMPRESSIONS if len(by_name) > MOST_COMPRESSIONS + 1 else None]
    for name in shown:
        own = by_name[name]
        sizes = {(c.cell.setting.task): (0, 0) for c in own}
        for c in own:
            sizes[c.cell.setting.task] = max(sizes[c.cell.setting.task], (c.cell.setting.labels, c.cell.setting.tokens))
        largest = [c for c in own if (c.cell.setting.labels, c.cell.setting.tokens) == sizes[c.cell.setting.task]]
        said.append(_cost_of(name, min(largest, key=lambda c: c.kept), len(sizes)))
    if len(by_name) > len(shown):
        said.append(say("{count} more compressions are in the table.", count=len(by_name) - len(shown)))
    return said


def _cost_of(name: str, c: Compressed, num_tasks: int) -> str:
    share = c.share_kept
    times = [(cost, c.ratio(at)) for cost, at in ((say("the bytes"), "bytes"), (say("the latency"), LATENCY))]
    left = [_share_of(cost, x) for cost, x in times if x is not None]
    told = {"name": name, "metric": c.cell.runs[0].metric, "task": c.cell.setting.task}
    if c.cell.noise.is_known and math.isfinite(share.lo) and math.isfinite(share.hi):
        value, lo, hi = (f"{100 * end:.1f}" for end in (share.value, share.lo, share.hi))
        text = say("Compressed ({name}), the model keeps {value} % ({lo} to {hi}) of its {metric} on {task}",
                   value=value, lo=lo, hi=hi, **told)  # fmt: skip
    else:
        text = say("Compressed ({name}), the model keeps {value} % of its {metric} on {task} (no interval: too "
                   "few seeds are repeated)", value=number_text(100 * share.value, 3), **told)  # fmt: skip
    if num_tasks > 1:
        text = say("{sentence}, the least of {count} tasks", sentence=text, count=num_tasks)
    return say("{sentence}, with {costs}.", sentence=text, costs=listed(left)) if left else say(
        "{sentence}.", sentence=text
    )  # fmt: skip


def _share_of(cost: str, share: float) -> str:
    if share < 2:
        return say("{share} of {cost}", share=percent_text(share), cost=cost)
    return say("{times} times {cost}", times=number_text(share, 3), cost=cost)


def _bare_score(v: TaskVerdict) -> str:
    """A score beside those that it is compared with, without an interval."""
    beside = [say("from scratch {score}", score=number_text(v.scratch.mean, 3))] if v.scratch else []
    if v.baseline:
        beside.append(say("baseline {score}", score=number_text(v.baseline.level.value, 3)))
    text = say("{task} {score}", task=v.task, score=f"{v.metric} {number_text(v.cell.mean, 3)}")
    return listed([text, say(" ({names})", names=listed(beside)) if beside else ""], "")
