"""kill -9, at any moment, as often as it likes: the record in the end is that of a run that nobody touched."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab import Lab, SpecMaker, newest_step, record_of

TWO_EPOCHS = {"budget.unique_tokens": 40 * 128, "budget.max_epochs": None}
RUN = {**TWO_EPOCHS, "placement.checkpoint_seconds": 0}
"""64 steps, epoch 2 from step 40 on; points every 16 steps, checkpoints every 20, the trunk is left at 48."""

LOOP, CHECKPOINT, RECORDER = "scaling.train.pretrain", "scaling.train.checkpoint", "scaling.train.recorder"

MOMENTS = {
    "first checkpoint, before its first file": (CHECKPOINT, "_write", 1, "before"),
    "second checkpoint, between two files": (CHECKPOINT, "_write", 5, "before"),
    "second checkpoint, before its manifest": (CHECKPOINT, "write_json", 2, "before"),
    "second checkpoint, after its manifest": (CHECKPOINT, "write_json", 2, "after"),
    "second checkpoint, before it is renamed": (CHECKPOINT, "os.rename", 2, "before"),
    "second checkpoint, after it is renamed": (CHECKPOINT, "os.rename", 2, "after"),
    "before old checkpoints are removed": (LOOP, "keep_newest", 2, "before"),
    "while an old checkpoint is removed": (CHECKPOINT, "shutil.rmtree", 1, "after"),
    "before the state in the trunk": ("scaling.train.trunk", "save_checkpoint", 1, "before"),
    "after the state in the trunk": ("scaling.train.trunk", "save_checkpoint", 1, "after"),
    "within an evaluation": ("scaling.train.plain", "PlainEngine.predict", 7, "after"),
    "after an evaluation": (LOOP, "evaluate", 2, "after"),
    "after a point": (RECORDER, "append_point", 2, "after"),
    "between a point and the state in the trunk of the same step": (RECORDER, "Recorder.reached", 1, "before"),
    "before a line in W&B": ("scaling.tracking", "Tracker.training", 2, "before"),
    "after a point in W&B": ("scaling.tracking", "Tracker.point", 2, "after"),
    "in epoch 2": (LOOP, "learning_rate_factor", 55, "before"),
    "before the model is exported": (LOOP, "_export", 1, "before"),
    "after the model is exported": (LOOP, "_export", 1, "after"),
    "before the summary": ("scaling.tracking", "Tracker.finish", 1, "before"),
    "between the summary and the status": ("scaling.tracking", "Tracker.finish", 1, "after"),
}
EVERY_TIME = (
    "second checkpoint, between two files",
    "between a point and the state in the trunk of the same step",
    "in epoch 2",
    "between the summary and the status",
)


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(EVERY_TIME, id="some"),
        *(pytest.param((moment,), id=moment, marks=pytest.mark.slow) for moment in MOMENTS),
    ],
)
def test_a_run_that_is_killed_there_and_then_leaves_the_record_of_an_unbroken_one(
    lab: Lab, spec: SpecMaker, tmp_path: Path, moments: tuple[str, ...]
) -> None:
    run = spec(RUN)
    unbroken = lab.with_no_trunks(tmp_path / "of-the-unbroken")
    unbroken.complete(run, tmp_path / "unbroken")
    for moment in moments:
        folder = tmp_path / moment.replace(" ", "-")
        broken = lab.with_no_trunks(folder)
        module, function, count, when = MOMENTS[moment]
        process = broken.trap(module, function, count=count, when=when).start(run, folder / "run")
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, f"nothing was killed: {moment}"
        broken.complete(run, folder / "run")
        assert record_of(folder / "run", broken) == record_of(tmp_path / "unbroken", unbroken), moment


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["clm", "mlm", "mlm_nsp"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_run_that_is_killed_at_random_again_and_again_leaves_the_record_of_an_unbroken_one(
    lab: Lab, spec: SpecMaker, tmp_path: Path, stage: int, ranks: int, kind: str
) -> None:
    engine = "deepspeed" if stage else "auto"
    placed = {"zero.stage": stage, "placement.ranks": ranks, "placement.engine": engine, "objective.kind": kind}
    run = spec({**RUN, **placed, "budget.num_tokens": 400 * 128, "budget.unique_tokens": 150 * 128})
    unbroken, broken = (lab.with_no_trunks(tmp_path / name) for name in ("of-the-unbroken", "of-the-broken"))
    unbroken.complete(run, tmp_path / "unbroken")

    rng = random.Random(f"{stage}-{ranks}-{kind}")
    num_kills = 0
    for frac in [0.0, *sorted(rng.uniform(0.0, 0.9) for _ in range(4))]:
        process = broken.start(run, tmp_path / "broken")
        while process.exitcode is None and newest_step(tmp_path / "broken") < frac * run.num_steps:
            time.sleep(0.005)
        process.join(rng.uniform(0.0, 0.3))  # it may load, train, evaluate or write
        if process.exitcode is None:
            victims = [process.pid, *(of_ranks(process.pid) if ranks > 1 else [])]
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(rng.choice(victims)).kill()
            process.join(60)
            num_kills += 1
        assert process.exitcode is not None, "a rank was lost, and the others have not ended"
    broken.complete(run, tmp_path / "broken")
    assert num_kills > 0
    assert record_of(tmp_path / "broken", broken) == record_of(tmp_path / "unbroken", unbroken)


def of_ranks(agent: int | None) -> list[int]:
    """The processes that the process of a run has forked."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(agent).children() if "wandb" not in child.name()]
    return []


def test_what_must_not_depend_on_interruptions_would_show_one(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    """The comparison can fail: one step's masks, points or moments that differ make another record."""
    records: list[dict[str, Any]] = []
    for seed in (0, 1):
        other = lab.with_no_trunks(tmp_path / str(seed))
        other.complete(spec({**RUN, "seeds.order": seed}), tmp_path / f"run{seed}")
        records.append(record_of(tmp_path / f"run{seed}", other))
    assert records[0].keys() == records[1].keys()
    differ = {key for key in records[0] if records[0][key] != records[1][key]}
    of_the_trunk = {f"step-00000048/{name}.safetensors" for name in ("weights", "exp_avg", "exp_avg_sq")}
    assert differ == {"points.jsonl", "model/model.safetensors", "summary", *of_the_trunk}
