"""From the log of a fine-tuning or compression to a `TaskRun`. A complete run that lacks a fact is an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from analysis.downstream.task_run import DECIDING, Compressed, OfClass, Origin, Seen, Start, TaskRun
from analysis.fitting.result import Estimate
from analysis.runs.logs import AnalysisError, Log
from analysis.runs.run_facts import SCHEMA, STATES, Facts

NOT_METRICS = ("num_items", "details", "replicates")
MIN_REPLICATES = 2


def task_run_of(log: Log) -> TaskRun:
    """The run that a log tells of. Raises AnalysisError for a fact that is missing or of another type."""
    if log.config.get("schema") != SCHEMA:
        raise AnalysisError(
            f"run {log.name}: config.schema must be {SCHEMA}, got {log.config.get('schema')!r}: "
            "written by another version of this project"
        )
    config, summary = Facts(log.name, "config", log.config), Facts(log.name, "summary", log.summary)
    whole = log.config.get("spec") or config.missing("spec")
    spec = whole["parent"] if log.job_type == "compress" and "parent" in whole else whole
    for part in ("study", "task", "parent", "method", "seed", "start"):
        if part not in spec:
            config.missing(f"spec.{part}")
    told = str(log.summary.get("state", ""))
    state = told if log.has_ended and told in STATES else "interrupted"
    task, labels = spec["task"], spec.get("num_examples")
    run: dict[str, Any] = {
        "run_id": log.run_id,
        "name": log.name,
        "fingerprint": config.text("fingerprint"),
        "spec": spec,
        "state": state,
        "error": str(log.summary["error"]) if log.summary.get("error") else None,
        "task": str(task["name"]),
        "metric": task.get("metric") or DECIDING.get(task["kind"]) or config.missing("spec.task.metric"),
        "start": _start(spec),
        "labels": labels,
        "num_params": config.whole("num_params"),
        "environment": {str(k): str(v) for k, v in sorted(dict(log.config.get("environment", {})).items())},
        "is_linked": log.is_linked,
    }
    if log.config.get("results_version") is not None:
        run["results_version"] = config.whole("results_version")
    if log.config.get("num_trainable_params") is not None:
        run["num_trainable"] = config.whole("num_trainable_params")
    if log.job_type == "compress":
        run["compressed"] = Compressed(
            part=whole.get("compress") or config.missing("spec.compress"),
            cost=_numbers(summary, "cost/"),
            original_cost=_numbers(summary, "cost/original/"),
            original=_numbers(summary, f"task_original/{run['task']}/"),
            difference=_scores(summary, f"task_difference/{run['task']}/"),
        )
    if state == "complete":
        at = f"task/{run['task']}/"
        run |= {
            "scores": _scores(summary, at),
            "validation": _scores(summary, f"{at}validation/"),
            "replicates": _replicates(summary, f"{at}replicates"),
            "baselines": _baselines(summary),
            "baseline_replicates": _baseline_replicates(summary),
            "classes": _classes(summary, f"{at}details"),
            "num_items": summary.whole(f"{at}num_items") if f"{at}num_items" in log.summary else None,
            "seconds": summary.number("seconds") if "seconds" in log.summary else None,
            "origin": _origin(summary),
        }
        if run["metric"] not in run["scores"]:
            summary.missing(at + run["metric"])
        if log.job_type == "finetune":
            run["labels"] = labels if labels is not None else summary.whole("num_train_rows")
            if run["start"] == "pretrained" and run["origin"] is None:
                summary.missing("parent/tokens")
    return TaskRun(**run)


def _start(spec: Mapping[str, Any]) -> Start:
    if spec["start"] == "pretrained":
        return "pretrained"
    return "checkpoint" if spec["parent"].get("model", {}).get("kind") == "checkpoint" else "initial"


def _numbers(summary: Facts, at: str) -> dict[str, float]:
    """What stands right below a path."""
    names = (key.removeprefix(at) for key in sorted(summary.facts) if key.startswith(at))
    return {name: summary.number(at + name) for name in names if "/" not in name and name not in NOT_METRICS}


def _scores(summary: Facts, at: str) -> dict[str, Estimate]:
    """Metrics with their intervals; a metric that is no number is none."""
    numbers = _numbers(summary, at)
    found = {}
    for name, value in numbers.items():
        is_end = any(name.endswith(end) and name.removesuffix(end) in numbers for end in ("_lo", "_hi"))
        if not is_end and math.isfinite(value):
            found[name] = Estimate(value, numbers.get(f"{name}_lo", math.nan), numbers.get(f"{name}_hi", math.nan))
    return found


def _baselines(summary: Facts) -> dict[str, dict[str, Estimate]]:
    return {name: _scores(summary, f"baseline/{name}/") for name in _baseline_names(summary)}


def _baseline_replicates(summary: Facts) -> dict[str, tuple[float, ...]]:
    found = {name: _replicates(summary, f"baseline/{name}/replicates") for name in _baseline_names(summary)}
    return {name: replicates for name, replicates in found.items() if replicates is not None}


def _baseline_names(summary: Facts) -> list[str]:
    return sorted({key.split("/")[1] for key in summary.facts if key.startswith("baseline/") and key.count("/") == 2})


def _replicates(summary: Facts, key: str) -> tuple[float, ...] | None:
    """The deciding metric of resamples of the test rows; None where none are told, or one of them is no number."""
    if summary.facts.get(key) is None:
        return None
    found = _parsed(summary, key)
    is_list = isinstance(found, list) and len(found) >= MIN_REPLICATES
    if not is_list or not all(type(value) in (int, float) for value in found):
        raise _malformed(summary, key, f"a JSON list of {MIN_REPLICATES} numbers or more")
    return tuple(map(float, found)) if all(map(math.isfinite, found)) else None


def _classes(summary: Facts, key: str) -> dict[str, OfClass]:
    """What the details tell of each class; empty where the task has none."""
    if not summary.facts.get(key):
        return {}
    details = _parsed(summary, key)
    if not isinstance(details, dict):
        raise _malformed(summary, key, "a JSON object")
    try:
        return {
            str(name): OfClass(_share(told["precision"]), _share(told["recall"]), _share(told["f1"]), int(told["num"]))
            for name, told in details.get("report", {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _malformed(summary, key, "a report of precision, recall, f1 and num by class") from None


def _share(value: Any) -> float | None:
    return None if value is None else float(value)


def _parsed(summary: Facts, key: str) -> Any:
    """What a text of JSON holds; what is none already is taken as it is."""
    told = summary.facts[key]
    try:
        return json.loads(told) if isinstance(told, str) else told
    except ValueError:
        raise _malformed(summary, key, "JSON") from None


def _malformed(summary: Facts, key: str, wanted: str) -> AnalysisError:
    told = str(summary.facts[key])
    shown = told if len(told) <= 60 else f"{told[:60]}..."
    return AnalysisError(f"run {summary.run}: summary {key!r} must be {wanted}, got {shown!r}")


def _origin(summary: Facts) -> Origin | None:
    """None where the log tells of no pretraining, or of none at all: from the first weights D is 0."""
    if not summary.facts.get("parent/tokens"):
        return None
    at = "parent/ledger/"
    domains = sorted({key.removeprefix(at).rpartition("/")[0] for key in summary.facts if key.startswith(at)})
    return Origin(
        tokens=summary.whole("parent/tokens"),
        unique_tokens=summary.whole("parent/unique_tokens"),
        flops=summary.number("parent/flops"),
        losses={name: loss for name, loss in _numbers(summary, "parent/loss/").items() if math.isfinite(loss)},
        domains={
            domain: Seen(
                weight=summary.number(f"{at}{domain}/weight"),
                realised_weight=summary.number(f"{at}{domain}/realised_weight"),
                tokens=summary.whole(f"{at}{domain}/tokens"),
                unique_tokens=summary.whole(f"{at}{domain}/unique_tokens"),
            )
            for domain in domains
            if domain
        },
    )
