"""The micro-batch found from memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import SpecMaker
from small_device import Device

from scaling.spec import RunSpec
from scaling.train.probe import bytes_besides, found_micro_batch, micro_batches, pretraining_trial, with_micro_batch


def found(run: RunSpec, cache: Path, device: str, attempt: Callable[[int], None]) -> int:
    return found_micro_batch(run, pretraining_trial(run), cache, device, attempt)


def test_what_is_tried_divides_the_share_and_keeps_pairs_together(spec: SpecMaker) -> None:
    assert micro_batches(spec({"batch.num_sequences": 24, "placement.ranks": 2})) == [12, 6, 3, 1]
    assert micro_batches(spec({"batch.num_sequences": 7})) == [7, 1]
    pairs = spec({"batch.num_sequences": 12, "objective.kind": "mlm_nsp"})
    assert micro_batches(pairs, pretraining_trial(pairs).together) == [12, 6, 2]


def test_the_first_run_backs_off_and_all_others_take_what_it_found(spec: SpecMaker, tmp_path: Path) -> None:
    small, smaller = Device(most=5), Device(most=1)
    run = spec({"batch.num_sequences": 12})
    assert found(run, tmp_path, "small", small) == 3
    assert small.tried == [12, 6, 3]
    again = spec({"batch.num_sequences": 12, "seeds.init": 5, "optimizer.learning_rate": 1.0})
    assert found(again, tmp_path, "small", smaller) == 3
    assert smaller.tried == []


@pytest.mark.parametrize(
    "change",
    [
        {"model.hidden_size": 64},
        {"precision": "bf16"},
        {"zero.stage": 2, "placement.engine": "deepspeed"},
        {"batch.sequence_length": 16},
        {"placement.runs_per_device": 2},
        {"placement.activation_checkpointing": True},
    ],
)
def test_whatever_changes_memory_is_tried_anew(spec: SpecMaker, tmp_path: Path, change: dict[str, object]) -> None:
    found(spec(), tmp_path, "card", Device(most=4))
    other = Device(most=2)
    assert found(spec(change), tmp_path, "card", other) == 2
    assert found(spec(), tmp_path, "other card", other) == 2
    assert other.tried == [4, 2, 4, 2]


def test_plain_torch_holds_the_same_under_any_stage_and_tries_once(spec: SpecMaker, tmp_path: Path) -> None:
    found(spec(), tmp_path, "card", Device(most=4))
    other = Device(most=2)
    assert found(spec({"zero.stage": 3}), tmp_path, "card", other) == 4
    assert other.tried == []


def test_a_model_that_does_not_fit_at_all_is_an_error_that_says_what_to_change(spec: SpecMaker, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"placement\.micro_batch: 1 of 32 tokens do not fit on the device; choose"):
        found(spec(), tmp_path, "card", Device(most=0))
    assert found(spec(), tmp_path, "card", Device(most=9)) == 4  # and is not remembered


def test_an_error_that_is_not_of_memory_is_not_backed_off_from(spec: SpecMaker, tmp_path: Path) -> None:
    def broken(size: int) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        found(spec(), tmp_path, "card", broken)


def test_a_cpu_takes_the_whole_share(spec: SpecMaker, tmp_path: Path) -> None:
    run = spec()
    assert with_micro_batch(run, tmp_path, pretraining_trial(run)) is run
    assert not list(tmp_path.iterdir())


def test_what_an_engine_holds_besides_shrinks_with_its_stage_and_offload(spec: SpecMaker) -> None:
    """In bytes per parameter: masters and moments, the gradients of a pass and their sum, buckets."""

    def besides(**changes: Any) -> float:
        run = spec({"precision": "bf16", "placement.ranks": 4, **changes})
        num_params = run.num_params + run.anatomy.embedding_params
        return bytes_besides(run, num_params, num_params) / num_params

    assert besides(**{"placement.ranks": 1}) == pytest.approx(12 + 2 + 4, rel=1e-3)
    assert besides(**{"placement.ranks": 1, "zero.stage": 1}) == besides(**{"placement.ranks": 1}), "no buckets"
    assert besides(**{"zero.stage": 1}) == pytest.approx(3 + 2 + 1 + 2, rel=1e-3)
    assert besides(**{"zero.stage": 2, "zero.reduce_bucket_size": 8}) == pytest.approx(3 + 0.5 + 1, rel=1e-2)
    assert besides(**{"zero.stage": 3}) == pytest.approx(3 + 0.5 + 1 + 2 * 2, rel=1e-3)
    offloaded = {"zero.stage": 3, "zero.offload_optimizer": {"device": "cpu"}}
    assert besides(**offloaded) == pytest.approx(0.5 + 1 + 2 * 2, rel=1e-3)
