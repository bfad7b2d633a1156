"""Reading through the mixture stream against random crops of one np.memmap.

16 domains of 8 million tokens in memory-mapped uint16 files, in documents of 20 to 2000 tokens of which a tenth is
dropped, shuffled; warm, one process, one thread; time is CPU time. The peer is the loader of nanoGPT (`get_batch`):
random crops of one file, converted and stacked; of its two copies, inputs and targets, only the first is made.
Ours does what the peer does not: shares in every prefix, every sequence once an epoch, dropped documents.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling.budget import Budget
from scaling.data.packing import PackedDocuments
from scaling.data.stream import MixtureStream
from scaling.data.tokens import TokenStore
from scaling.mixture import Stage
from scaling.recipe import Shuffled
from scaling.spec import Seeds

NUM_DOMAINS, TOKENS_PER_DOMAIN = 16, 8_000_000
BATCHES = ((32, 1024), (4, 128))
SECONDS, REPEATS = 2.0, 3


def write_store(folder: Path, rng: np.random.Generator) -> TokenStore:
    folder.mkdir()
    lengths = rng.integers(20, 2000, TOKENS_PER_DOMAIN // 20)
    ends = np.cumsum(lengths)
    offsets = np.concatenate([[0], ends[ends <= TOKENS_PER_DOMAIN]])
    rng.integers(0, 2**15, offsets[-1], dtype=np.uint16).tofile(folder / "tokens.bin")
    np.save(folder / "offsets.npy", offsets)
    return TokenStore((folder,), "uint16")


def open_stream(stores: list[TokenStore], sequence_length: int) -> MixtureStream:
    """All that the domains hold, read once; weights as uneven as 1 : 1.3 : 1.6 : ..."""
    raw = 1 + 0.3 * np.arange(NUM_DOMAINS)
    packed = {}
    for number, store in enumerate(stores):
        kept = np.flatnonzero(np.random.default_rng(number).random(store.num_documents) < 0.9)
        packed[f"domain{number:02}"] = PackedDocuments(store, kept, sequence_length)
    num_tokens = sum(documents.num_tokens for documents in packed.values())
    return MixtureStream(
        documents=packed,
        stages=[Stage(weights=dict(zip(packed, (raw / raw.sum()).tolist(), strict=True)))],
        order=Shuffled(),
        budget=Budget(num_tokens=num_tokens, max_epochs=None),
        seeds=Seeds(),
        max_sequences=num_tokens // sequence_length,
    )


def tokens_per_second(read: Callable[[int], torch.Tensor], num_batches: int) -> float:
    """Tokens read per second of CPU time, the best of some repeats: other work on the machine only slows."""
    rates = []
    for _ in range(REPEATS):
        start, tokens, step = time.process_time(), 0, 0
        while (seconds := time.process_time() - start) < SECONDS:
            tokens += read(step % num_batches).numel()
            step += 1
        rates.append(tokens / seconds)
    return max(rates)


def ours(stores: list[TokenStore], count: int, sequence_length: int) -> dict[str, float]:
    start = time.process_time()
    stream = open_stream(stores, sequence_length)
    stream.batch(0, count)
    opened = time.process_time() - start
    for first in range(0, stream.max_sequences - count, count):
        stream.batch(first, count)  # warm
    rate = tokens_per_second(
        lambda step: torch.from_numpy(stream.batch(step * count, count)), stream.max_sequences // count
    )
    places = np.random.default_rng(0).integers(0, stream.max_sequences, 2000).tolist()
    start = time.process_time()
    for i in places:
        stream.sequence(i)
    return {
        "ours": round(rate),
        "open_seconds": round(opened, 2),
        "random_sequence_us": round((time.process_time() - start) / len(places) * 1e6, 1),
    }


def random_crops(store: TokenStore, count: int, sequence_length: int) -> float:
    data = store.tokens

    def get_batch(step: int) -> torch.Tensor:
        ix = torch.randint(len(data) - sequence_length, (count,))
        return torch.stack([torch.from_numpy(data[i : i + sequence_length].astype(np.int64)) for i in ix])

    return tokens_per_second(get_batch, 1)


def reading() -> Iterator[dict[str, Any]]:
    """Tokens per second, for large and for small batches."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        stores = [write_store(Path(folder) / f"{number:02}", rng) for number in range(NUM_DOMAINS)]
        for count, length in BATCHES:
            peer = random_crops(stores[0], count, length)
            measured = ours(stores, count, length)
            yield {
                "what": f"reading {NUM_DOMAINS} shuffled domains in batches of {count} x {length}",
                **measured,
                "peer": round(peer),
                "peer_name": "random crops of one np.memmap",
                "ratio": round(measured["ours"] / peer, 2),
                "unit": "tokens per second per process",
                "tokens": NUM_DOMAINS * TOKENS_PER_DOMAIN,
            }
