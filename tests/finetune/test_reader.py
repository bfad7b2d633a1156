"""What a model reads of texts, pairs and words, with tokenizers of ours and of checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Trained
from tokenizers import models, normalizers, pre_tokenizers

from scaling.data.tokenizer import _train
from scaling.finetune.reader import Reader, open_reader
from scaling.model import Family
from scaling.tokenizer import Tokenizer

TEXT = ["the cat sat on the mat, 中文诗句 and the dog barked at EU officials"] * 20

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A folder with the tokenizer.json of a kind."""
    root = tmp_path_factory.mktemp("tokenizers")

    def save(kind: str) -> Path:
        folder = root / kind
        if not folder.exists():
            folder.mkdir()
            made = (
                _bert() if kind == "bert" else _train(Tokenizer(kind=kind, vocab_size=400, domains=("a",)), iter(TEXT))
            )
            made.save(str(folder / "tokenizer.json"))
        return folder

    return save


def _bert() -> Trained:
    """As BERT's own: [PAD] first, and a post-processor that would add special tokens."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "cls", "[", "]"]
    made = Trained(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    made.enable_truncation(4)
    made.enable_padding(length=4)
    return made


def reader_of(saved: Saved, kind: str, family: Family = "bert") -> Reader:
    return open_reader(saved(kind), family)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_with_a_tokenizer_of_ours_end_of_text_stands_before_between_and_after(saved: Saved, kind: str) -> None:
    reader = reader_of(saved, kind)
    first, second = reader.encode(["the cat", "the dog sat"])
    laid = reader.lay(first, second, 64)
    assert laid.inputs.tolist() == [0, *first, 0, *second, 0]
    assert laid.types is not None
    assert laid.types.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert [laid.inputs[at] for at in laid.starts] == [first[0], second[0]]
    assert laid.num_cut == 0
    assert reader.lay(first, None, 64).inputs.tolist() == [0, *first, 0]


def test_a_tokenizer_of_bert_puts_its_own_and_neither_cuts_nor_pads_by_itself(saved: Saved) -> None:
    reader = reader_of(saved, "bert")
    texts = reader.encode(["the cat sat the cat sat", "cats"])
    assert reader.lay(*texts, 64).inputs.tolist() == [2, 5, 6, 7, 5, 6, 7, 3, 6, 8, 3]
    assert reader.encode(["[CLS]"])[0].tolist() == [10, 9, 11]


def test_special_tokens_are_those_that_the_folder_names(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((saved("bert") / "tokenizer.json").read_bytes())
    config = {"cls_token": {"content": "cat"}, "eos_token": "sat", "sep_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    reader = open_reader(tmp_path, "bert")
    assert (reader.start, reader.between, reader.end) == (6, 7, 7)


def test_a_folder_without_a_tokenizer_or_without_an_end_is_refused(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is none"):
        open_reader(tmp_path, "bert")
    Trained(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="names no token for the end"):
        open_reader(tmp_path, "bert")


@pytest.mark.parametrize("family", ["llama", "gpt2", "modernbert"])
def test_a_model_without_type_embeddings_is_told_no_types(saved: Saved, family: Family) -> None:
    reader = reader_of(saved, "bpe", family)
    first, second = reader.encode(["the", "cat"])
    assert reader.lay(first, second, 64).types is None


@given(first=st.integers(0, 40), second=st.one_of(st.none(), st.integers(0, 40)), max_length=st.integers(8, 50))
def test_a_pair_is_cut_as_if_the_last_token_of_the_longer_text_went_until_it_fits(
    first: int, second: int | None, max_length: int
) -> None:
    reader = Reader(Trained(models.BPE()), 1, 2, 3, True)
    laid = reader.lay(np.full(first, 7), None if second is None else np.full(second, 8), max_length)
    kept = [first] if second is None else [first, second]
    while sum(kept) + len(kept) + 1 > max_length:
        kept[kept.index(max(kept)) if len(kept) == 1 or kept[0] != kept[1] else 1] -= 1
    assert laid.kept == tuple(kept)
    assert len(laid.inputs) == sum(kept) + len(kept) + 1 <= max_length
    assert laid.inputs[-1] == 3
    assert laid.num_cut == first + (second or 0) - sum(kept)


def test_words_are_read_as_they_stand_in_a_text_and_the_first_token_of_each_is_known(saved: Saved) -> None:
    words = ["the", "dog", "barked", "at", "EU", "officials"]
    for kind in ("bpe", "wordpiece"):
        reader = reader_of(saved, kind)
        ((tokens, firsts),) = reader.encode_words([words])
        assert tokens.tolist() == reader.encode([" ".join(words)])[0].tolist()
        spans = np.split(tokens, firsts[1:])
        assert [reader.tokenizer.decode(span.tolist()).strip() for span in spans] == [
            word if kind == "bpe" else word.lower() for word in words
        ]


def test_characters_of_a_script_without_spaces_are_read_without_spaces(saved: Saved) -> None:
    reader = reader_of(saved, "bpe")
    ((tokens, firsts),) = reader.encode_words([["中", "文", "the", "cat", "，", "诗"]])
    assert reader.tokenizer.decode(tokens.tolist()) == "中文the cat，诗"
    assert len(firsts) == 6


def test_a_word_of_which_nothing_is_left_is_a_token_all_the_same(saved: Saved) -> None:
    for kind in ("bpe", "wordpiece", "bert"):
        rows = reader_of(saved, kind).encode_words([["the", "\u0000", "", "cat"], []])
        _, firsts = rows[0]
        assert len(firsts) == len(set(firsts.tolist())) == 4
        assert len(rows[1][0]) == len(rows[1][1]) == 0


def test_offsets_are_characters_of_the_text(saved: Saved) -> None:
    text = "the dog, 中文 barked"
    for kind in ("bpe", "wordpiece"):
        tokens, spans = reader_of(saved, kind).encode_with_offsets([text])[0]
        assert spans.shape == (len(tokens), 2)
        assert text[spans[0, 0] : spans[0, 1]] == "the"[: spans[0, 1]]
        assert spans[-1, 1] == len(text)
