"""Every adaptation learns the same under DeepSpeed, its weights shared out, as on one rank of plain torch."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, make_bench
from lab import SpecMaker
from safetensors.torch import load_file

from scaling.launch import launch
from scaling.status import read_status

ADAPTATIONS: dict[str, dict[str, Any]] = {
    "discriminative": {"kind": "full", "layer_decay": 0.5},
    "top_layers": {"kind": "top_layers"},
    "lora": {"kind": "lora", "rank": 4},
    "adalora": {"kind": "adalora", "initial_rank": 4, "rank": 2},
    "prefix": {"kind": "prefix", "num_tokens": 4},
    "adapter": {"kind": "adapter", "size": 4},
}


@pytest.fixture(scope="module")
def bench(spec: SpecMaker, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(spec, shared_cache, tmp_path_factory.mktemp("bench"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTATIONS)
@pytest.mark.parametrize("stage", [2, 3])
def test_an_adaptation_learns_the_same_over_ranks(
    server: ForkServerContext, bench: Bench, name: str, stage: int
) -> None:
    of_both = {"method.adaptation": ADAPTATIONS[name], "method.dropout": 0.0, "schedule.num_epochs": 1.0}
    alone = bench.run(bench.spec(of_both), f"alone-{name}-{stage}")
    folder = bench.runs / f"shared-{name}-{stage}"
    # Nothing is small enough to be kept whole on every rank.
    placed = {"placement.ranks": 2, "zero.stage": stage, "zero.stage3_param_persistence_threshold": 0}
    process = launch(server, bench.spec({**of_both, **placed}), folder, bench.cache)
    process.join(180)
    assert read_status(folder).state == "complete", (folder / "log.txt").read_text()[-4000:]
    for path in (alone / "model").glob("*.safetensors"):
        one, other = load_file(path), load_file(folder / "model" / path.name)
        assert set(one) == set(other)
        for weight in one:
            assert (one[weight] - other[weight]).abs().max() < 1e-3, (path.name, weight)
