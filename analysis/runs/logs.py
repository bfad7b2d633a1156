"""Where logs come from: folders with offline W&B files, or a W&B server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.page.language import say
from analysis.runs.log_cache import LOOKS, Reading, log_cache, read_log, sift

JOB_TYPE = "pretrain"
CHILD_TYPES = ("finetune", "compress")
"""Runs that go on from another: of them `analysis.downstream` tells."""
STUDY_KEYS = {"name": str, "question": str, "target": str, "match": str, "hold_out": int}


class AnalysisError(ValueError):
    """Something that the user can put right, said in one line."""


@dataclass(frozen=True)
class Log:
    """One run's log, from wherever: the common ground of files and server. history, looks: as in Reading.

    job_type: empty where a run was killed at its very start.
    """

    run_id: str
    name: str
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    looks: Mapping[str, Sequence[float]]
    summary: Mapping[str, Any]
    has_ended: bool
    is_linked: bool = False
    job_type: str = JOB_TYPE


def find_log_files(folder: Path) -> list[tuple[Path, bool]]:
    """All `run-*.wandb` below a folder, each once, and whether the way there leads over a link.

    Linked run folders are followed: a study may reuse the complete run of another one.
    """
    found: dict[Path, bool] = {}
    seen = set()
    root = os.path.realpath(folder)
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in ("checkpoints", "report"))
        for name in files:
            if name.startswith("run-") and name.endswith(".wandb"):
                path = Path(real, name)
                found[path] = not path.is_relative_to(root)
    return sorted(found.items())


def folder_logs(place: str, warnings: list[str]) -> list[Log]:
    """The logs of the runs below a folder, restarts merged; adds to `warnings` what could not be read."""
    folder = Path(place)
    if not folder.is_dir():
        raise AnalysisError(f"no such folder: {place!r}")
    cache = log_cache()
    by_run: dict[str, list[tuple[Reading, bool]]] = {}
    for path, is_linked in find_log_files(folder):
        file = read_log(path, cache)
        if file.warning:
            warnings.append(say("{file} {damage}; read up to there", file=path.name, damage=file.warning))
        if file.job_type in ("", JOB_TYPE, *CHILD_TYPES):  # none is told by a run that was killed at its very start
            by_run.setdefault(file.run_id, []).append((file, is_linked))
    return [merge_restarts(files) for _, files in sorted(by_run.items())]


def declared_study(place: str) -> dict[str, Any] | None:
    """What the sweep wrote into the folder of a study: its name, question, target, match and hold_out.

    It is of now; the logs tell what held when a run was made, perhaps for another study. None without `study.json`.
    """
    path = Path(place, "study.json")
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnalysisError(f"cannot read {str(path)!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict) or told.get("schema") != 1:
        raise AnalysisError(f"{path}: schema must be 1: written by another version of this project")
    study: Any = told.get("study")
    for key, kind in STUDY_KEYS.items():
        if not isinstance(study, dict) or not isinstance(study.get(key), kind) or isinstance(study[key], bool):
            raise AnalysisError(f"{path}: study.{key} must be given as {kind.__name__}")
    return {key: study[key] for key in STUDY_KEYS}


def merge_restarts(files: Sequence[tuple[Reading, bool]]) -> Log:
    """One log from the files of one run, in order of their paths: the first start, every restart; the later wins.

    A run that once ended as complete stays complete, whatever was begun after that.
    """
    ordered = [file for file, _ in sorted(files, key=lambda item: item[0].start_seconds)]
    last = next((f for f in ordered if f.has_ended and f.summary.get("state") == "complete"), ordered[-1])
    config: dict[str, Any] = {}
    history: list[Mapping[str, Any]] = []
    looks: dict[str, list[float]] = {key: [] for key in LOOKS}
    for file in ordered[: ordered.index(last) + 1]:
        config |= file.config
        history += file.history
        for key in LOOKS:
            looks[key] += file.looks[key]
    name = next((file.name for file in reversed(ordered) if file.config), last.name)
    job_type = next((file.job_type for file in ordered if file.job_type), "")
    return Log(last.run_id, name, config, history, looks, last.summary, last.has_ended, files[0][1], job_type)


def server_logs(place: str, api: Any) -> list[Log]:
    """The logs of the runs of a project, or of one group (study) in it."""
    path, _, query = place.removeprefix("wandb:").partition("?")
    key, _, group = query.partition("=")
    if path.count("/") != 1 or (query and key != "group"):
        raise AnalysisError(f"a server is named as wandb:entity/project?group=NAME, got {place!r}")
    if api is None:
        import wandb

        try:
            api = wandb.Api()
        except Exception as error:  # wandb raises its own, requests' and ValueError here
            raise AnalysisError(f"cannot reach the W&B server: {str(error).splitlines()[0]}") from error
    filters = {"group": group} if group else {}
    kinds = (JOB_TYPE, *CHILD_TYPES)
    return [_server_log(run) for run in api.runs(path, filters=filters) if run.job_type in kinds]


def _server_log(run: Any) -> Log:
    history, looks = sift(run.scan_history())  # run.history() would sample 500 rows
    has_ended = run.state in ("finished", "failed")
    summary = dict(run.summary)
    return Log(run.id, run.name, dict(run.config), history, looks, summary, has_ended, job_type=run.job_type)
