"""What a sweep would do and cost, as a table; nothing is trained."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from rich.table import Table

from scaling.child import AnySpec
from scaling.data.ledger import ledger
from scaling.data.prepare import is_prepared, open_stream, prepare
from scaling.files import write_json
from scaling.identity import apart_from_size, directory_name, fingerprint, trunk_identity, why_no_trunk
from scaling.memory import memory_of
from scaling.placement import Placement
from scaling.spec import RunSpec
from scaling.status import SETTLED, STYLES, Status, duration, short
from scaling.train.schedule import branch_step

FLOPS_PER_CORE = 2.0e10
"""What small models reach on one CPU core in fp32 (12 to 27 GFLOP/s seen), until a run of the study has been timed."""


def tokens_from_trunks(specs: list[RunSpec]) -> list[int]:
    """Per run, the tokens that it takes over from a smaller run of its trunk."""
    furthest: dict[str, int] = defaultdict(int)
    taken = dict.fromkeys(range(len(specs)), 0)
    for i in sorted(taken, key=lambda i: specs[i].num_steps):
        trunk = trunk_identity(specs[i])
        if trunk is not None:
            taken[i] = furthest[trunk] * specs[i].batch.num_tokens
            furthest[trunk] = branch_step(specs[i])
    return list(taken.values())


def whys_no_trunk(specs: list[RunSpec]) -> dict[str, int]:
    """Why runs share no stable phase with others of the study, and how many; none for a run that has no larger twin.

    Besides what a run says of itself: runs of several budgets whose learning rate, warmup or batch depends on D.
    """
    reasons = Counter(reason for spec in specs if (reason := why_no_trunk(spec)))
    families: dict[str, dict[str, list[RunSpec]]] = defaultdict(lambda: defaultdict(list))
    for spec in specs:
        if trunk := trunk_identity(spec):
            families[apart_from_size(spec)][trunk].append(spec)
    for trunks in families.values():
        alone = [trunk[0] for trunk in trunks.values() if len({spec.budget.num_tokens for spec in trunk}) == 1]
        if len({spec.budget.num_tokens for spec in alone}) > 1:
            tuned: dict[str, set[float]] = {
                "learning rate": {spec.optimizer.learning_rate for spec in alone},
                "warmup": {spec.schedule.warmup_tokens for spec in alone},
                "batch": {spec.batch.num_sequences for spec in alone},
            }
            names = " and ".join(name for name, values in tuned.items() if len(values) > 1)
            reasons[f"{names} differ{'' if ' and ' in names else 's'} with D"] += len(alone)
    return dict(reasons)


def tokens_to_train(specs: Iterable[AnySpec]) -> int:
    """Tokens that runs of pretraining train together, without what they take over."""
    trained = [spec for spec in specs if isinstance(spec, RunSpec)]
    return sum(spec.num_steps * spec.batch.num_tokens for spec in trained) - sum(tokens_from_trunks(trained))


def unique_tokens(spec: RunSpec, cache: Path) -> int | None:
    """U, the unique tokens that a run will see; None until its data is prepared."""
    if not is_prepared(spec, cache):
        return None
    prepared = prepare(spec, cache, lambda line: None)
    stream = open_stream(spec, prepared)
    return ledger(stream, stream.max_sequences, prepared.train).unique_tokens


def plan_table(rows: list[tuple[RunSpec, Status]], unique: list[int | None]) -> Table:
    """One line per run; `unique` is U per run, None where the data is not prepared yet."""
    specs = [spec for spec, _ in rows]
    shared = tokens_from_trunks(specs)
    paces = [status.tokens_per_second for _, status in rows if status.state == "complete" and status.tokens_per_second]
    table = Table(box=None, header_style="bold", caption_justify="left")
    table.add_column("run", overflow="fold", min_width=24)
    table.add_column("state", no_wrap=True)
    for name in ("D", "from trunk", "U", "epochs", "N", "FLOPs/token", "FLOPs", "memory", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    seconds_left: list[float] = []
    total_tokens = total_flops = 0.0
    for (spec, status), from_trunk, num_unique in zip(rows, shared, unique, strict=True):
        num_tokens = spec.num_steps * spec.batch.num_tokens
        own_tokens = num_tokens - from_trunk
        seconds = own_tokens / (
            sorted(paces)[len(paces) // 2] if paces else flops_per_second(spec.placement) / spec.flops_per_token
        )
        if status.state not in SETTLED:
            seconds_left.append(seconds)
            total_tokens += own_tokens
            total_flops += spec.flops_per_token * own_tokens
        table.add_row(
            directory_name(spec),
            f"[{STYLES.get(status.state, 'dim')}]{status.state}",
            short(num_tokens),
            short(from_trunk) if from_trunk else "",
            "?" if num_unique is None else short(num_unique),
            "?" if num_unique is None else f"{num_tokens / num_unique:.2f}",
            short(spec.num_params),
            f"{spec.flops_per_token:.1e}",
            f"{spec.flops_per_token * num_tokens:.1e}",
            f"{memory_of(spec).total_bytes / 1e9:.2g} GB",
            duration(seconds),
        )
    saved = sum(shared) / sum(spec.num_steps * spec.batch.num_tokens for spec in specs)
    at_once = min(max(spec.placement.runs_per_device for spec in specs), max(1, len(seconds_left)))
    basis = "timed on runs that are complete" if paces else "a rough guess until a run has been timed"
    table.caption = (
        f"Runs of pretraining: {len(rows)}; {short(total_tokens)} tokens, {total_flops:.1e} FLOPs left to train, about"
        f" {duration(sum(seconds_left) / at_once)}{f', {at_once} at a time' if at_once > 1 else ''} ({basis});"
        f" trunks save {saved:.0%} of all tokens."
        " Memory: of each rank, an estimate."
    )
    if reasons := whys_no_trunk(specs):
        table.caption += f" No trunk for {'; for '.join(f'{num} runs: {why}' for why, num in reasons.items())}."
    if None in unique:
        table.caption += (
            " U, and whether the corpus is large enough, are unknown until the data is prepared (action=prepare)."
        )
    return table


def write_plan(path: Path, specs: list[RunSpec]) -> None:
    """Write the plan for `python -m analysis design`: what each run is, and what a token of it costs."""
    runs = [
        {
            "name": directory_name(spec),
            "fingerprint": fingerprint(spec),
            "num_params": spec.num_params,
            "flops_per_token": spec.flops_per_token,
            "spec": spec.model_dump(mode="json"),
        }
        for spec in specs
    ]
    write_json(path, {"schema": 1, "runs": runs})


def timed_flops_per_second(rows: Iterable[tuple[RunSpec, Status]]) -> float | None:
    """The median of the runs that are complete; None where there is none."""
    found = [
        status.tokens_per_second * spec.flops_per_token
        for spec, status in rows
        if status.state == "complete" and status.tokens_per_second
    ]
    return median(found) if found else None


def flops_per_second(placement: Placement) -> float:
    """FLOP/s to expect of one run that has not been timed."""
    cores = placement.ranks * placement.threads if placement.threads else (os.cpu_count() or 1)
    return FLOPS_PER_CORE * cores / placement.runs_per_device
