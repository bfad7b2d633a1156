"""Runs as their W&B logs tell them: offline files or a server, one list of `Run` either way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from analysis.page.language import say
from analysis.runs.logs import CHILD_TYPES, AnalysisError, Log, declared_study, folder_logs, server_logs
from analysis.runs.run import Run
from analysis.runs.run_facts import run_of

if TYPE_CHECKING:
    from analysis.downstream.task_run import TaskRun

AnyRun = TypeVar("AnyRun", Run, "TaskRun")


@dataclass(frozen=True)
class LostRun:
    """A run that was killed before it logged its config: all that is left of it."""

    run_id: str
    name: str


@dataclass(frozen=True)
class Logs:
    """All runs found, and what was wrong with the logs, one sentence each.

    lost: interrupted before they logged what they are. study: as the folder declares it, None if it does not.
    children: the logs of fine-tunings and compressions, in which no law of pretraining is fitted.
    """

    runs: tuple[Run, ...]
    warnings: tuple[str, ...] = field(default=())
    lost: tuple[LostRun, ...] = ()
    study: Mapping[str, Any] | None = None
    children: tuple[Log, ...] = ()


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
    children = [log for log in logs if log.job_type in CHILD_TYPES and log.config.get("fingerprint")]
    runs = [run_of(log) for log in logs if log.config.get("fingerprint") and log.job_type not in CHILD_TYPES]
    kept: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.state != "complete", run.is_linked, run.name, run.run_id)):
        if run.fingerprint in kept:  # the same training logged twice is one run, not two measurements
            if kept[run.fingerprint].run_id != run.run_id:
                warnings.append(say("{run}: logged more than once; counted once", run=run.name))
            continue
        kept[run.fingerprint] = run
    declared = [study for place in places if not place.startswith("wandb:") and (study := declared_study(place))]
    if any(study != declared[0] for study in declared):
        study = declared[0]["name"]
        warnings.append(say("the folders declare different studies; that of the first ({study}) is used", study=study))
    return Logs(
        runs=of_one_version(sorted(kept.values(), key=lambda run: (run.name, run.fingerprint)), warnings),
        warnings=tuple(warnings),
        lost=tuple(sorted(lost.values(), key=lambda run: (run.name, run.run_id))),
        study=declared[0] if declared else None,
        children=tuple(sorted(children, key=lambda log: (log.name, log.run_id))),
    )


def of_one_version(runs: Sequence[AnyRun], warnings: list[str]) -> tuple[AnyRun, ...]:
    """The runs whose numbers one version of the code made: the newest of those that are told.

    Numbers of two versions differ for another reason than the data. Where one version alone is told, runs that tell
    none stay, since it may be theirs.
    """
    told = {run.results_version for run in runs if run.results_version is not None}
    silent = sum(run.results_version is None for run in runs)
    if len(told) > 1:
        kept = tuple(run for run in runs if run.results_version == max(told))
        warnings.append(
            say(
                "{count} of {total} runs are left out: an older version of the code made their numbers than the rest"
                " ({version})",
                count=len(runs) - len(kept),
                total=len(runs),
                version=max(told),
            )
        )
        return kept
    if told and silent:
        warnings.append(
            say(
                "{count} of {total} runs do not tell which version of the code made their numbers; the others are of"
                " {version}",
                count=silent,
                total=len(runs),
                version=max(told),
            )
        )
    return tuple(runs)
