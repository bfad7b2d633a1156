"""Runs as their W&B logs tell them: offline files or a server, one list of `Run` either way.

Facts come from the log alone. D, U and the weights are those of the exposure ledger (what the model saw),
never those of the config (what was asked for). A complete run that lacks a fact is an error, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from analysis.logs import AnalysisError, Log, declared_study, folder_logs, server_logs

SCHEMA = 1
STATES = ("complete", "failed", "diverged", "preempted")


@dataclass(frozen=True)
class Sums:
    """The exact sums behind one validation loss. `num_bytes` is None for masked LM, which has no bpb."""

    sum_nats: float
    num_tokens: int
    num_bytes: int | None

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.sum_nats / self.num_tokens

    @property
    def bpb(self) -> float | None:
        """Bits per byte."""
        return None if self.num_bytes is None else self.sum_nats / math.log(2) / self.num_bytes


@dataclass(frozen=True)
class EvalPoint:
    """One measurement: the tokens trained on so far, and the sums per domain.

    at_decay_end: whether the learning rate had ended its decay; None where the log does not say.
    """

    tokens: int
    at_decay_end: bool | None
    domains: Mapping[str, Sums]


@dataclass(frozen=True)
class Exposure:
    """What a run saw of one domain. epochs = tokens / unique tokens offered; documents: kept for training.

    planted_tokens: of the tokens seen, those of copies made on purpose; None where the log does not know them.
    """

    weight: float
    realised_weight: float
    tokens: int
    unique_tokens: int
    epochs: float
    documents: int
    dropped: Mapping[str, int]
    planted_tokens: int | None = None


@dataclass(frozen=True)
class Ledger:
    """What a run saw: D tokens, U unique tokens, and the share of each domain."""

    tokens: int
    unique_tokens: int
    sequences: int
    domains: Mapping[str, Exposure]

    @property
    def mean_epochs(self) -> float:
        """How often a token was seen, averaged over the tokens trained on; 1 without repetition."""
        seen = sum(exposure.tokens * max(1.0, exposure.epochs) for exposure in self.domains.values())
        return seen / max(1, sum(exposure.tokens for exposure in self.domains.values()))


@dataclass(frozen=True)
class Run:
    """One run. What only the end of a run knows (ledger, flops, seconds) is None unless it is complete.

    steps_left_out: of those trained, for a loss that was no number. final_lr_frac: the learning rate of the last step,
    as a part of the peak.
    is_elastic: it was interrupted and went on under another placement. schedule_ends_at: the tokens at which its
    learning rate ends its decay, None where the log does not say. tokens_per_second, mfu (0 to 1): medians over its
    looks, None where none was logged.
    """

    run_id: str
    name: str
    fingerprint: str
    spec: Mapping[str, Any]
    num_params: int
    flops_per_token: float
    environment: Mapping[str, str]
    state: str
    error: str | None
    points: tuple[EvalPoint, ...]
    ledger: Ledger | None = None
    flops: float | None = None
    seconds: float | None = None
    trunk_tokens: int = 0
    is_linked: bool = False
    is_elastic: bool = False
    steps_left_out: int = 0
    final_lr_frac: float | None = None
    schedule_ends_at: int | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None

    @property
    def mid_schedule(self) -> str | None:
        """Why the last loss of a complete run is not that at the end of its schedule; None if it may be."""
        tokens = self.points[-1].tokens if self.points else None
        if self.schedule_ends_at is not None and self.schedule_ends_at != tokens:
            return f"its schedule ends at {self.schedule_ends_at} tokens, its last loss is of {tokens}"
        if self.points and self.points[-1].at_decay_end is False:
            return "its last loss is not at the end of a decay"
        return None

    @property
    def is_schedule_known(self) -> bool:
        """Whether the log tells that the last loss is at the end of the schedule, or that it is not."""
        return self.schedule_ends_at is not None or any(p.at_decay_end is not None for p in self.points[-1:])

    @property
    def seeds(self) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self.spec["seeds"].items()))


@dataclass(frozen=True)
class LostRun:
    """A run that was killed before it logged its config: all that is left of it."""

    run_id: str
    name: str


@dataclass(frozen=True)
class Logs:
    """All runs found, and what was wrong with the logs, one sentence each.

    lost: interrupted before they logged what they are. study: as the folder declares it, None if it does not.
    """

    runs: tuple[Run, ...]
    warnings: tuple[str, ...] = field(default=())
    lost: tuple[LostRun, ...] = ()
    study: Mapping[str, Any] | None = None


def read_runs(places: Sequence[str], api: Any = None) -> Logs:
    """Read the runs in `places`: folders, or `wandb:entity/project?group=NAME`.

    api: a `wandb.Api`, made when first needed (making one talks to the server).
    Raises AnalysisError if a place does not exist or holds no log, or if a complete run lacks a fact.
    """
    logs: list[Log] = []
    warnings: list[str] = []
    for place in places:
        found = server_logs(place, api) if place.startswith("wandb:") else folder_logs(place, warnings)
        if not found:
            raise AnalysisError(f"no W&B logs in {place!r} (looked for run-*.wandb in it and below)")
        logs += found
    lost = {log.run_id: LostRun(log.run_id, log.name) for log in logs if not log.config.get("fingerprint")}
    runs = [_run(log) for log in logs if log.config.get("fingerprint")]
    kept: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.state != "complete", run.is_linked, run.name, run.run_id)):
        if run.fingerprint in kept:  # the same training logged twice is one run, not two measurements
            if kept[run.fingerprint].run_id != run.run_id:
                warnings.append(f"{run.name}: logged more than once; counted once")
            continue
        kept[run.fingerprint] = run
    declared = [study for place in places if not place.startswith("wandb:") and (study := declared_study(place))]
    if any(study != declared[0] for study in declared):
        warnings.append(f"the folders declare different studies; that of the first ({declared[0]['name']}) is used")
    return Logs(
        runs=tuple(sorted(kept.values(), key=lambda run: (run.name, run.fingerprint))),
        warnings=tuple(warnings),
        lost=tuple(sorted(lost.values(), key=lambda run: (run.name, run.run_id))),
        study=declared[0] if declared else None,
    )


def _run(log: Log) -> Run:
    if log.config.get("schema") != SCHEMA:
        raise AnalysisError(
            f"run {log.name}: config.schema must be {SCHEMA}, got {log.config.get('schema')!r}: "
            "written by another version of this project"
        )
    told = str(log.summary.get("state", ""))
    state = told if log.has_ended and told in STATES else "interrupted"
    config = _Facts(log.name, "config", log.config)
    spec = log.config.get("spec") or config.missing("spec")
    for part in ("study", "recipe", "budget", "seeds", "evaluation"):
        if part not in spec:
            config.missing(f"spec.{part}")
    run = {
        "run_id": log.run_id,
        "name": log.name,
        "fingerprint": config.text("fingerprint"),
        "spec": spec,
        "num_params": config.whole("num_params"),
        "flops_per_token": config.number("flops_per_token"),
        "environment": {str(k): str(v) for k, v in sorted(dict(log.config.get("environment", {})).items())},
        "state": state,
        "error": str(log.summary["error"]) if log.summary.get("error") else None,
        "points": _eval_points(log, is_complete=state == "complete"),
        "is_linked": log.is_linked,
        "is_elastic": log.summary.get("elastic") is True,
        "steps_left_out": int(log.summary.get("steps_left_out") or 0),
        "final_lr_frac": log.summary.get("schedule/final_lr_frac"),
        "tokens_per_second": _median(log, "perf/tokens_per_second"),
        "mfu": _median(log, "perf/mfu"),
    }
    if log.summary.get("schedule/ends_at_tokens") is not None:
        run["schedule_ends_at"] = _Facts(log.name, "summary", log.summary).whole("schedule/ends_at_tokens")
    if state == "complete":
        summary = _Facts(log.name, "summary", log.summary)
        run |= {
            "ledger": _ledger(summary, run["spec"]),
            "flops": summary.number("flops"),
            "seconds": summary.number("seconds"),
            "trunk_tokens": summary.whole("trunk/start_tokens"),
        }
    return Run(**run)


def _ledger(summary: _Facts, spec: Mapping[str, Any]) -> Ledger:
    domains = {}
    for domain in sorted(spec["recipe"]["corpus"]["domains"]):
        at = f"ledger/{domain}/"
        dropped = at + "dropped/"
        domains[domain] = Exposure(
            weight=summary.number(at + "weight"),
            realised_weight=summary.number(at + "realised_weight"),
            tokens=summary.whole(at + "tokens"),
            unique_tokens=summary.whole(at + "unique_tokens"),
            epochs=summary.number(at + "epochs"),
            documents=summary.whole(at + "documents"),
            dropped={
                key.removeprefix(dropped): summary.whole(key)
                for key in sorted(summary.facts)
                if key.startswith(dropped)
            },
            planted_tokens=summary.whole(at + "planted_tokens") if at + "planted_tokens" in summary.facts else None,
        )
    return Ledger(
        tokens=summary.whole("ledger/tokens"),
        unique_tokens=summary.whole("ledger/unique_tokens"),
        sequences=summary.whole("ledger/sequences"),
        domains=domains,
    )


def _eval_points(log: Log, is_complete: bool) -> tuple[EvalPoint, ...]:
    """The EvalPoints in order of tokens; of a point logged twice (a restart does that) the last counts.

    A point that lacks a fact is an error in a complete run, and left out of any other (they enter no fit).
    """
    points: dict[int, EvalPoint] = {}
    for row in log.history:
        suffix = "/sum_nats"
        domains = [k[5 : -len(suffix)] for k in row if k.startswith("eval/") and k.endswith(suffix)]
        if not any(row[f"eval/{domain}{suffix}"] is not None for domain in domains):
            continue
        facts = _Facts(log.name, "history", row)
        try:
            point = EvalPoint(
                tokens=facts.whole("tokens"),
                at_decay_end=facts.flag("eval/at_decay_end"),
                domains={domain: _sums(facts, f"eval/{domain}/") for domain in sorted(domains)},
            )
        except AnalysisError:
            if is_complete:
                raise
            continue
        points[point.tokens] = point
    return tuple(points[tokens] for tokens in sorted(points))


def _median(log: Log, key: str) -> float | None:
    """The median of what was logged at each look; None if nothing was."""
    values = [float(row[key]) for row in log.history if isinstance(row.get(key), int | float)]
    return median(values) if values else None


def _sums(facts: _Facts, at: str) -> Sums:
    has_bytes = facts.facts.get(at + "num_bytes") is not None
    num_tokens = facts.whole(at + "num_tokens")
    if num_tokens <= 0:
        raise AnalysisError(f"run {facts.run}: history {at}num_tokens must be above 0, got {num_tokens}")
    return Sums(
        sum_nats=facts.number(at + "sum_nats"),
        num_tokens=num_tokens,
        num_bytes=facts.whole(at + "num_bytes") if has_bytes else None,
    )


@dataclass(frozen=True)
class _Facts:
    """Typed access to logged values; what is missing or of another type is named with its run."""

    run: str
    where: str
    facts: Mapping[str, Any]

    def missing(self, key: str) -> Any:
        raise AnalysisError(f"run {self.run}: {self.where} lacks {key!r}")

    def number(self, key: str) -> float:
        value = self.facts.get(key)
        if value is None:
            self.missing(key)
        try:
            return float(value)  # type: ignore[arg-type]  # "NaN" is how a server sends what JSON cannot hold
        except (TypeError, ValueError):
            raise AnalysisError(f"run {self.run}: {self.where} {key!r} must be a number, got {value!r}") from None

    def whole(self, key: str) -> int:
        value = self.number(key)
        if not value.is_integer():
            raise AnalysisError(f"run {self.run}: {self.where} {key!r} must be a whole number, got {value!r}")
        return int(value)

    def flag(self, key: str) -> bool | None:
        value = self.facts.get(key)
        return None if value is None else bool(value)

    def text(self, key: str) -> str:
        return str(self.facts.get(key) or self.missing(key))
