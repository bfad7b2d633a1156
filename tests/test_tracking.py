"""The log of a run is a genuine W&B offline run with the agreed keys."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import wandb
from lab import Lab, SpecMaker, points, wandb_files

from scaling.identity import RESULTS_VERSION, digest, directory_name, fingerprint
from scaling.record import EvalPoint
from scaling.tracking import Tracker


def expected_eval_keys(objective: str) -> set[str]:
    sums = ["loss", "sum_nats", "num_tokens", *(["num_bytes", "bpb"] if objective == "clm" else [])]
    return {f"eval/{domain}/{key}" for domain in ("alpha", "beta", "gamma") for key in sums} | {"eval/at_decay_end"}


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_a_run_logs_its_config_history_and_summary(lab: Lab, spec: SpecMaker, tmp_path: Path, objective: str) -> None:
    run = spec({"objective.kind": objective, "seeds.subset": 3})
    lab.complete(run, tmp_path / "run")
    (log,) = wandb_files(tmp_path / "run")
    assert log.warning is None
    assert log.has_ended
    assert log.run_id == digest("tiny")[:8] + fingerprint(run)[:16]
    assert log.name == directory_name(run)

    assert {"schema", "fingerprint", "spec", "num_params", "flops_per_token", "environment"} <= set(log.config)
    assert log.config["results_version"] == RESULTS_VERSION
    assert (log.config["schema"], log.config["fingerprint"]) == (1, fingerprint(run))
    assert log.config["spec"] == run.model_dump(mode="json")
    assert (log.config["num_params"], log.config["flops_per_token"]) == (run.num_params, run.flops_per_token)
    assert {"python", "platform", "cpu", "device", "torch", "deepspeed", "scaling"} <= set(log.config["environment"])

    card = log.config["data_card"]
    assert set(card["recipe"]["domains"]) == {"alpha", "beta", "gamma"}
    assert card["budget"]["tokens"] == log.summary["ledger/tokens"]
    for domain, seen in card["budget"]["domains"].items():
        assert seen["epochs"] == log.summary[f"ledger/{domain}/epochs"]
        assert (
            card["recipe"]["domains"][domain]["train"]["kept"]["documents"] == log.summary[f"ledger/{domain}/documents"]
        )

    rows = [{key: value for key, value in row.items() if not key.startswith("_")} for row in log.history]
    training = [row for row in rows if "train/loss" in row]
    assert [row["tokens"] for row in training] == [20 * 128, 40 * 128, 60 * 128, 64 * 128]
    seconds = {f"phase/{phase}" for phase in ("start", "data", "train", "evaluate", "checkpoint")}
    facts = {"train/loss", "train/lr", "train/grad_norm", "perf/tokens_per_second", "perf/memory_bytes"}
    assert set(training[0]) == {"tokens"} | facts | seconds
    assert all(row["perf/tokens_per_second"] > 0 for row in training)
    for earlier, later in itertools.pairwise(training):
        assert all(earlier[phase] <= later[phase] for phase in seconds)
    assert training[0]["phase/evaluate"] > 0 == training[0]["phase/checkpoint"]  # it was evaluated after 16 steps
    evaluated = [row for row in rows if "eval/at_decay_end" in row]
    assert [(row["tokens"], row["eval/at_decay_end"]) for row in evaluated] == [
        (2048, False), (4096, False), (6144, False), (8192, True),
    ]  # fmt: skip
    assert all(set(row) == expected_eval_keys(objective) | {"tokens"} for row in evaluated)
    assert len(rows) == len(training) + len(evaluated)
    for row, point in zip(evaluated, points(tmp_path / "run"), strict=True):
        for domain, sums in point.domains.items():
            assert row[f"eval/{domain}/sum_nats"] == sums.sum_nats
            assert row[f"eval/{domain}/loss"] == sums.sum_nats / sums.num_tokens
            assert row.get(f"eval/{domain}/bpb") == sums.bits_per_byte

    summary = log.summary
    assert (summary["state"], "error" in summary) == ("complete", False)
    assert summary["flops"] == run.flops_per_token * 8192
    assert all(summary[phase] > 0 for phase in seconds)
    assert sum(summary[phase] for phase in seconds) == pytest.approx(summary["seconds"], abs=0.1)
    assert (summary["trunk/start_tokens"], isinstance(summary["trunk/key"], str)) == (0, True)
    assert (summary["ledger/tokens"], summary["ledger/sequences"]) == (8192, 256)
    assert summary["ledger/alpha/tokens"] + summary["ledger/beta/tokens"] == 8192
    assert summary["ledger/alpha/realised_weight"] == pytest.approx(0.75, abs=1 / 256)
    assert {"weight", "unique_tokens", "epochs", "documents"} <= {
        key.split("/")[2] for key in summary if key.startswith("ledger/alpha/")
    }


def test_what_wandb_itself_reads_is_what_we_read(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    lab.complete(spec(), tmp_path / "run")
    (path,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    inspected = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if inspected.returncode != 0:
        pytest.skip(f"this wandb cannot inspect its own files: {inspected.stderr[-200:]}")
    text = inspected.stdout
    records = [json.loads(line) for line in text.splitlines() if line.strip()]
    assert len(records) > 8
    for key in ("eval/alpha/sum_nats", "train/loss", "ledger/tokens", "at_decay_end"):
        assert key in text
    run = next(record for record in records if "pretrain" in json.dumps(record))
    assert all(f'"{word}"' in json.dumps(run) for word in ("scaling", "tiny", "pretrain"))


def test_a_resumed_run_has_two_files_of_one_id_that_together_lose_nothing(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    run = spec({"placement.checkpoint_seconds": 0, "budget.num_tokens": 230 * 128, "evaluation.every_tokens": 1280})
    lab.kill_after_checkpoint(run, tmp_path / "run", count=3)
    lab.complete(run, tmp_path / "run")
    first, second = wandb_files(tmp_path / "run")
    assert first.path.name == second.path.name  # W&B keeps up to 32 kB in memory, also the record with the id
    assert not first.has_ended
    assert "state" not in first.summary
    assert second.summary["state"] == "complete"
    evaluated = {row["tokens"] for row in second.history if "eval/at_decay_end" in row}
    assert evaluated == {point.tokens for point in points(tmp_path / "run")}
    assert len(evaluated) == 23


def test_ranks_other_than_the_first_log_nothing(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    lab.complete(spec({"placement.ranks": 2}), tmp_path / "run")
    assert len(wandb_files(tmp_path / "run")) == 1
    assert len(points(tmp_path / "run")) == 4


class StandIn:
    """A W&B run that is slow to open, keeps rows in memory, and refuses the row of some number of tokens."""

    def __init__(self, opens: threading.Event, refused: int | None = None) -> None:
        self.opens, self.refused = opens, refused
        self.rows: list[int] = []
        self.config = self.summary = {}

    def init(self, **arguments: object) -> StandIn:
        assert self.opens.wait(20)
        return self

    def define_metric(self, *arguments: object, **options: object) -> None: ...

    def log(self, row: dict[str, float]) -> None:
        if row["tokens"] == self.refused:
            raise RuntimeError("the pen is empty")
        self.rows.append(int(row["tokens"]))

    def finish(self, exit_code: int) -> None:
        self.rows.append(exit_code)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    run = StandIn(threading.Event())
    monkeypatch.setattr(wandb, "init", run.init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    return run


def test_training_does_not_wait_for_wandb_and_what_it_logs_is_written_in_order(
    spec: SpecMaker, tmp_path: Path, stand_in: StandIn
) -> None:
    tracker = Tracker(spec({}), tmp_path, {})
    for tokens in range(100):
        tracker.training(tokens, {})
    tracker.point(EvalPoint(100, True, {}))
    assert not stand_in.rows, "it is not even open yet"
    stand_in.opens.set()
    tracker.finish({"state": "complete"})
    assert stand_in.rows == [*range(101), 0]
    assert stand_in.summary["state"] == "complete"


def test_an_error_of_wandb_is_raised_by_the_next_call_and_nothing_is_written_after_it(
    spec: SpecMaker, tmp_path: Path, stand_in: StandIn
) -> None:
    stand_in.refused = 3
    stand_in.opens.set()
    tracker = Tracker(spec({}), tmp_path, {})

    def go_on() -> None:
        for tokens in itertools.count():
            tracker.training(tokens, {})

    with pytest.raises(RuntimeError, match="the pen is empty"):
        go_on()
    with pytest.raises(RuntimeError, match="the pen is empty"):
        tracker.finish({"state": "complete"})
    assert stand_in.rows == [0, 1, 2]
