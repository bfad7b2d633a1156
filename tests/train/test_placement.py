"""Where a run computes must not change what it computes."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, SpecMaker, points, wandb_files

from scaling.data.documents import content_fingerprint
from scaling.source import Local

SHORT = {"budget.num_tokens": 40 * 128}
ALONE = {"placement.engine": "deepspeed"}  # which one rank does not need
PLACEMENTS = {"stage0-ranks1": SHORT}
PLACEMENTS |= {f"stage{stage}-ranks1": {**SHORT, **ALONE, "zero.stage": stage} for stage in (1, 2, 3)}
PLACEMENTS |= {f"stage{stage}-ranks2": {**SHORT, "zero.stage": stage, "placement.ranks": 2} for stage in range(4)}
PLACEMENTS |= {
    "stage0-micro2": {**SHORT, "placement.micro_batch": 2},
    "stage2-micro1": {**SHORT, **ALONE, "zero.stage": 2, "placement.micro_batch": 1},
    "stage3-offload": {**SHORT, "zero.stage": 3, "zero.offload_optimizer": {"device": "cpu"}},
    "stage2-offload-ranks2": {
        **SHORT,
        "zero.stage": 2,
        "placement.ranks": 2,
        "placement.micro_batch": 1,
        "zero.offload_optimizer": {"device": "cpu"},
    },
    "stage3-hpz-ranks2": {**SHORT, "zero.stage": 3, "placement.ranks": 2, "zero.zero_hpz_partition_size": 2},
}


def gradient_norms(run_dir: Path) -> list[float]:
    rows = [row for file in wandb_files(run_dir) for row in file.history]
    return [row["train/grad_norm"] for row in rows if "train/grad_norm" in row]


def assert_same_training(folder: Path, reference: str, others: Mapping[str, object], num_points: int = 3) -> None:
    """Points and gradient norms equal up to the order of floating-point sums, which training amplifies."""
    expected, norms = points(folder / reference), gradient_norms(folder / reference)
    assert (len(expected), len(norms)) == (num_points, 2)
    for name in others:
        found = points(folder / name)
        assert [point.tokens for point in found] == [point.tokens for point in expected], name
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.at_decay_end == theirs.at_decay_end
            for domain, sums in ours.domains.items():
                assert sums.loss == pytest.approx(theirs.domains[domain].loss, rel=3e-4), (name, domain)
                assert (sums.num_tokens, sums.num_bytes) == (
                    theirs.domains[domain].num_tokens,
                    theirs.domains[domain].num_bytes,
                )
        # A sum in place of a mean would be off by the number of ranks or of micro-batches.
        assert gradient_norms(folder / name) == pytest.approx(norms, rel=2e-2), name


@pytest.mark.slow
def test_stage_ranks_micro_batch_and_offload_change_nothing_of_a_causal_model(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    lab.train_all({name: spec(changes) for name, changes in PLACEMENTS.items()}, tmp_path)
    assert_same_training(tmp_path, "stage0-ranks1", PLACEMENTS)


def test_stage_ranks_and_micro_batch_change_nothing_of_a_masked_model(
    lab: Lab, spec: SpecMaker, tmp_path: Path
) -> None:
    names = ("stage0-ranks1", "stage0-ranks2", "stage3-ranks2", "stage2-micro1")
    chosen = {name: PLACEMENTS[name] for name in names}
    lab.train_all({name: spec({"objective.kind": "mlm", **changes}) for name, changes in chosen.items()}, tmp_path)
    assert_same_training(tmp_path, "stage0-ranks1", chosen)


@pytest.fixture
def uneven_documents(tmp_path: Path, shared_cache: Path) -> dict[str, Any]:
    """A corpus whose documents have one word or fifty: of 32 tokens, a causal model predicts 26 to 31."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 6))) for _ in range(60)]
    changes: dict[str, Any] = {"recipe.corpus.domains": {}, "content": {}}
    for name in ("alpha", "beta", "gamma"):
        path = tmp_path / f"{name}.jsonl"
        texts = [" ".join(rng.choices(words, k=rng.choice((1,) * 19 + (50,)))) + f" {i}" for i in range(1200)]
        path.write_text("".join(json.dumps({"id": f"{name}-{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
        source = {"kind": "local", "path": str(path), "id": "id"}
        changes["recipe.corpus.domains"][name] = source
        changes["content"][name] = content_fingerprint(Local.model_validate(source), shared_cache)
    return changes


@pytest.mark.parametrize("kind", ["clm", "mlm"])
def test_stage_ranks_and_micro_batch_change_nothing_of_isolated_documents(
    lab: Lab, spec: SpecMaker, tmp_path: Path, uneven_documents: dict[str, Any], kind: str
) -> None:
    isolated = {"objective.kind": kind, "batch.isolate_documents": True, **uneven_documents}
    names = ("stage0-ranks1", "stage0-ranks2", "stage3-ranks2", "stage2-micro1")
    chosen = {name: PLACEMENTS[name] for name in names}
    lab.train_all({name: spec({**changes, **isolated}) for name, changes in chosen.items()}, tmp_path)
    assert_same_training(tmp_path, "stage0-ranks1", chosen)


def test_weights_that_do_not_divide_by_the_ranks_train_under_stage_3(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    """Three ranks and a hidden size of 20: hardly a parameter has a multiple of 3 elements."""
    odd = {"model.hidden_size": 20, "model.intermediate_size": 50, "batch.num_sequences": 3}
    odd["budget.num_tokens"] = 40 * 96 + 32
    chosen = {
        "stage0-ranks1": {},
        "stage3-ranks3": {"zero.stage": 3, "placement.ranks": 3},
    }
    lab.train_all({name: spec({**odd, **changes}) for name, changes in chosen.items()}, tmp_path)
    assert_same_training(tmp_path, "stage0-ranks1", chosen, num_points=2)


def test_sixteen_bits_on_two_ranks_train_as_fp32_does(lab: Lab, spec: SpecMaker, tmp_path: Path) -> None:
    chosen = {
        "fp32": {},
        "stage2-ranks2": {"precision": "bf16", "zero.stage": 2, "placement.ranks": 2},
        "stage1-ranks2-micro1": {
            "precision": "bf16",
            "zero.stage": 1,
            "placement.ranks": 2,
            "placement.micro_batch": 1,  # gradients are summed up in fp32, by another optimiser of DeepSpeed's
        },
        "fp16-ranks2": {"precision": "fp16", "zero.stage": 2, "placement.ranks": 2},
    }
    statuses = lab.train_all({name: spec(changes) for name, changes in chosen.items()}, tmp_path)
    for status in statuses.values():
        assert status.loss["alpha"] == pytest.approx(statuses["fp32"].loss["alpha"], rel=0.02)  # 8 bits of mantissa
    assert points(tmp_path / "stage2-ranks2") != points(tmp_path / "fp32")
