from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_up import SpecMaker, sentences, write_jsonl

from scaling.budget import Budget
from scaling.data.documents import content_fingerprint
from scaling.mixture import Weights
from scaling.model import Llama
from scaling.objective import CausalLM
from scaling.recipe import Corpus, NoDecontamination, Recipe
from scaling.source import Local, Source
from scaling.spec import AdamW, Batch, Cosine, RunSpec, Study
from scaling.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real corpora kept beside the repository; tests that want them are skipped elsewhere."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "corpora"
    if not path.is_dir():
        pytest.skip("the shared corpora are not here")
    return path


@pytest.fixture
def make_spec(tmp_path: Path) -> SpecMaker:
    """A RunSpec over given sources, small in everything that is not data."""

    def make(
        sources: Mapping[str, Source],
        weights: Mapping[str, float],
        kind: str = "bpe",
        budget: Budget | None = None,
        references: Mapping[str, Source] = {},
        **recipe: Any,
    ) -> RunSpec:
        return RunSpec(
            name="run",
            study=Study(name="study", question="?", target=next(iter(sources))),
            recipe=Recipe(
                corpus=Corpus(domains=dict(sources), references=dict(references), validation_frac=0.1),
                mixture=Weights(weights=dict(weights)),
                **{"decontamination": NoDecontamination(), **recipe},  # made-up texts say the same things
            ),
            tokenizer=Tokenizer.model_validate(
                {"kind": kind, "vocab_size": 300, "domains": list(sources), "num_bytes": 100_000}
            ),
            model=Llama(hidden_size=8, num_layers=1, num_heads=1, intermediate_size=8),
            objective=CausalLM(),
            budget=budget or Budget(num_tokens=1024),
            schedule=Cosine(warmup_tokens=0),
            optimizer=AdamW(learning_rate=1e-3),
            batch=Batch(num_sequences=4, sequence_length=16),
            content={
                name: content_fingerprint(source, tmp_path / "cache")
                for name, source in {**sources, **references}.items()
            },
        )

    return make


@pytest.fixture
def two_domains(tmp_path: Path) -> dict[str, Source]:
    """Local domains `a` (80 documents) and `b` (120 documents)."""
    return {
        name: Local(path=str(write_jsonl(tmp_path / f"{name}.jsonl", sentences(num, name))))
        for name, num in (("a", 80), ("b", 120))
    }
