"""What the fine-tunings and compressions of a sweep would do and cost, as a table; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from scaling.child import ChildSpec, CompressSpec, FinetuneSpec, job_type, parent_of, student_of
from scaling.compression import Distillation
from scaling.identity import directory_name, fingerprint
from scaling.status import KINDS, SETTLED, STYLES, Status, short

ROUGH = (
    "At most: as if all rows were as long as max_length and all weights learned; but a question whose context is read"
    " in windows is a row for each."
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Rows trained on, over all epochs; tokens of them, and FLOPs, at most."""

    num_rows: int
    num_tokens: int
    flops: float


def cost_of(spec: ChildSpec, num_rows: int) -> Cost:
    """What a child trains on, with so many training rows of its task. Only distillation trains among compressions: its
    teacher answers each row once, a third of what it costs to learn it."""
    if isinstance(spec, FinetuneSpec):
        trained, flops_per_token = spec, spec.flops_per_token
    elif isinstance(spec.compress, Distillation):
        trained = student_of(spec.parent, spec.compress)
        flops_per_token = trained.flops_per_token + spec.parent.flops_per_token / 3
    else:
        return Cost(0, 0, 0.0)
    num_trained = trained.num_steps(num_rows) * trained.batch.num_sequences
    num_tokens = num_trained * trained.max_length
    return Cost(num_trained, num_tokens, flops_per_token * num_tokens)


def children_table(rows: list[tuple[ChildSpec, Status]], num_rows: list[int]) -> Table:
    """One line per fine-tuning or compression: its task, what it starts from, its method, its cost; and totals.

    num_rows: the training rows of each.
    """
    table = Table(box=None, header_style="bold", caption_justify="left")
    table.add_column("run", overflow="fold", min_width=24)
    table.add_column("state", no_wrap=True)
    for name in ("task", "labels", "rows", "FLOPs", "method", "seed", "compression"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from", overflow="fold", min_width=16)
    costs = [cost_of(spec, count) for (spec, _), count in zip(rows, num_rows, strict=True)]
    for (spec, status), cost in zip(rows, costs, strict=True):
        tuned = spec.parent if isinstance(spec, CompressSpec) else spec
        is_pretrained = tuned.start == "pretrained"
        start = directory_name(tuned.parent) if is_pretrained else f"{tuned.parent.model.kind}, as it begins"
        table.add_row(
            directory_name(spec),
            f"[{STYLES.get(status.state, 'dim')}]{status.state}",
            tuned.task.name,
            "all" if tuned.num_examples is None else short(tuned.num_examples),
            short(cost.num_rows) if cost.num_rows else "",
            f"{cost.flops:.1e}" if cost.flops else "",
            tuned.method.adaptation.kind,
            str(tuned.seed),
            spec.compress.kind if isinstance(spec, CompressSpec) else "",
            start,
        )
    parents = {fingerprint(spec.parent) for spec, _ in rows if parent_of(spec) is not None}
    counted = f"Runs that go on from others: {len(rows)}, from {len(parents)} pretrained models."
    table.caption = "\n".join([counted, *_totals(rows, costs), ROUGH])
    return table


def _totals(rows: list[tuple[ChildSpec, Status]], costs: list[Cost]) -> list[str]:
    """What is left to do, in a line for each kind of run."""
    told = []
    for kind in ("finetune", "compress"):
        of_kind = [(status, cost) for (spec, status), cost in zip(rows, costs, strict=True) if job_type(spec) == kind]
        left = [cost for status, cost in of_kind if status.state not in SETTLED]
        amounts = [short(sum(getattr(cost, name) for cost in left)) for name in ("num_rows", "num_tokens")]
        if of_kind:
            told.append(f"{KINDS[kind].capitalize()}: {len(left)} of {len(of_kind)} runs left")
        if flops := sum(cost.flops for cost in left):
            told[-1] += f", {amounts[0]} rows, {amounts[1]} tokens and {flops:.1e} FLOPs at most."
    return told
