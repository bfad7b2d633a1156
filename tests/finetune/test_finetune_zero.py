"""Fine-tuning shared out over ranks: killed, and gone on with to the same bits; the same scores under every stage."""

from __future__ import annotations

import random
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, make_bench, summary
from lab import SpecMaker, Trap

from scaling.launch import launch
from scaling.status import read_status

TWO = {"placement.ranks": 2, "placement.checkpoint_seconds": 0, "schedule.num_epochs": 3.0}
LOOP = "scaling.finetune.finetune"


@pytest.fixture(scope="module")
def bench(spec: SpecMaker, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(spec, shared_cache, tmp_path_factory.mktemp("bench"))


def launched(context: Any, bench: Bench, changes: dict[str, Any], name: str) -> Path:
    """The folder of a run that a process of its own made, or went on with."""
    folder = bench.runs / name
    process = launch(context, bench.spec(changes), folder, bench.cache)
    process.join(180)
    assert process.exitcode is not None, f"the run hangs:\n{(folder / 'log.txt').read_text()[-2000:]}"
    return folder


def bits(folder: Path) -> dict[str, bytes]:
    assert read_status(folder).state == "complete", (folder / "log.txt").read_text()[-4000:]
    files = [*(folder / "model").glob("*.safetensors"), folder / "scores.jsonl", folder / "predictions.jsonl"]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"zero.stage": 2, "precision": "bf16"}, id="stage2-bf16"),
        pytest.param({"zero.stage": 3, "method.adaptation": {"kind": "lora"}}, id="lora", marks=pytest.mark.slow),
        pytest.param({"zero.stage": 0}, id="stage0", marks=pytest.mark.slow),
        pytest.param({"zero.stage": 1, "placement.micro_batch": 2}, id="stage1-micro", marks=pytest.mark.slow),
        pytest.param({"zero.stage": 1, "method.adaptation": {"kind": "adalora"}}, id="adalora", marks=pytest.mark.slow),
        pytest.param({"zero.stage": 2, "precision": "fp16"}, id="fp16", marks=pytest.mark.slow),
        pytest.param({"zero.stage": 3, "precision": "bf16"}, id="stage3-bf16", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_two_ranks_that_is_killed_goes_on_to_the_same_bits(
    server: ForkServerContext, bench: Bench, request: pytest.FixtureRequest, changes: dict[str, Any]
) -> None:
    name, changes = request.node.callspec.id, {**TWO, **changes}
    unbroken = launched(server, bench, changes, f"unbroken-{name}")
    trap = Trap(server, LOOP, "learning_rate_factor", count=51, signal=signal.SIGKILL, rank=1)
    broken = launched(trap, bench, changes, f"broken-{name}")
    assert read_status(broken).state == "failed"
    assert sorted(path.name for path in (broken / "checkpoints").glob("step-*"))[-1] == "step-00000040"
    launched(server, bench, changes, f"broken-{name}")
    assert bits(broken) == bits(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora", "adalora"])
def test_a_run_that_is_killed_at_random_again_and_again_goes_on_to_the_same_bits(
    server: ForkServerContext, bench: Bench, kind: str
) -> None:
    changes = {"method.adaptation": {"kind": kind}, "placement.checkpoint_seconds": 0, "schedule.num_epochs": 10.0}
    began = time.monotonic()
    unbroken = launched(server, bench, changes, f"whole-{kind}")
    seconds = time.monotonic() - began
    rng, folder, num_kills = random.Random(kind), bench.runs / f"killed-{kind}", 0
    for _ in range(6):
        process = launch(server, bench.spec(changes), folder, bench.cache)
        process.join(rng.uniform(0.1, 0.8) * seconds)
        if process.exitcode is None:
            process.kill()
            num_kills += 1
        process.join(60)
    assert num_kills > 0
    assert bits(launched(server, bench, changes, folder.name)) == bits(unbroken)


def test_all_stages_learn_what_one_rank_learns(server: ForkServerContext, bench: Bench) -> None:
    alone = {"method.dropout": 0.0, "schedule.num_epochs": 1.0}
    one = summary(bench.run(bench.spec(alone), "alone"))
    both = launched(server, bench, {**alone, "placement.ranks": 2, "zero.stage": 3}, "both")
    other = summary(both)
    assert other["task/mood/details"] == one["task/mood/details"]
    assert other["steps"] == one["steps"]
