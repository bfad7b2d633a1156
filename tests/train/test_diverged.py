"""Runs whose loss makes no sense, and ranks that are not alike, in real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from lab import Lab, SpecMaker, points, wandb_files
from torch import Tensor

from scaling.launch import run_warnings
from scaling.spec import RunSpec

COSINE = {"schedule": {"kind": "cosine", "warmup_tokens": 512}}


@dataclass(frozen=True)
class Changed:
    """A forkserver whose runs call `change` before they begin."""

    context: ForkServerContext
    change: Callable[[], None]

    def Process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> ForkServerProcess:
        return self.context.Process(target=changed, args=(self.change, target, *args), name=name)


def changed(change: Callable[[], None], target: Callable[..., None], *arguments: object) -> None:
    change()
    target(*arguments)


def changed_lab(lab: Lab, change: Callable[[], None]) -> Lab:
    return Lab(Changed(lab.context, change), lab.cache)  # type: ignore[arg-type]


def spike() -> None:
    """The loss of step 34 is 100."""
    from scaling.train.plain import PlainEngine

    train = PlainEngine.train

    def with_spike(engine: PlainEngine, batch: Any, learning_rate: float) -> None:
        train(engine, batch, learning_rate)
        if batch.step == 33:
            engine._looked_at[0, engine._num_unseen - 1] = 100.0

    PlainEngine.train = with_spike  # type: ignore[method-assign]


def spike_and_stop() -> None:
    """And the run is asked to stop two steps later, before anybody has looked."""
    from scaling.train.plain import PlainEngine

    spike()
    train = PlainEngine.train

    def with_stop(engine: PlainEngine, batch: Any, learning_rate: float) -> None:
        train(engine, batch, learning_rate)
        if batch.step == 35:
            os.kill(os.getpid(), signal.SIGTERM)

    PlainEngine.train = with_stop  # type: ignore[method-assign]


def no_numbers_after_10_steps() -> None:
    from scaling.train.objective import TokenLoss

    forward, num_calls = TokenLoss.forward, 0

    def poisoned(module: TokenLoss, **examples: Tensor) -> Tensor:
        nonlocal num_calls
        nats = forward(module, **examples)
        num_calls += torch.is_grad_enabled()
        return nats * float("nan") if num_calls > 10 and torch.is_grad_enabled() else nats

    TokenLoss.forward = poisoned  # type: ignore[method-assign, assignment]


def rank_1_has_other_threads() -> None:
    threads = torch.get_num_threads
    torch.get_num_threads = lambda: 7 if os.environ.get("RANK") == "1" else threads()


def test_a_run_that_has_diverged_when_it_is_asked_to_stop_leaves_nothing_to_go_on_from(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    for name, change in (("unbroken", spike), ("stopped", spike_and_stop)):
        status = changed_lab(lab, change).train(spec(COSINE), tmp_path / name)
        assert status.state == "diverged"
        assert (status.error or "").startswith("step 34, sequences 132 to 135: the loss is 100")
        assert not list((tmp_path / name).glob("checkpoints/step-00000036"))


def test_a_run_that_leaves_out_most_of_its_steps_has_diverged(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    run = spec({**COSINE, "optimizer.nonfinite": "skip"})
    status = changed_lab(lab, no_numbers_after_10_steps).train(run, tmp_path / "run")
    assert (status.state, status.error) == ("diverged", "54 of 64 steps were left out, whose loss was no number")
    assert "left out: step 11, sequences 40 to 43: the loss is nan" in run_warnings(tmp_path / "run")[0]
    assert wandb_files(tmp_path / "run")[-1].summary["state"] == "diverged"


def test_ranks_that_are_not_alike_go_on_from_a_trunk_and_from_a_checkpoint(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    def sized(num_steps: int) -> RunSpec:
        two = {"placement.ranks": 2, "zero.stage": 1, "placement.checkpoint_seconds": 0}
        return spec({**two, "evaluation.every_tokens": None, "budget.num_tokens": num_steps * 128})

    uneven = changed_lab(lab, rank_1_has_other_threads)
    uneven.complete(sized(60), tmp_path / "small")
    uneven.kill_after_checkpoint(sized(230), tmp_path / "large", count=3)
    (point,) = uneven.complete(sized(230), tmp_path / "large")
    assert uneven.train(sized(230), tmp_path / "large").trunk_tokens == 45 * 128
    assert point == points(tmp_path / "large")[-1]
