"""Tokenising against `tokenizers` alone, and the peak memory of preparing a corpus against one ten times as large."""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.budget import Budget
from scaling.data.documents import content_fingerprint
from scaling.data.filters.gopher_quality import GopherQuality
from scaling.data.prepare import prepare
from scaling.data.tokenizer import _train
from scaling.data.tokens import write_tokens
from scaling.mixture import Weights
from scaling.model import Llama
from scaling.objective import CausalLM
from scaling.recipe import Corpus, Recipe
from scaling.source import Local
from scaling.spec import AdamW, Batch, Cosine, RunSpec, Study
from scaling.tokenizer import Tokenizer

VOCAB_SIZE = 8192
ROUNDS = 5


def tokenising(texts: Sequence[str]) -> dict[str, Any]:
    """Characters per second of tokenising and writing a store, against `encode_batch` that keeps nothing.

    The rounds alternate, and the fastest of each side counts: what other processes take falls on both.
    """
    tokenizer = _train(Tokenizer(vocab_size=VOCAB_SIZE, domains=("texts",)), iter(texts))
    num_characters = sum(map(len, texts))
    ours, alone = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            write_tokens(Path(folder), texts, tokenizer, "uint16", Tokenizer.end_of_text_id)
            ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        tokenizer.encode_batch(texts, add_special_tokens=False)
        alone.append(time.perf_counter() - start)
    return {
        "what": "tokenise and write a store",
        "ours": round(num_characters / min(ours)),
        "peer": round(num_characters / min(alone)),
        "peer_name": "tokenizers encode_batch, nothing written",
        "ratio": round(min(alone) / min(ours), 2),
        "unit": "characters per second",
    }


def peak_memory(texts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Peak memory of preparing a corpus (read, split, filter, decontaminate, tokenise) and one ten times as large."""
    peaks = []
    for times in (1, 10):
        path = folder / f"{times}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(times):
                for text in texts:
                    words = text.split(" ")
                    random.Random(number).shuffle(words)  # else each text would have its copies in validation
                    file.write(json.dumps({"text": " ".join(words)}, ensure_ascii=False) + "\n")
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_peak_of_preparing, args=(path, folder / f"cache{times}", sender))
        process.start()
        peaks.append(receiver.recv())
        process.join()
    size = sum(len(text.encode()) for text in texts)
    return {
        "what": f"peak memory of preparing {10 * size / 2**20:.0f} MiB of text",
        "ours": round(peaks[1] / 2**20),
        "peer": round(peaks[0] / 2**20),
        "peer_name": f"preparing {size / 2**20:.0f} MiB of text",
        "ratio": round(peaks[1] / peaks[0], 2),
        "unit": "MiB",
    }


def _peak_of_preparing(path: Path, cache: Path, sender: Any) -> None:
    source = Local(path=str(path))
    spec = RunSpec(
        name="benchmark",
        study=Study(name="benchmark", question="?", target="texts"),
        recipe=Recipe(
            corpus=Corpus(domains={"texts": source}),
            filters=(GopherQuality(),),
            mixture=Weights(weights={"texts": 1.0}),
        ),
        tokenizer=Tokenizer(vocab_size=VOCAB_SIZE, domains=("texts",), num_bytes=2_000_000),
        model=Llama(hidden_size=8, num_layers=1, num_heads=1, intermediate_size=8),
        objective=CausalLM(),
        budget=Budget(num_tokens=1024),
        schedule=Cosine(warmup_tokens=0),
        optimizer=AdamW(learning_rate=1e-3),
        batch=Batch(num_sequences=1, sequence_length=1024),
        content={"texts": content_fingerprint(source, cache)},
    )
    prepare(spec, cache, lambda line: None)
    status = Path("/proc/self/status").read_text()  # not getrusage, whose peak is inherited from who started this
    sender.send(int(status.split("VmHWM:")[1].split()[0]) * 1024)
