"""What the tests of training share: a tiny corpus, a tiny spec, one server that forks all runs."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from lab import CANARY, Lab, SpecMaker

from scaling.data.documents import content_fingerprint
from scaling.launch import start_server
from scaling.source import Local
from scaling.spec import RunSpec

PREPARED = ("cards", "columns", "documents", "domains", "duplicates", "held_out", "selections", "tokenizers", "tokens")
"""Folders of a cache that hold prepared data."""


def write_domain(path: Path, seed: int, num_documents: int = 80) -> None:
    """Documents of made-up words, where each word has five that may follow it: there is something to learn."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 6))) for _ in range(60)]
    follow = {word: rng.choices(words, k=5) for word in words}
    with path.open("w", encoding="utf-8") as file:
        for i in range(num_documents):
            text = [rng.choice(words)]
            while len(text) < 150:
                text.append(rng.choice(follow[text[-1]]))
            file.write(json.dumps({"id": f"{path.stem}-{i}", "text": " ".join(text)}) + "\n")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three domains of some 30 thousand tokens each: name -> path of a jsonl file."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, name in enumerate(("alpha", "beta", "gamma")):
        write_domain(folder / f"{name}.jsonl", seed)
    return {path.stem: str(path) for path in sorted(folder.glob("*.jsonl"))}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers and token stores, built once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(shared_cache: Path, tmp_path: Path) -> Path:
    """A cache with the shared tokens and trunks of its own."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in PREPARED:
        (shared_cache / name).mkdir(exist_ok=True)
        (folder / name).symlink_to(shared_cache / name)
    return folder


@pytest.fixture(scope="session")
def spec(corpus: dict[str, str], shared_cache: Path) -> SpecMaker:
    """A spec of 64 steps of 4 x 32 tokens on two domains; `{"zero.stage": 3}` changes a field of it."""
    domains = {name: {"kind": "local", "path": path, "id": "id"} for name, path in corpus.items()}
    content = {
        name: content_fingerprint(Local.model_validate(source), shared_cache) for name, source in domains.items()
    }

    def make(changes: Mapping[str, Any] = {}) -> RunSpec:
        tree: dict[str, Any] = {
            "name": "run",
            "study": {"name": "tiny", "question": "Does it work?", "target": "alpha"},
            "recipe": {
                "corpus": {"domains": domains, "validation_frac": 0.1},
                "mixture": {"weights": {"alpha": 0.75, "beta": 0.25}},
            },
            "tokenizer": {"kind": "bpe", "vocab_size": 320, "domains": sorted(domains), "num_bytes": 100_000},
            "model": {"kind": "llama", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 72},
            "objective": {"kind": "clm"},
            "budget": {"num_tokens": 64 * 128},
            "schedule": {"kind": "wsd", "warmup_tokens": 512, "decay_frac": 0.25},
            "optimizer": {"learning_rate": 1e-2},
            "batch": {"num_sequences": 4, "sequence_length": 32},
            "evaluation": {"max_tokens": 2000, "every_tokens": 2048},
            "content": content,
            "placement": {"device": "cpu", "threads": 1},
        }
        for path, value in changes.items():
            *parents, leaf = path.split(".")
            part = tree
            for parent in parents:
                part = part.setdefault(parent, {})
            part[leaf] = value
        if tree["objective"]["kind"] != "clm" and tree["model"]["kind"] == "llama":
            tree["model"]["kind"] = "bert"
        return RunSpec.model_validate(tree)

    return make


@pytest.fixture(scope="session")
def server() -> ForkServerContext:
    """The process that has torch, transformers and deepspeed loaded; every run of the tests is a fork of it."""
    os.environ["WANDB_API_KEY"] = CANARY
    preloaded = ("train.pretrain", "train.zero", "finetune.finetune", "finetune.kinds.classification")
    return start_server([f"scaling.{name}" for name in preloaded])


@pytest.fixture
def lab(server: ForkServerContext, cache: Path) -> Lab:
    return Lab(server, cache)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one works: a folder with a file for each of two domains, and a cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    for domain in "ab":
        (tmp_path / f"{domain}.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")
