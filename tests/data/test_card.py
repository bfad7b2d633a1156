"""The data card says what is true of tiny corpora whose truth is known, and says it the same way every time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import SpecMaker, prose, write_jsonl

from scaling.budget import Budget, Epochs
from scaling.data.card import budget_card, recipe_card, run_card, write_data_card
from scaling.data.card_comparison import Kept, displaced, overlaps
from scaling.data.degraders.duplicates import Duplicates
from scaling.data.degraders.shuffle_words import ShuffleWords
from scaling.data.document_sets import DocumentSet
from scaling.data.filters.gopher_quality import GopherQuality
from scaling.data.filters.length import Length
from scaling.data.ledger import ledger
from scaling.data.markdown import LONGEST_ITEM, escaped, numbered, table
from scaling.data.prepare import Prepared, open_stream, prepare
from scaling.data.scorers.random import RandomScore
from scaling.mixture import Mixture, Stage, Stages, Swarm
from scaling.recipe import ByScore, ExactDedup, NGramOverlap, NoDedup, Quality
from scaling.source import Local, Source
from scaling.spec import RunSpec

HALVES = {"a": 0.5, "b": 0.5}
LENIENT = Budget(num_tokens=1024, max_epochs=None)


def prepared(spec: RunSpec, cache: Path) -> Prepared:
    return prepare(spec, cache, lambda line: None)


def mixed(spec: RunSpec, mixture: Mixture) -> RunSpec:
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"mixture": mixture})})


def train_of(spec: RunSpec, tmp_path: Path, name: str = "a") -> dict[str, Any]:
    ready = prepared(spec, tmp_path / "cache")
    card: dict[str, Any] = recipe_card(spec, ready, open_stream(spec, ready))["domains"][name]["train"]
    return card


def write(specs: Sequence[RunSpec], cache: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    write_data_card(folder, specs, [prepared(spec, cache) for spec in specs])
    card: dict[str, Any] = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    return card


@pytest.fixture
def two_of_prose(tmp_path: Path) -> dict[str, Source]:
    """Domains `a` and `b` in which no text says what another one says."""
    return {
        name: Local(path=str(write_jsonl(tmp_path / f"{name}.jsonl", prose(num, num))), id="id")
        for name, num in (("a", 120), ("b", 160))
    }


def test_what_is_read_is_kept_or_dropped_for_a_reason_with_five_ids(tmp_path: Path, make_spec: SpecMaker) -> None:
    texts = [*prose(60, 1), *prose(60, 1), *prose(30, 2, words=3), "", " "]
    source = {"a": Local(path=str(write_jsonl(tmp_path / "a.jsonl", texts)), id="id")}
    card = train_of(make_spec(source, {"a": 1.0}, budget=LENIENT, filters=(Length(min_characters=50),)), tmp_path)
    read, kept, dropped = card["read"], card["kept"], card["dropped"]
    assert set(dropped) >= {"duplicate", "length.too_few_characters"}
    for unit in ("documents", "bytes"):
        assert read[unit] == kept[unit] + sum(of[unit] for of in dropped.values())
    assert dropped["duplicate"]["documents"] == kept["documents"]
    assert dropped["duplicate"]["bytes"] == kept["bytes"] == kept["characters"]
    examples = dropped["length.too_few_characters"]["examples"]
    assert len(set(examples)) == 5
    assert {int(id.removeprefix("d")) for id in examples} <= set(range(120, 150))
    assert card["clusters"]["duplicate"] == {"clusters": kept["documents"], "largest": 2}
    assert sum(card["lengths"]["read"]) == read["documents"] - dropped.get("empty", {"documents": 0})["documents"]
    assert sum(card["lengths"]["kept"]) == kept["documents"]


def test_the_steps_multiply_to_what_is_kept(tmp_path: Path, make_spec: SpecMaker) -> None:
    texts = [*prose(100, 3), *prose(20, 3), *prose(40, 4, words=2)]
    source = {"a": Local(path=str(write_jsonl(tmp_path / "a.jsonl", texts)), id="id")}
    spec = make_spec(
        source,
        {"a": 1.0},
        budget=LENIENT,
        decontamination=NGramOverlap(),
        filters=(Length(min_characters=50),),
        quality=Quality(scorer=RandomScore(), keep_frac=0.5),
    )
    card = train_of(spec, tmp_path)
    steps = {step["step"]: step for step in card["steps"]}
    assert list(steps) == ["decontamination", "dedup", "filters.length", "quality"]
    product = np.prod([step["kept_documents_frac"] for step in steps.values()])
    assert product == pytest.approx(card["kept"]["documents"] / card["read"]["documents"], rel=1e-5)
    assert steps["quality"]["bytes"] == card["kept"]["bytes"]
    assert steps["quality"]["kept_bytes_frac"] == pytest.approx(0.5, abs=0.02)
    scores = card["scores"]["quality"]
    assert scores["kept"]["min"] > scores["read"]["min"]
    assert sum(scores["histogram"]["read"]) == sum(card["lengths"]["read"])
    assert sum(scores["histogram"]["kept"]) == card["kept"]["documents"]


def test_tokens_of_repeated_texts_are_unique_once(tmp_path: Path, make_spec: SpecMaker) -> None:
    source = {"a": Local(path=str(write_jsonl(tmp_path / "a.jsonl", prose(60, 5) * 3)))}
    kept = train_of(make_spec(source, {"a": 1.0}, budget=LENIENT, dedup=NoDedup()), tmp_path)["kept"]
    assert kept["tokens"] == 3 * kept["unique_tokens"] > 0


def test_harm_is_counted_where_it_was_done_and_where_it_stayed(tmp_path: Path, make_spec: SpecMaker) -> None:
    source = {"a": Local(path=str(write_jsonl(tmp_path / "a.jsonl", prose(200, 6))), id="id")}
    harm = (ShuffleWords(document_frac=0.25), Duplicates(frac=0.3))
    plain = train_of(make_spec(source, {"a": 1.0}, budget=LENIENT), tmp_path)
    kept = train_of(make_spec(source, {"a": 1.0}, budget=LENIENT, degraders=harm, dedup=NoDedup()), tmp_path)
    mended = train_of(make_spec(source, {"a": 1.0}, budget=LENIENT, degraders=harm, dedup=ExactDedup()), tmp_path)
    clean = plain["read"]["documents"]
    assert "harmed_documents" not in plain["read"]
    assert kept["read"]["harmed_documents"] == pytest.approx(0.25 * clean, rel=0.4)
    assert kept["read"]["documents"] == clean + kept["read"]["planted_documents"]
    assert kept["kept"] | {"unique_tokens": 0} == kept["read"] | {"unique_tokens": 0}
    # a copy is harmed on its own: what it copies or it itself may be, and then they are not equal any more
    assert mended["kept"]["planted_documents"] <= 0.6 * mended["read"]["planted_documents"]
    assert mended["kept"]["harmed_documents"] == kept["kept"]["harmed_documents"]


def test_a_domain_in_many_parts_has_the_card_of_one_in_one_part(
    tmp_path: Path, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    for number in range(3):
        write_jsonl(tmp_path / "a" / f"{number}.jsonl", prose(60, 20 + number, words=20 + number))
    harm = (ShuffleWords(document_frac=0.25), Duplicates(frac=0.3))
    cards = {}
    for most_bytes in (1, 10**9):
        monkeypatch.setattr("scaling.data.local_files.PART_BYTES", most_bytes)
        spec = make_spec({"a": Local(path=str(tmp_path / "a"))}, {"a": 1.0}, budget=LENIENT, degraders=harm)
        ready = prepared(spec, tmp_path / f"cache{most_bytes}")
        cards[ready.rules["a"].documents.num_parts] = recipe_card(spec, ready, open_stream(spec, ready))
    many, one = (cards[num_parts]["domains"]["a"]["train"] for num_parts in (3, 1))
    for key in ("read", "kept", "lengths", "clusters"):
        assert many[key] == one[key], key
    assert many["languages"]["kept"]["scripts"] == one["languages"]["kept"]["scripts"]
    assert many["read"]["harmed_documents"] > 20


@pytest.mark.parametrize(
    ("mixture", "budget"),
    [
        (None, Budget(num_tokens=2048, max_epochs=1)),
        (None, Budget(num_tokens=4096, unique_tokens=1024, max_epochs=None)),
        (None, Budget(num_tokens=4096, repetition=Epochs(domains={"a": 4.0}), max_epochs=None)),
        (Stages(stages=(Stage(weights=HALVES, until_tokens=512), Stage(weights={"a": 1.0}))), LENIENT),
    ],
)
def test_the_card_foretells_the_ledger(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source], mixture: Stages | None, budget: Budget
) -> None:
    spec = make_spec(two_of_prose, HALVES, budget=budget)
    spec = spec if mixture is None else mixed(spec, mixture)
    ready = prepared(spec, tmp_path / "cache")
    stream = open_stream(spec, ready)
    card = budget_card(spec, stream)
    seen = ledger(stream, stream.max_sequences, ready.train)
    assert (card["tokens"], card["unique_tokens"]) == (seen.tokens, seen.unique_tokens)
    for name, exposure in seen.domains.items():
        told = card["domains"][name]
        assert (told["tokens"], told["unique_tokens"]) == (exposure.tokens, exposure.unique_tokens)
        assert (told["epochs"], told["weight"]) == (exposure.epochs, exposure.weight)


def test_each_recipe_is_listed_once_with_its_budgets_smallest_first(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source]
) -> None:
    specs = [make_spec(two_of_prose, HALVES, budget=Budget(num_tokens=num)) for num in (256, 128, 128)]
    specs.append(make_spec(two_of_prose, {"a": 1.0}, budget=Budget(num_tokens=128)))
    card = write(specs, tmp_path / "cache", tmp_path / "study")
    first, second = card["recipes"]
    assert [budget["tokens"] for budget in first["budgets"]] == [128, 256]
    assert second["domains"]["b"]["train"] is None
    assert second["domains"]["b"]["validation"] == first["domains"]["b"]["validation"]
    assert (first["name"], second["name"]) == ("mixture: a 50%, b 50%", "mixture: a 100%")
    (change,) = card["displacement"]
    assert (change["recipe"], change["against"]) == (2, 1)
    assert [(row["domain"], row["difference"]) for row in change["domains"]] == [("a", 0.5), ("b", -0.5)]
    assert change["domains"][0]["taken_from"] == [{"domain": "b", "share": 0.5, "relative": 1.0}]
    page = (tmp_path / "study" / "data_card.md").read_text()
    assert page.count("## Recipe") == 2
    assert "| 2 | 1 | a | 50.0% | 100.0% | b 50 points (100.0% of it) |" in page
    assert "As in recipe 1: validation documents." in page


def test_nested_doses_overlap_wholly_one_way(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source]
) -> None:
    doses = [
        make_spec(two_of_prose, {"a": 1.0}, budget=LENIENT, quality=Quality(scorer=RandomScore(), keep_frac=frac))
        for frac in (0.8, 0.4)
    ]
    card = write([*doses, doses[0]], tmp_path / "cache", tmp_path / "study")
    (domain,) = card["overlap"]
    large, small = (arm["documents"] for arm in domain["arms"])
    (pair,) = domain["pairs"]
    assert pair["documents"] == [small, small]
    assert pair["document_shares"] == [pytest.approx(small / large, rel=1e-5), 1.0]
    assert pair["token_shares"][1] == 1.0
    assert [arm["held_out_overlap_documents"] for arm in domain["arms"]] == [None, None]


def test_recipes_that_keep_the_same_are_one_arm_and_leaks_are_counted(tmp_path: Path, make_spec: SpecMaker) -> None:
    texts = prose(100, 7)
    plain = {"a": Local(path=str(write_jsonl(tmp_path / "plain.jsonl", texts)), id="id")}
    held_out = next(iter(prepared(make_spec(plain, {"a": 1.0}), tmp_path / "cache").rules["a"].held_out["a"].texts()))
    leaky = {"a": Local(path=str(write_jsonl(tmp_path / "leaky.jsonl", [*texts, f"so: {held_out} indeed"])), id="id")}
    specs = [
        make_spec(leaky, {"a": 1.0}, budget=LENIENT, **change)
        for change in (
            {"decontamination": NGramOverlap()},
            {"decontamination": NGramOverlap(), "order": ByScore(scorer=RandomScore())},
            {},
        )
    ]
    (domain,) = write(specs, tmp_path / "cache", tmp_path / "study")["overlap"]
    assert [arm["recipes"] for arm in domain["arms"]] == [[1, 2], [3]]
    assert [arm["held_out_overlap_documents"] for arm in domain["arms"]] == [1, None]
    assert domain["pairs"][0]["document_shares"][0] == 1.0
    page = (tmp_path / "study" / "data_card.md").read_text()
    assert f"| a | 1-2 | {domain['arms'][0]['read_documents']} | 1 |" in page


def test_shared_copies_count_on_the_side_that_holds_them() -> None:
    def kept(*texts: int) -> Kept:
        return Kept(np.array(texts, dtype=np.uint64), np.array([text * 10 for text in texts]), len(texts), None)

    (domain,) = overlaps([{"a": kept(1, 1, 2, 3)}, {"a": kept(1, 4)}, {"b": kept(5)}])[:1]
    assert [arm["recipes"] for arm in domain["arms"]] == [[1], [2]]
    (pair,) = domain["pairs"]
    assert (pair["documents"], pair["tokens"]) == ([2, 1], [20, 10])
    assert (pair["document_shares"], pair["token_shares"]) == ([0.5, 0.5], [pytest.approx(20 / 70, rel=1e-5), 0.2])


def test_a_mixture_that_stays_displaces_nothing() -> None:
    assert displaced([HALVES, HALVES, {"a": 0.2, "b": 0.8}])[0]["recipe"] == 3
    assert displaced([HALVES]) == []


def test_a_computed_mixture_is_shown_as_it_was_resolved(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source]
) -> None:
    spec = mixed(make_spec(two_of_prose, HALVES, budget=LENIENT), Swarm(domains=("a", "b"), index=3))
    (recipe,) = write([spec], tmp_path / "cache", tmp_path / "study")["recipes"]
    (stage,) = recipe["mixture"]["stages"]
    assert recipe["mixture"]["declared"]["index"] == 3
    assert stage["weights"] == {name: seen["weight"] for name, seen in recipe["budgets"][0]["domains"].items()}
    assert "- weights: " in (tmp_path / "study" / "data_card.md").read_text()


def test_a_card_is_the_same_from_a_new_cache_and_from_a_warm_one(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source]
) -> None:
    specs = [
        make_spec(two_of_prose, HALVES, budget=LENIENT),
        make_spec(two_of_prose, HALVES, budget=LENIENT, quality=Quality(scorer=RandomScore(), keep_frac=0.5)),
    ]
    for cache, folder in (("cache", "cold"), ("cache", "warm"), ("other", "new")):
        write(specs, tmp_path / cache, tmp_path / folder)
    for name in ("data_card.json", "data_card.md"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in ("cold", "warm", "new")}) == 1


def test_a_run_reads_its_card_without_reading_text_and_logs_no_ids(
    tmp_path: Path, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*prose(100, 9), *prose(20, 10, words=2)]
    source = {"a": Local(path=str(write_jsonl(tmp_path / "a.jsonl", texts)))}
    spec = make_spec(source, {"a": 1.0}, budget=LENIENT, filters=(Length(min_characters=50),))
    (of_study,) = write([spec], tmp_path / "cache", tmp_path / "study")["recipes"]
    monkeypatch.setattr(DocumentSet, "batches", None)
    ready = prepared(spec, tmp_path / "cache")
    card = run_card(spec, ready, open_stream(spec, ready))
    dropped = of_study["domains"]["a"]["train"]["dropped"]["length.too_few_characters"]
    assert len(dropped.pop("examples")) > 0
    assert card["recipe"]["domains"]["a"]["train"]["dropped"]["length.too_few_characters"] == dropped
    assert card["budget"] == of_study["budgets"][0]
    text = json.dumps(card)
    assert "examples" not in text
    assert len(text) < 20_000


def test_hostile_ids_and_licences_stay_in_their_cell(tmp_path: Path, make_spec: SpecMaker) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": text, "id": f"a|b\n<b>`{i}"} for i, text in enumerate([*prose(80, 8), *prose(80, 8)])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = {"a": Local(path=str(path), id="id", licence="CC|BY\n[x](y)")}
    write([make_spec(source, {"a": 1.0}, budget=LENIENT)], tmp_path / "cache", tmp_path / "study")
    page = (tmp_path / "study" / "data_card.md").read_text()
    assert r"a\|b \<b\>\`8" in page
    assert r"CC\|BY \[x\](y)" in page
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_each_filter_is_told_in_full_on_a_line_and_long_lists_by_their_number(
    tmp_path: Path, make_spec: SpecMaker, two_of_prose: dict[str, Source]
) -> None:
    words = [tuple(f"{letter}{number}" for number in range(60)) for letter in "xy"]
    lenient = [GopherQuality(min_words=3, min_mean_word_length=1, min_stop_words=0, stop_words=of) for of in words]
    specs = [
        make_spec(two_of_prose, {"a": 1.0}, budget=LENIENT, filters=(of, Length(min_words=2, domains=("a",))))
        for of in lenient
    ]
    first, second = write(specs, tmp_path / "cache", tmp_path / "study")["recipes"]
    assert first["name"] != second["name"]
    page = (tmp_path / "study" / "data_card.md").read_text()
    (line,) = {line for line in page.splitlines() if line.startswith("  - gopher_quality: ")}
    for name, value in lenient[0].model_dump(exclude={"kind", "domains", "stop_words", "bullets"}).items():
        assert f"{name} {value}" in line
    assert "stop_words 60 entries, bullets 9 entries" in line
    assert any(line.startswith("  - length: domains a, ") for line in page.splitlines())
    assert "x7" not in page
    assert "…" not in page


@pytest.mark.parametrize("copies", [0, 1])
def test_a_document_that_is_a_txt_file_is_named_by_its_file(tmp_path: Path, make_spec: SpecMaker, copies: int) -> None:
    texts = {f"{number:03}": text for number, text in enumerate(prose(60, 11))} | {"short": "a few words"}
    texts |= {"zz/again": texts["007"]}
    for name, text in texts.items():
        file = tmp_path / "notes" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    source = {"a": Local(path=str(tmp_path / "notes"))}
    harm = (Duplicates(frac=0.5),) * copies
    spec = make_spec(source, {"a": 1.0}, budget=LENIENT, degraders=harm, filters=(Length(min_characters=50),))
    (recipe,) = write([spec], tmp_path / "cache", tmp_path / "study")["recipes"]
    named = {reason: of["examples"] for reason, of in recipe["domains"]["a"]["train"]["dropped"].items()}
    assert named["length.too_few_characters"][0] == "short.txt"
    assert all(re.fullmatch(r"(\d{3}|short|zz/again)\.txt(\+\d+)?", id) for ids in named.values() for id in ids)
    assert "zz/again.txt" in (tmp_path / "study" / "data_card.md").read_text()
    (tmp_path / "notes" / "short.txt").rename(tmp_path / "notes" / "shorter.txt")
    write([spec], tmp_path / "cache", tmp_path / "again")
    assert "shorter.txt" in (tmp_path / "again" / "data_card.md").read_text()


def test_long_ids_that_begin_alike_are_told_apart() -> None:
    ids = [f"corpus/of/very/long/folders/within/each/other/{number:04}/{'x' * 20}.txt" for number in range(5)]
    (cell,) = list(table(["such as"], [[ids]]))[2].strip("| ").split(" | ")
    shown = cell.split(", ")
    assert len(set(shown)) == 5
    assert {len(id) for id in shown} == {LONGEST_ITEM}


def test_ids_are_words_even_if_they_are_digits() -> None:
    assert list(table(["such as", "count"], [[["12", "7"], 1], [[], 2]]))[1] == "|---|--:|"


def test_numbers_are_aligned_on_the_right_and_words_are_not() -> None:
    lines = list(table(["name", "count", "share"], [["x", 1234567, "5.0%"], ["y", None, "10.0%"]]))
    assert lines == ["| name | count | share |", "|---|--:|--:|", "| x | 1,234,567 | 5.0% |", "| y |  | 10.0% |"]
    assert list(table(["name"], [])) == []
    assert numbered([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert escaped("x" * 300).endswith("x…")
