"""From a spec to what training reads: what is built, when, by whom, and when it is shared."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import SpecMaker, prose, sentences, write_jsonl

from scaling.budget import Budget
from scaling.data import document_sets, local_files
from scaling.data.documents import read_documents
from scaling.data.filters.gopher_quality import GopherQuality
from scaling.data.prepare import Prepared, is_prepared, open_stream, packed, prepare, prepare_shard
from scaling.data.scorers.heuristic import Heuristic
from scaling.data.scorers.random import RandomScore
from scaling.data.selection import read_scores
from scaling.data.split import side
from scaling.data.tokens import _pieces
from scaling.document import Document
from scaling.recipe import ByScore, ExactDedup, NearDedup, NGramOverlap, Quality
from scaling.source import Local, Source
from scaling.spec import RunSpec, read_spec

HALVES = {"a": 0.5, "b": 0.5}
LENIENT = GopherQuality(min_words=5, min_mean_word_length=1, min_stop_words=0)


def prepared(spec: RunSpec, tmp_path: Path) -> Prepared:
    return prepare(spec, tmp_path / "cache", lambda line: None)


def built(cache: Path, *folders: str) -> set[Path]:
    """The whole entries of some folders of a cache."""
    found = (entry.relative_to(cache) for folder in folders for entry in (cache / folder).glob("*"))
    return {entry for entry in found if not entry.name.startswith(".")}


@pytest.fixture
def two_of_prose(tmp_path: Path) -> dict[str, Source]:
    """Domains `a` and `b` in which no text says what another one says."""
    return {
        name: Local(path=str(write_jsonl(tmp_path / f"{name}.jsonl", prose(num, num))))
        for name, num in (("a", 80), ("b", 120))
    }


def files(cache: Path) -> dict[str, bytes]:
    """Every file of a cache by its place; the manifests that hold no hash of a file left out."""
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(cache).parts)
    }


def test_a_store_holds_its_documents_in_order_each_with_an_end(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    ready = prepared(make_spec(two_domains, HALVES), tmp_path)
    load = ready.tokenizer.load()
    for chosen, which in ((ready.train, "train"), (ready.validation, "validation")):
        for name, selected in chosen.items():
            store, counts = selected.store, selected.counts
            texts = [d.text for d in read_documents(name, two_domains[name]) if side(d, 0.1) == which]
            starts, ends = store.offsets[:-1], store.offsets[1:]
            assert (store.tokens[ends - 1] == 0).all()
            decoded = [load.decode(store.tokens[a : b - 1]) for a, b in zip(starts, ends, strict=True)]
            assert decoded == texts
            assert store.tokens.dtype == np.uint16
            assert counts.documents == len(texts)
            assert counts.tokens == len(store.tokens)
            assert counts.characters == sum(map(len, texts))
            assert counts.bytes == sum(len(text.encode()) for text in texts)
            assert ready.token_bytes is not None
            assert ready.token_bytes[store.tokens].sum() == counts.bytes


def test_a_warm_cache_reads_no_text(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(two_of_prose, HALVES, filters=(LENIENT,), decontamination=NGramOverlap())
    assert not is_prepared(spec, tmp_path / "cache")
    prepared(spec, tmp_path)
    assert is_prepared(spec, tmp_path / "cache")
    monkeypatch.setattr("scaling.data.document_sets.read_part", None)
    monkeypatch.setattr("scaling.data.document_sets.DocumentSet.batches", None)
    for source in two_of_prose.values():  # where it was does not matter any more
        assert isinstance(source, Local)
        Path(source.path).unlink()
    start = time.perf_counter()
    assert prepared(spec, tmp_path).train["a"].counts.documents > 0
    assert time.perf_counter() - start < 0.2


def test_no_sweep_over_a_recipe_tokenises_anything_again(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source]
) -> None:
    cache = tmp_path / "cache"
    prepared(make_spec(two_of_prose, HALVES), tmp_path)
    once = built(cache, "documents", "tokens", "tokenizers")
    for recipe in (
        {"filters": (LENIENT,)},
        {"dedup": NearDedup()},
        {"dedup": ExactDedup(scope="corpus")},
        {"quality": Quality(scorer=RandomScore(), keep_frac=0.5)},
        {"decontamination": NGramOverlap()},
        {"budget": Budget(num_tokens=640, unique_tokens=320)},
    ):
        prepared(make_spec(two_of_prose, {"a": 0.9, "b": 0.1}, **recipe), tmp_path)
    assert built(cache, "documents", "tokens", "tokenizers") == once


def test_a_reference_that_nothing_reads_is_not_prepared(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    unused = Local(path=str(write_jsonl(tmp_path / "unused.jsonl", sentences(5, "unused"))))
    spec = make_spec(two_domains, HALVES, references={"unused": unused})
    prepared(spec, tmp_path)
    assert is_prepared(spec, tmp_path / "cache")


def test_a_change_of_one_filter_asks_only_that_filter_and_only_where_it_applies(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    cache = tmp_path / "cache"
    only_b = LENIENT.model_copy(update={"domains": ("b",)})
    prepared(make_spec(two_domains, HALVES, filters=(LENIENT,)), tmp_path)
    before, selections = built(cache, "columns"), built(cache, "selections")
    prepared(make_spec(two_domains, HALVES, filters=(LENIENT, only_b.model_copy(update={"min_words": 7}))), tmp_path)
    assert len(built(cache, "columns") - before) == 1
    assert len(built(cache, "selections") - selections) == 1


def test_a_domain_of_weight_0_is_only_evaluated(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    ready = prepared(make_spec(two_domains, {"a": 1.0}), tmp_path)
    assert list(ready.train) == ["a"]
    assert list(ready.validation) == ["a", "b"]


def test_filters_and_dedup_work_on_training_only_and_are_counted(tmp_path: Path, make_spec: SpecMaker) -> None:
    texts = sentences(60) * 2 + ["", "too short"]
    source = Local(path=str(write_jsonl(tmp_path / "a.jsonl", texts)))
    ready = prepared(make_spec({"a": source}, {"a": 1.0}, filters=(LENIENT,)), tmp_path)
    train, validation = ready.train["a"], ready.validation["a"]
    assert train.dropped == {"duplicate": train.counts.documents, "empty": 1, "gopher_quality.too_few_words": 1}
    assert validation.dropped == {"duplicate": validation.counts.documents}
    assert train.counts.documents + validation.counts.documents == 60


def test_a_domain_without_validation_is_refused_with_numbers(tmp_path: Path, make_spec: SpecMaker) -> None:
    source = Local(path=str(write_jsonl(tmp_path / "a.jsonl", ["one text", ""])))
    with pytest.raises(ValueError, match="no validation document is left") as error:
        prepared(make_spec({"a": source}, {"a": 1.0}), tmp_path)
    assert str(error.value) == (
        "corpus.domains.a: no validation document is left with corpus.validation_frac=0.1 (0 dropped: {}): "
        "wanted more documents or a larger validation_frac"
    )


def test_an_input_that_changed_since_the_spec_is_refused(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    spec = make_spec(two_domains, HALVES)
    write_jsonl(tmp_path / "a.jsonl", sentences(81, "a"))
    with pytest.raises(ValueError, match=r"corpus\.domains\.a changed since this run was specified: content"):
        prepared(spec, tmp_path)


def prepare_in_process(path: Path, cache: Path) -> None:
    prepare(read_spec(path), cache, print)


def everything(make_spec: SpecMaker, two_domains: dict[str, Source]) -> RunSpec:
    """A recipe in which every kind of entry is built."""
    return make_spec(
        two_domains,
        HALVES,
        filters=(LENIENT,),
        dedup=NearDedup(),
        decontamination=NGramOverlap(max_documents=1),
        quality=Quality(scorer=RandomScore(), keep_frac=0.5),
    )


def test_two_processes_and_killed_ones_leave_what_an_unbroken_build_leaves(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source], server: ForkServerContext
) -> None:
    spec = everything(make_spec, two_of_prose)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    prepare(spec, tmp_path / "unbroken", lambda line: None)

    def builder() -> ForkServerProcess:
        process = server.Process(target=prepare_in_process, args=(tmp_path / "spec.json", tmp_path / "other"))
        process.start()
        return process

    builder().join()  # how long it takes, with the server warm
    start = time.perf_counter()
    shutil.rmtree(tmp_path / "other")
    builder().join()
    seconds = time.perf_counter() - start
    shutil.rmtree(tmp_path / "other")
    rng = random.Random(0)
    num_cut_off = 0
    for number in range(80):
        if number >= 20 and num_cut_off > 0:
            break
        if folders := sorted(path for path in (tmp_path / "other").glob("*") if path.is_dir()):
            shutil.rmtree(rng.choice(folders))  # else all would soon be done
        both = [builder(), builder()]
        time.sleep(rng.uniform(0, seconds / (1 if num_cut_off == 0 else 3)))
        for process in both:
            process.kill()
            process.join()
        num_cut_off += any((tmp_path / "other").rglob(".*.building"))
    assert num_cut_off > 0, "no kill came in the middle of a build"
    both = [builder(), builder()]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert files(tmp_path / "other") == files(tmp_path / "unbroken")


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_shards_build_bit_for_bit_what_one_machine_builds(
    tmp_path: Path, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, order: list[int]
) -> None:
    monkeypatch.setattr(local_files, "PART_BYTES", 1000)  # every file is a part
    for number in range(5):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            write_jsonl(tmp_path / name / f"{number}.jsonl", prose(30, 10 * number + (name == "b")))
    spec = everything(make_spec, {name: Local(path=str(tmp_path / name)) for name in ("a", "b")})
    alone = prepare(spec, tmp_path / "alone", lambda line: None)
    assert len(alone.train["a"].store.parts) == 5
    for shard in order:
        prepare_shard(spec, shard, 3, tmp_path / "shared", lambda line: None)
    done = built(tmp_path / "shared", "documents", "tokens")
    assert done == built(tmp_path / "alone", "documents", "tokens")
    together = prepare(spec, tmp_path / "shared", lambda line: None)
    assert files(tmp_path / "shared") == files(tmp_path / "alone")
    index = np.arange(packed(alone.train["a"], 16).num_sequences)
    assert np.array_equal(packed(together.train["a"], 16).rows(index), packed(alone.train["a"], 16).rows(index))


def test_shards_share_the_work_out(tmp_path: Path, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "PART_BYTES", 1000)
    (tmp_path / "a").mkdir()
    for number in range(6):
        write_jsonl(tmp_path / "a" / f"{number}.jsonl", sentences(30, str(number)))
    spec = make_spec({"a": Local(path=str(tmp_path / "a"))}, {"a": 1.0})
    prepare_shard(spec, 1, 3, tmp_path / "cache", lambda line: None)
    assert len(built(tmp_path / "cache", "tokens")) == 4  # 2 of 6 parts, on both sides


def test_a_stream_reads_what_the_stores_hold(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source]
) -> None:
    spec = make_spec(two_domains, HALVES)
    ready = prepared(spec, tmp_path)
    stream = open_stream(spec, ready)
    assert stream.max_sequences == spec.num_steps * 4
    for name, selected in ready.train.items():
        mine = [i for i in range(stream.max_sequences) if stream.domain_of(i) == name]
        whole = selected.store.tokens[: len(selected.store.tokens) // 16 * 16].reshape(-1, 16)  # all are kept
        read = stream.read(name, stream.max_sequences)
        assert np.array_equal(np.stack([stream.sequence(i) for i in mine]), whole[read])
        assert len(set(read.tolist())) == len(read)


def test_long_texts_are_cut_where_no_token_is(monkeypatch: pytest.MonkeyPatch, small_bpe: object) -> None:
    monkeypatch.setattr("scaling.data.tokens.PIECE_CHARACTERS", 300)
    text = "\n".join(sentences(20)) + "\n\n  indented\n" + "\n".join(sentences(5))
    pieces = _pieces(text)
    assert len(pieces) > 5
    assert "".join(pieces) == text
    apart = [id for piece in pieces for id in small_bpe.encode(piece).ids]  # type: ignore[attr-defined]
    assert apart == small_bpe.encode(text).ids  # type: ignore[attr-defined]
    assert "".join(_pieces("x" * 700)) == "x" * 700


@pytest.fixture
def small_bpe() -> object:
    from scaling.data.tokenizer import _train
    from scaling.tokenizer import Tokenizer

    return _train(Tokenizer(vocab_size=400, domains=("a",)), iter(sentences(50)))


def test_the_data_part_imports_nothing_heavy() -> None:
    program = (
        "import sys; import scaling.data.card, scaling.data.prepare;"
        "heavy = {'torch', 'hydra', 'wandb', 'deepspeed', 'transformers', 'datasets', 'tokenizers'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_input_that_changes_while_it_is_read_is_refused_and_nothing_of_it_stays(
    tmp_path: Path, make_spec: SpecMaker, two_domains: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(two_domains, HALVES)
    read = document_sets.read_part

    def read_while_it_changes(*arguments: Any) -> Iterator[Document]:
        yield from read(*arguments)
        write_jsonl(tmp_path / "a.jsonl", sentences(90, "other"))

    monkeypatch.setattr(document_sets, "read_part", read_while_it_changes)
    with pytest.raises(ValueError, match=r"corpus\.domains\.a changed since this run was specified"):
        prepared(spec, tmp_path)
    assert not [entry for entry in built(tmp_path / "cache", "documents") if entry.suffix != ".json"]  # what was read


def test_a_run_that_is_ordered_by_scores_is_prepared_with_them(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(two_of_prose, HALVES, order=ByScore(scorer=Heuristic()))
    assert not is_prepared(spec, tmp_path / "cache")
    ready = prepared(spec, tmp_path)
    assert is_prepared(spec, tmp_path / "cache")
    monkeypatch.setattr(document_sets.DocumentSet, "batches", None)
    stream = open_stream(spec, ready)
    scores = packed(ready.train["a"], 16).mean(read_scores(ready.rules["a"], Heuristic()))
    read = scores[stream.read("a", stream.max_sequences)]
    assert (np.diff(read) >= 0).all()
