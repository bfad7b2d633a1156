"""From the log of one run to a `Run`.

D, U and the weights are those of the exposure ledger (what the model saw), never those of the config (what was asked
for). A complete run that lacks a fact is an error, never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from analysis.runs.logs import AnalysisError, Log
from analysis.runs.run import EvalPoint, Exposure, Ledger, Run, Sums

SCHEMA = 1
STATES = ("complete", "failed", "diverged", "preempted")


def run_of(log: Log) -> Run:
    """The run that a log tells of. Raises AnalysisError for a fact that is missing or of another type."""
    if log.config.get("schema") != SCHEMA:
        raise AnalysisError(
            f"run {log.name}: config.schema must be {SCHEMA}, got {log.config.get('schema')!r}: "
            "written by another version of this project"
        )
    told = str(log.summary.get("state", ""))
    state = told if log.has_ended and told in STATES else "interrupted"
    config = Facts(log.name, "config", log.config)
    spec = log.config.get("spec") or config.missing("spec")
    for part in ("study", "recipe", "budget", "seeds", "evaluation"):
        if part not in spec:
            config.missing(f"spec.{part}")
    run: dict[str, Any] = {
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
    if log.config.get("results_version") is not None:
        run["results_version"] = config.whole("results_version")
    if log.summary.get("schedule/ends_at_tokens") is not None:
        run["schedule_ends_at"] = Facts(log.name, "summary", log.summary).whole("schedule/ends_at_tokens")
    if state == "complete":
        summary = Facts(log.name, "summary", log.summary)
        run |= {
            "ledger": _ledger(summary, run["spec"]),
            "flops": summary.number("flops"),
            "seconds": summary.number("seconds"),
            "trunk_tokens": summary.whole("trunk/start_tokens"),
        }
    return Run(**run)


def _ledger(summary: Facts, spec: Mapping[str, Any]) -> Ledger:
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
    suffix = "/sum_nats"
    domains_in: dict[tuple[str, ...], list[str]] = {}  # rows have the same keys, nearly all
    for row in log.history:
        keys = tuple(row)
        if keys not in domains_in:
            domains_in[keys] = sorted(k[5 : -len(suffix)] for k in keys if k.endswith(suffix) and k.startswith("eval/"))
        domains = domains_in[keys]
        if not any(row[f"eval/{domain}{suffix}"] is not None for domain in domains):
            continue
        facts = Facts(log.name, "history", row)
        try:
            point = EvalPoint(
                tokens=facts.whole("tokens"),
                at_decay_end=facts.flag("eval/at_decay_end"),
                domains={domain: _sums(facts, f"eval/{domain}/") for domain in domains},
            )
        except AnalysisError:
            if is_complete:
                raise
            continue
        points[point.tokens] = point
    return tuple(points[tokens] for tokens in sorted(points))


def _median(log: Log, key: str) -> float | None:
    """The median of what was logged at each look; None if nothing was."""
    return median(log.looks[key]) if log.looks[key] else None


def _sums(facts: Facts, at: str) -> Sums:
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
class Facts:
    """Typed access to logged values; what is missing or of another type is named with its run."""

    run: str
    where: str
    facts: Mapping[str, Any]

    def missing(self, key: str) -> Any:
        raise AnalysisError(f"run {self.run}: {self.where} lacks {key!r}")

    def number(self, key: str) -> float:
        value = self.facts.get(key)
        if type(value) is float:  # nearly always, of a hundred thousand
            return value
        if value is None:
            self.missing(key)
        try:
            return float(value)  # type: ignore[arg-type]  # "NaN" is how a server sends what JSON cannot hold
        except (TypeError, ValueError):
            raise AnalysisError(f"run {self.run}: {self.where} {key!r} must be a number, got {value!r}") from None

    def whole(self, key: str) -> int:
        whole = self.facts.get(key)
        if type(whole) is int:
            return whole
        value = self.number(key)
        if not value.is_integer():
            raise AnalysisError(f"run {self.run}: {self.where} {key!r} must be a whole number, got {value!r}")
        return int(value)

    def flag(self, key: str) -> bool | None:
        value = self.facts.get(key)
        return None if value is None else bool(value)

    def text(self, key: str) -> str:
        return str(self.facts.get(key) or self.missing(key))
