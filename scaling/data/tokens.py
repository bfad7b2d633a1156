"""TokenStore: the tokenised documents of a DocumentSet on disk.

A store holds every document, whatever a recipe keeps of them: sweeping filters, dedup, quality, mixture, size
and seed tokenises nothing again.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once, read_manifest
from scaling.data.document_sets import DocumentSet
from scaling.data.tokenizer import TrainedTokenizer
from scaling.identity import digest

if TYPE_CHECKING:
    import tokenizers

STORE_VERSION = 2
"""Raised when a change of code changes what a store holds."""

BATCH_CHARACTERS = 500_000
PIECE_CHARACTERS = 250_000
BATCHES_AT_ONCE = 2


@dataclass(frozen=True)
class TokenStore:
    """Documents one after the other, each followed by end-of-text, as uint16 or uint32; one file per part."""

    parts: tuple[Path, ...]
    dtype: str

    @functools.cached_property
    def tokens(self) -> NDArray[Any]:
        """All tokens [num_tokens]; mapped into memory read-only where the store has one part."""
        return self._maps[0] if len(self._maps) == 1 else np.concatenate(self._maps)

    @functools.cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each document starts, and the end of the last [num_documents + 1]."""
        offsets = [np.load(part / "offsets.npy") for part in self.parts]
        return np.concatenate([[0], *(part[1:] + start for part, start in zip(offsets, self._starts, strict=True))])

    @property
    def num_documents(self) -> int:
        return len(self.offsets) - 1

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The tokens at some places of the whole store [num_places]."""
        if len(self._maps) == 1:
            return self._maps[0][places]
        taken = np.empty(len(places), dtype=self.dtype)
        part_of = np.searchsorted(self._starts, places, side="right") - 1
        for part in np.unique(part_of):
            mine = part_of == part
            taken[mine] = self._maps[part][places[mine] - self._starts[part]]
        return taken

    @functools.cached_property
    def _maps(self) -> list[NDArray[Any]]:
        return [_map(part / "tokens.bin", self.dtype) for part in self.parts]

    @functools.cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The place of each part's first token [num_parts]."""
        sizes = [len(part) for part in self._maps]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def _map(path: Path, dtype: str) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a memmap's own indexing takes 14 % of reading


def store_address(part: str, documents: DocumentSet, tokenizer: str) -> str:
    """The address of one part of a store: a digest of all that it is made of."""
    return digest({"version": STORE_VERSION, "part": part, "side": documents.side, "tokenizer": tokenizer})


def build_store(documents: DocumentSet, tokenizer: TrainedTokenizer) -> TokenStore:
    """The store of a domain on one side, from the cache or built now."""
    built = tuple(build_store_part(documents, part, tokenizer) for part in range(documents.num_parts))
    return TokenStore(built, read_manifest(built[0])["dtype"])


def build_store_part(documents: DocumentSet, part: int, tokenizer: TrainedTokenizer) -> Path:
    """One part of a store, from the cache or built now."""

    def build(folder: Path) -> dict[str, Any]:
        texts = (text for batch in documents.batches(part, "text") for text in batch["text"])
        dtype = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
        num_tokens = write_tokens(folder, texts, tokenizer.load(), dtype, tokenizer.end_of_text_id)
        documents.report(f"{documents.name}: {num_tokens:,} {documents.side} tokens")
        return {"version": STORE_VERSION, "domain": documents.name, "side": documents.side, "dtype": dtype}

    address = store_address(documents.addresses[part], documents, tokenizer.address)
    return build_once(documents.cache / "tokens", address, build)


def write_tokens(
    folder: Path, texts: Iterable[str], tokenizer: tokenizers.Tokenizer, dtype: str, end_of_text_id: int
) -> int:
    """Write tokens.bin and offsets.npy, a few batches of text in memory at a time; return the number of tokens."""
    lengths: list[int] = []
    with (folder / "tokens.bin").open("wb") as file:
        for tokens, of_batch in _encoded(texts, tokenizer, dtype, end_of_text_id):
            file.write(tokens.tobytes())
            lengths += of_batch
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    np.save(folder / "offsets.npy", offsets.astype(np.int64))
    return int(offsets[-1])


def _encoded(
    texts: Iterable[str], tokenizer: tokenizers.Tokenizer, dtype: str, end_of_text_id: int
) -> Iterator[tuple[NDArray[Any], list[int]]]:
    """The tokens of each batch of texts, each text with its end, and their lengths. While one batch becomes an
    array, the next one is encoded, off the GIL."""

    def encode(batch: list[str]) -> tuple[NDArray[Any], list[int]]:
        pieces = [_pieces(text) for text in batch]
        encoded = iter(
            tokenizer.encode_batch_fast([piece for of_text in pieces for piece in of_text], add_special_tokens=False)
        )
        ids: list[int] = []
        lengths = []
        for of_text in pieces:
            start = len(ids)
            for _ in of_text:
                ids += next(encoded).ids
            ids.append(end_of_text_id)
            lengths.append(len(ids) - start)
        return np.array(ids, dtype=dtype), lengths

    waiting: deque[Future[tuple[NDArray[Any], list[int]]]] = deque()
    with ThreadPoolExecutor(BATCHES_AT_ONCE) as pool:
        for batch in _batches(texts):
            waiting.append(pool.submit(encode, batch))
            if len(waiting) > BATCHES_AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_characters = 0
    for text in texts:
        batch.append(text)
        num_characters += len(text)
        if num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _pieces(text: str) -> Sequence[str]:
    """A long text cut before line breaks, where no token reaches across, so that threads can share it
    and its encoding does not fill the memory."""
    pieces = []
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = text.rfind("\n", start + 1, start + PIECE_CHARACTERS)
        while end > start and text[end - 1].isspace():  # a run of white space may be one token
            end = text.rfind("\n", start + 1, end)
        end = end if end > start else start + PIECE_CHARACTERS
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return pieces
