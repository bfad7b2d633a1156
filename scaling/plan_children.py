"""What the fine-tunings and compressions of a sweep would do and cost, as a table; nothing is trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from scaling.child import ChildSpec, CompressSpec, FinetuneSpec, job_type, student_of, task_of
from scaling.compression import NUM_ROUNDS, PASS_SIZES, Distillation
from scaling.gates import TaskRows
from scaling.identity import directory_name, fingerprint
from scaling.method import Full, HeadOnly, TopLayers
from scaling.plan import flops_per_second
from scaling.status import KINDS, SETTLED, STYLES, Status, duration, short

TIMED_ROWS = 2 * 2 * NUM_ROUNDS * sum(PASS_SIZES)
"""Rows that a compression answers, each twice, to tell what its two models cost."""


@dataclass(frozen=True, slots=True)
class Cost:
    """num_rows: trained on, over all epochs. num_tokens: of them. flops: to train, and to measure."""

    num_rows: int
    num_tokens: float
    flops: float


def cost_of(spec: ChildSpec, rows: TaskRows) -> Cost:
    """What a child does with the rows of its task. Of compressions only distillation trains: its teacher answers each
    row once. A compression measures two models."""
    tuned = spec if isinstance(spec, FinetuneSpec) else spec.parent
    at_most = spec.measuring.max_rows
    validation, test = (num if at_most is None else min(num, at_most) for num in (rows.validation, rows.test))
    forward = _forward(tuned, rows)
    if isinstance(spec, FinetuneSpec):
        num_trained = _num_trained(spec, rows)
        to_train = num_trained * forward * (1 + 2 * learned_share(spec))
        # each evaluation of validation, and once more by the weights that are kept, with test
        to_measure = forward * (validation * (spec.measuring.num_evaluations + 1) + test)
        return Cost(num_trained, num_trained * rows.mean_tokens, to_train + to_measure)
    to_measure = forward * (2 * (validation + test) + TIMED_ROWS)
    if not isinstance(spec.compress, Distillation):
        return Cost(0, 0, to_measure)
    student = student_of(spec.parent, spec.compress)
    num_trained = _num_trained(student, rows)
    to_train = num_trained * (3 * _forward(student, rows) + forward)
    return Cost(num_trained, num_trained * rows.mean_tokens, to_train + to_measure)


def learned_share(spec: FinetuneSpec) -> float:
    """How much of a backward pass a method needs: that is twice the FLOPs of the forward pass where all weights learn.

    Frozen layers at the bottom need none. Where all but small parts in between are frozen, the gradient goes through
    all layers, but not to their weights: half.
    """
    adaptation = spec.method.adaptation
    if isinstance(adaptation, Full):
        return 1.0
    if isinstance(adaptation, HeadOnly):
        return 0.0
    if isinstance(adaptation, TopLayers):
        return adaptation.num_layers / spec.parent.anatomy.num_layers
    return 0.5


def children_table(
    rows: Sequence[tuple[ChildSpec, Status]], counted: Sequence[TaskRows], pretraining_pace: float | None = None
) -> Table:
    """One line per fine-tuning or compression: its task, what it starts from, how it is made, its cost; and totals.

    counted: the rows of each. pretraining_pace: FLOP/s of runs of pretraining that are complete, if there are any.
    """
    table = Table(box=None, header_style="bold", caption_justify="left")
    table.add_column("run", overflow="fold", min_width=24)
    table.add_column("state", no_wrap=True)
    for name in ("task", "labels", "rows", "tokens/row", "FLOPs", "time", "method", "seed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from", overflow="fold", min_width=16)
    costs = [cost_of(spec, of_task) for (spec, _), of_task in zip(rows, counted, strict=True)]
    paces = _paces(rows, costs)
    seconds = [
        cost.flops / (paces.get(_sort(spec)) or pretraining_pace or flops_per_second(spec.placement))
        for (spec, _), cost in zip(rows, costs, strict=True)
    ]
    for (spec, status), of_task, cost, of_run in zip(rows, counted, costs, seconds, strict=True):
        tuned = spec.parent if isinstance(spec, CompressSpec) else spec
        is_pretrained = tuned.start == "pretrained"
        start = directory_name(tuned.parent) if is_pretrained else f"{tuned.parent.model.kind}, as it begins"
        table.add_row(
            directory_name(spec),
            f"[{STYLES.get(status.state, 'dim')}]{status.state}",
            tuned.task.name,
            "all" if tuned.num_examples is None else short(tuned.num_examples),
            short(cost.num_rows) if cost.num_rows else "",
            f"{'' if of_task.is_tokenized else '~'}{of_task.mean_tokens:.0f}",
            f"{cost.flops:.1e}",
            duration(of_run),
            spec.compress.kind if isinstance(spec, CompressSpec) else tuned.method.adaptation.kind,
            str(tuned.seed),
            start,
        )
    tunings = [spec if isinstance(spec, FinetuneSpec) else spec.parent for spec, _ in rows]
    pretrained = {fingerprint(tuned.parent) for tuned in tunings if tuned.start == "pretrained"}
    told = [f"Fine-tunings and compressions: {len(rows)}, from {len(pretrained)} pretrained models."]
    told += _totals(rows, costs, seconds)
    bases = {_basis(spec, paces, pretraining_pace) for spec, status in rows if status.state not in SETTLED}
    told += [f"Time: {'; '.join(sorted(bases))}."] if bases else []
    table.caption = "\n".join([*told, _unknown([spec for spec, _ in rows], counted)])
    return table


def _num_trained(spec: FinetuneSpec, rows: TaskRows) -> int:
    return spec.num_steps(rows.train) * spec.batch.num_sequences


def _forward(spec: FinetuneSpec, rows: TaskRows) -> float:
    """FLOPs to answer a row."""
    return rows.mean_tokens * spec.forward_flops_per_token(round(rows.mean_tokens))


def _sort(spec: ChildSpec) -> str:
    """Runs of one sort spend their time alike."""
    return spec.compress.kind if isinstance(spec, CompressSpec) else "finetune"


def _paces(rows: Sequence[tuple[ChildSpec, Status]], costs: Sequence[Cost]) -> dict[str, float]:
    """FLOP/s of runs that are complete, start and end included, by sort."""
    found: dict[str, list[float]] = defaultdict(list)
    for (spec, status), cost in zip(rows, costs, strict=True):
        if status.state == "complete" and status.seconds > 0:
            found[_sort(spec)].append(cost.flops / status.seconds)
    return {sort: median(paces) for sort, paces in found.items()}


def _basis(spec: ChildSpec, paces: dict[str, float], pretraining_pace: float | None) -> str:
    if _sort(spec) in paces:
        return "timed on runs that are complete"
    if pretraining_pace is not None:
        return "at the pace of the pretraining that is complete, without starts and ends, some seconds each"
    return "a rough guess until a run has been timed, without starts and ends, some seconds each"


def _totals(rows: Sequence[tuple[ChildSpec, Status]], costs: Sequence[Cost], seconds: Sequence[float]) -> list[str]:
    """What is left to do, in a line for each kind of run."""
    told = []
    for kind in ("finetune", "compress"):
        of_kind = [
            (spec, status, cost, of_run)
            for (spec, status), cost, of_run in zip(rows, costs, seconds, strict=True)
            if job_type(spec) == kind
        ]
        if not of_kind:
            continue
        left = [(spec, cost, of_run) for spec, status, cost, of_run in of_kind if status.state not in SETTLED]
        told.append(f"{KINDS[kind].capitalize()}: {len(left)} of {len(of_kind)} runs left")
        if left:
            amounts = [short(sum(getattr(cost, name) for _, cost, _ in left)) for name in ("num_rows", "num_tokens")]
            at_once = min(max(spec.placement.runs_per_device for spec, _, _ in left), len(left))
            told[-1] += (
                f", {amounts[0]} rows, {amounts[1]} tokens to learn from, {sum(cost.flops for _, cost, _ in left):.1e}"
                f" FLOPs to learn and measure, about {duration(sum(of_run for *_, of_run in left) / at_once)}"
                f"{f', {at_once} at a time' if at_once > 1 else ''}."
            )
    return told


def _unknown(specs: Sequence[ChildSpec], counted: Sequence[TaskRows]) -> str:
    """What the estimate does not know."""
    kinds = {task_of(spec).kind for spec in specs}
    told = ["As if no run stopped early; padding is left out."]
    if not all(of_task.is_tokenized for of_task in counted):
        told.append("Tokens per row are from bytes, 4 each, until the tokenizer is prepared.")
    if "qa" in kinds:
        told.append("A context that is read in windows counts as one row of max_length.")
    if "generation" in kinds:
        told.append("What it takes to write texts, token by token, is not in it.")
    return " ".join(told)
