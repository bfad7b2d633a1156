"""The tokenizer sees training text only, and its bytes add up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import SpecMaker

from scaling.data.documents import read_documents
from scaling.data.prepare import Texts
from scaling.data.split import side
from scaling.data.tokenizer import TrainedTokenizer, _texts, _train, token_bytes, train_tokenizer
from scaling.source import Local, Source
from scaling.spec import RunSpec
from scaling.tokenizer import Tokenizer


def trained(spec: RunSpec, cache: Path) -> TrainedTokenizer:
    return train_tokenizer(spec.tokenizer, Texts(spec, cache, lambda line: None).raw, cache, lambda line: None)


@pytest.fixture(scope="module")
def small() -> tuple[object, np.ndarray]:
    spec = Tokenizer(vocab_size=400, domains=("a",))
    tokenizer = _train(spec, iter(["the cat sat on the mat, 中文诗句 and the dog"] * 20))
    return tokenizer, token_bytes(tokenizer)


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_bytes_of_the_tokens_are_the_bytes_of_the_text(small: tuple, text: str) -> None:
    tokenizer, lengths = small
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert lengths[ids].sum() == len(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_text_that_spells_a_special_token_is_text(small: tuple) -> None:
    tokenizer, lengths = small
    text = "a <|endoftext|> b<|mask|><|pad|>"
    ids = tokenizer.encode(text).ids
    assert not {0, 1, 2} & set(ids)
    assert lengths[ids].sum() == len(text.encode())
    assert lengths[:3].tolist() == [0, 0, 0]
    assert [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|mask|>", "<|pad|>")] == [0, 1, 2]


@pytest.mark.parametrize("name", ["en_web", "zh_poetry"])
def test_bytes_add_up_on_real_text(shared: Path, tmp_path: Path, make_spec: SpecMaker, name: str) -> None:
    source = Local(path=str(shared / name / "train.jsonl.gz"))
    tokenizer = trained(make_spec({name: source}, {name: 1.0}), tmp_path / "cache")
    assert tokenizer.token_bytes is not None
    load = tokenizer.load()
    for _, document in zip(range(300), read_documents(name, source), strict=False):
        ids = load.encode(document.text).ids
        assert tokenizer.token_bytes[ids].sum() == len(document.text.encode())


def test_validation_text_never_reaches_the_tokenizer(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    corpus = Texts(make_spec(two_domains, {"a": 1.0}), tmp_path / "cache", lambda line: None).raw
    used = set(_texts(Tokenizer(vocab_size=300, domains=("a", "b")), corpus, Counter()))
    documents = [d for name, source in two_domains.items() for d in read_documents(name, source)]
    on_side = {which: {d.text for d in documents if side(d, 0.1) == which} for which in ("train", "validation")}
    assert used == on_side["train"]
    assert on_side["validation"]


def test_domains_share_the_bytes_evenly(tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]) -> None:
    corpus = Texts(make_spec(two_domains, {"a": 1.0}), tmp_path / "cache", lambda line: None).raw
    num_bytes: Counter[str] = Counter()
    texts = list(_texts(Tokenizer(vocab_size=300, domains=("b", "a"), num_bytes=5001), corpus, num_bytes))
    assert num_bytes == {"a": 2500, "b": 2500}
    assert 4990 < sum(len(text.encode()) for text in texts) <= 5000  # a cut character is left out


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_training_twice_gives_the_same_tokenizer(
    kind: str, tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    spec = make_spec(two_domains, {"a": 1.0}, kind=kind)
    program = (
        "import sys; from pathlib import Path; from scaling.spec import read_spec;"
        "from scaling.data.prepare import Texts; from scaling.data.tokenizer import train_tokenizer;"
        "spec, cache = read_spec(Path(sys.argv[1])), Path(sys.argv[2]);"
        "t = train_tokenizer(spec.tokenizer, Texts(spec, cache, print).raw, cache, print)"
    )
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    subprocess.run([sys.executable, "-c", program, tmp_path / "spec.json", tmp_path / "other"], check=True)
    one, other = trained(spec, tmp_path / "cache"), trained(spec, tmp_path / "other")
    assert one.address == other.address
    assert one.path.read_bytes() == other.path.read_bytes()


def test_a_wordpiece_tokenizer_has_no_bytes(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    tokenizer = trained(make_spec(two_domains, {"a": 1.0}, kind="wordpiece"), tmp_path / "cache")
    assert tokenizer.token_bytes is None
    assert tokenizer.load().token_to_id("[UNK]") == 3
    manifest = json.loads((tokenizer.path.parent / "manifest.json").read_text())
    assert manifest["vocab_size"] == tokenizer.vocab_size <= 300
