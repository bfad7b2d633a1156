"""What the benchmarks of training train: models, batches, and made-up text that any vocabulary can be learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.documents import content_fingerprint
from scaling.source import Local
from scaling.spec import RunSpec

NUM_WORDS = 60_000
FOLLOWERS = 4
"""Each word has so many that may come after it: there is something to learn."""


@dataclass(frozen=True)
class Case:
    """A model and its batch. tokens_per_second: about what one H200 (`tiny`: a core) trains, which sets the budget."""

    title: str
    model: Mapping[str, Any]
    vocab_size: int
    sequence_length: int
    num_sequences: int
    tokens_per_second: float
    learning_rate: float = 1e-3
    objective: str = "clm"
    precision: str = "bf16"


LLAMA_5M = {"kind": "llama", "hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 704}
BASE = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072}
TINY = {"kind": "llama", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 192}

CASES = {
    "5m-32": Case("Llama-style 5.3 M, 32 x 256", LLAMA_5M, 8192, 256, 32, 4e6),
    "5m-128": Case("Llama-style 5.3 M, 128 x 256", LLAMA_5M, 8192, 256, 128, 5e6),
    "5m-512": Case("Llama-style 5.3 M, 512 x 256", LLAMA_5M, 8192, 256, 512, 6e6),
    "gpt2": Case("GPT-2 124 M, 32 x 1024", {"kind": "gpt2", **BASE}, 50257, 1024, 32, 4.5e5, 6e-4),
    "bert": Case("BERT 110 M, masked LM, 64 x 512", {"kind": "bert", **BASE}, 30522, 512, 64, 5.5e5, 3e-4, "mlm"),
    "tiny": Case("the demo's model, 4 x 128", TINY, 1024, 128, 4, 4e4, 4e-3, precision="fp32"),
}


class Texts:
    """Documents of made-up words in one file, and specs that train on them."""

    def __init__(self, folder: Path, cache: Path, num_documents: int = 4000) -> None:
        """4000 documents are 24 MB of text, 5 to 10 million tokens; longer runs repeat them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.source = Local(path=str(folder / "texts.jsonl"), id="id")
        _write(folder / "texts.jsonl", num_documents)
        self.content = content_fingerprint(self.source, cache)

    def spec(self, case: Case, num_steps: int, changes: Mapping[str, Any] = {}) -> RunSpec:
        """A run of a case, evaluated four times; `{"placement.device": "cpu"}` changes a field of it."""
        batch_tokens = case.num_sequences * case.sequence_length
        tree: dict[str, Any] = {
            "name": "benchmark",
            "study": {"name": "benchmark", "question": "How fast?", "target": "texts"},
            "recipe": {
                "corpus": {"domains": {"texts": self.source.model_dump()}},
                "decontamination": {"kind": "none"},
                "mixture": {"weights": {"texts": 1.0}},
            },
            "tokenizer": {"kind": "bpe", "vocab_size": case.vocab_size, "domains": ["texts"], "num_bytes": 8_000_000},
            "model": dict(case.model),
            "objective": {"kind": case.objective},
            "budget": {"num_tokens": num_steps * batch_tokens, "max_epochs": None},
            "schedule": {"kind": "cosine", "warmup_tokens": 20 * batch_tokens},
            "optimizer": {"learning_rate": case.learning_rate},
            "batch": {"num_sequences": case.num_sequences, "sequence_length": case.sequence_length},
            "precision": case.precision,
            "evaluation": {"every_tokens": max(1, num_steps // 4) * batch_tokens},
            "content": {"texts": self.content},
        }
        for path, value in changes.items():
            *parents, leaf = path.split(".")
            part = tree
            for parent in parents:
                part = part.setdefault(parent, {})
            part[leaf] = value
        return RunSpec.model_validate(tree)


def _write(path: Path, num_documents: int, num_words: int = 1000) -> None:
    """Documents as walks over words; all of them take a step at a time."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(sorted({"".join(rng.choice(letters, size)) for size in rng.integers(3, 8, size=NUM_WORDS)}))
    follow = rng.integers(0, len(words), size=(len(words), FOLLOWERS))
    walks = np.empty((num_documents, num_words), dtype=np.int64)
    walks[:, 0] = rng.integers(0, len(words), size=num_documents)
    for place in range(1, num_words):
        walks[:, place] = follow[walks[:, place - 1], rng.integers(0, FOLLOWERS, size=num_documents)]
    with path.open("w", encoding="utf-8") as file:
        for number, walk in enumerate(walks):
            file.write(json.dumps({"id": str(number), "text": " ".join(words[walk])}) + "\n")
