"""A tokenizer trained once per study, on training documents only, or that of the checkpoint that a run goes on from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.cache import build_once, read_manifest
from scaling.data.document_sets import DocumentSet
from scaling.data.pretrained import checked_tokenizer
from scaling.identity import digest
from scaling.spec import RunSpec
from scaling.tokenizer import AnyTokenizer, CheckpointTokenizer, Tokenizer

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT, MASK, PAD = "<|endoftext|>", "<|mask|>", "<|pad|>"
"""The first tokens of every vocabulary that is trained here, in this order."""
UNKNOWN = "[UNK]"

TRAINING_VERSION = 1
"""Raised when a change of this file changes the vocabulary."""


@dataclass(frozen=True)
class TrainedTokenizer:
    """A tokenizer in the cache.

    vocab_size: tokens it really has; fewer than asked for if the text did not give more.
    end_of_text_id: of the token after each document.
    token_bytes [vocab_size]: UTF-8 bytes of each token, None where tokens are not bytes (WordPiece).
    """

    path: Path
    address: str
    vocab_size: int
    end_of_text_id: int
    token_bytes: NDArray[np.int64] | None

    def load(self) -> tokenizers.Tokenizer:
        """The tokenizer itself; text that spells a special token is encoded as text."""
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(str(self.path))
        tokenizer.encode_special_tokens = True
        return tokenizer


def tokenizer_address(spec: AnyTokenizer, corpus: Mapping[str, DocumentSet]) -> str:
    """A digest of all that a tokenizer is made of: the spec, and the training documents of its domains."""
    domains = spec.domains if isinstance(spec, Tokenizer) else ()
    return digest(
        {
            "version": TRAINING_VERSION,
            "tokenizer": spec.model_dump(mode="json"),
            "texts": {name: corpus[name].identity for name in domains},
        }
    )


def open_tokenizer(
    spec: RunSpec, corpus: Mapping[str, DocumentSet], cache: Path, report: Callable[[str], None]
) -> TrainedTokenizer:
    """The tokenizer of a run, from the cache, or trained or taken from its checkpoint now."""
    if isinstance(spec.tokenizer, CheckpointTokenizer):
        return take_tokenizer(spec, spec.tokenizer, cache)
    return train_tokenizer(spec.tokenizer, corpus, cache, report)


def take_tokenizer(spec: RunSpec, taken: CheckpointTokenizer, cache: Path) -> TrainedTokenizer:
    """The tokenizer of the run's checkpoint. ValueError if it is no longer what the run was specified with."""

    def build(folder: Path) -> dict[str, Any]:
        source = checked_tokenizer(spec.model, taken)
        shutil.copyfile(source, folder / "tokenizer.json")
        lengths = checkpoint_token_bytes(json.loads(source.read_text(encoding="utf-8")), taken.vocab_size)
        if lengths is not None:
            np.save(folder / "token_bytes.npy", lengths)
        return {"version": TRAINING_VERSION, "kind": taken.kind, "vocab_size": taken.vocab_size, "trained_on_bytes": {}}

    return _opened(taken, build_once(cache / "tokenizers", tokenizer_address(taken, {}), build))


def train_tokenizer(
    spec: Tokenizer, corpus: Mapping[str, DocumentSet], cache: Path, report: Callable[[str], None]
) -> TrainedTokenizer:
    """The tokenizer of `spec`, from the cache or trained now. corpus: training documents by domain, unharmed."""

    def build(folder: Path) -> dict[str, Any]:
        num_bytes: Counter[str] = Counter()
        tokenizer = _train(spec, _texts(spec, corpus, num_bytes))
        tokenizer.save(str(folder / "tokenizer.json"))
        if spec.kind == "bpe":
            np.save(folder / "token_bytes.npy", token_bytes(tokenizer))
        facts = {
            "kind": spec.kind,
            "vocab_size": tokenizer.get_vocab_size(),
            "trained_on_bytes": dict(num_bytes),
        }
        report(f"tokenizer: {spec.kind}, {facts['vocab_size']:,} tokens, from {num_bytes.total():,} bytes")
        return {"version": TRAINING_VERSION, **facts}

    return _opened(spec, build_once(cache / "tokenizers", tokenizer_address(spec, corpus), build))


def _opened(spec: AnyTokenizer, entry: Path) -> TrainedTokenizer:
    lengths = entry / "token_bytes.npy"
    return TrainedTokenizer(
        path=entry / "tokenizer.json",
        address=entry.name,
        vocab_size=read_manifest(entry)["vocab_size"],
        end_of_text_id=spec.end_of_text_id,
        token_bytes=np.load(lengths) if lengths.exists() else None,
    )


def checkpoint_token_bytes(tree: Mapping[str, Any], vocab_size: int) -> NDArray[np.int64] | None:
    """UTF-8 bytes of each token of a byte-level BPE [vocab_size], from its tokenizer.json; 0 for special tokens.

    None where the tokens of a text need not be its bytes: another kind of model, a normaliser, or an added space.
    """
    split = tree.get("pre_tokenizer") or {}
    steps = split.get("pretokenizers", [split])
    byte_level = [step for step in steps if step.get("type") == "ByteLevel"]
    others = [step for step in steps if step.get("type") not in ("ByteLevel", "Split", "Digits")]
    if tree["model"].get("type") != "BPE" or tree.get("normalizer") or not byte_level or others:
        return None
    if any(step.get("add_prefix_space") for step in byte_level):
        return None
    lengths = np.zeros(vocab_size, dtype=np.int64)
    for token, index in tree["model"]["vocab"].items():
        lengths[index] = len(token)
    for token in tree.get("added_tokens", []):
        lengths[token["id"]] = 0 if token["special"] else len(token["content"].encode())
    return lengths


def token_bytes(tokenizer: tokenizers.Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes of each token of a byte-level BPE [vocab_size]; 0 for special tokens.

    In byte-level BPE a token is spelled with one character per byte, so the sum over the tokens of a text is
    exactly `len(text.encode())`.
    """
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = len(token)
    lengths[[Tokenizer.end_of_text_id, Tokenizer.mask_id, Tokenizer.pad_id]] = 0
    return lengths


def _texts(spec: Tokenizer, corpus: Mapping[str, DocumentSet], num_bytes: Counter[str]) -> Iterator[str]:
    """Training text before any selection, `spec.num_bytes` in all, shared evenly; less where a domain has less.

    `num_bytes` counts what was given, by domain. Domains come in the order of their names.
    """
    share = spec.num_bytes // len(spec.domains)
    for name in sorted(spec.domains):
        for text in corpus[name].texts():
            encoded = text.encode()[: share - num_bytes[name]]
            num_bytes[name] += len(encoded)
            yield encoded.decode(errors="ignore")  # the cut may go through a character
            if num_bytes[name] >= share:
                break


def _train(spec: Tokenizer, texts: Iterator[str]) -> tokenizers.Tokenizer:
    tokenizer = _train_bpe(spec, texts) if spec.kind == "bpe" else _train_wordpiece(spec, list(texts))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _train_bpe(spec: Tokenizer, texts: Iterator[str]) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    # No normaliser, no prefix space: tokens give the text back byte for byte, so bits per byte is exact.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=[END_OF_TEXT, MASK, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_wordpiece(spec: Tokenizer, texts: list[str]) -> tokenizers.Tokenizer:
    """BERT's tokenizer: lower-cased words, cut into pieces that go on as `##piece`.

    `tokenizers` numbers the `##` letters in the order of a hash map, which differs between processes, and
    breaks ties by number. Handed over as special tokens they keep the order given here, so that training is
    deterministic; the tokenizer made of the vocabulary then knows only the true special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = [END_OF_TEXT, MASK, PAD, UNKNOWN]

    def untrained(model: models.Model) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    learner = untrained(models.WordPiece(unk_token=UNKNOWN))
    words: Counter[str] = Counter()
    for text in texts:
        normal = learner.normalizer.normalize_str(text)
        words.update(word for word, _ in learner.pre_tokenizer.pre_tokenize_str(normal))
    alphabet, continued = _letters(words, max_symbols=3 * spec.vocab_size // 4)
    trainer = trainers.WordPieceTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=[*special, *(f"##{letter}" for letter in continued)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    tokenizer = untrained(models.WordPiece(learner.get_vocab(), unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _letters(words: Counter[str], max_symbols: int) -> tuple[list[str], list[str]]:
    """The most frequent letters, and those of them that go on a word, `max_symbols` in all; both sorted."""
    frequency: Counter[str] = Counter()
    going_on: set[str] = set()
    for word, count in words.items():
        for letter in word:
            frequency[letter] += count
        going_on.update(word[1:])
    alphabet: list[str] = []
    num_symbols = 0
    for letter, _ in sorted(frequency.items(), key=lambda item: (-item[1], item[0])):
        num_symbols += 1 + (letter in going_on)
        if num_symbols > max_symbols:
            break
        alphabet.append(letter)
    return sorted(alphabet), sorted(going_on.intersection(alphabet))
