"""What is known of a task without a language model: planted rules are found, noise is not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from scaling.data.tasks.items import LabelledText, LabelledTokens, ScoredPair, SourceTarget, TaskData
from scaling.evaluate.metrics import Score
from scaling.finetune import baseline as module
from scaling.finetune.baseline import Baseline, baseline, first_sentence, has_no_spaces, window_features
from scaling.task import Classification, EmbeddedRows, Generation, QuestionAnswering, Similarity, TokenClassification

ROWS = EmbeddedRows(part="library")  # a task says where its rows are, and nothing here reads them
WORDS = ["film", "story", "scene", "actor", "music", "plot"]
HAN = "的一是了在有人我他这来个中国上大"


def split(items: list[Any], labels: tuple[str, ...] = ()) -> TaskData[Any]:
    """Half to train on, a quarter each to validate and test."""
    half, quarter = len(items) // 2, len(items) // 4
    return TaskData(tuple(items[:half]), tuple(items[half:-quarter]), tuple(items[-quarter:]), labels, {})


def texts(rng: random.Random, words: tuple[str, str], between: str, pieces: list[str]) -> list[LabelledText]:
    """The label is that of one word among others."""
    found = []
    for i in range(400):
        label = rng.randrange(2)
        held = [*rng.choices(pieces, k=6), words[label]]
        rng.shuffle(held)
        found.append(LabelledText(f"t-{i}", between.join(held), None, label))
    return found


@pytest.mark.parametrize(("words", "between", "pieces"), [(("bad", "good"), " ", WORDS), (("差", "好"), "", list(HAN))])
def test_a_word_that_says_the_label_is_found_with_and_without_spaces(
    words: tuple[str, str], between: str, pieces: list[str], tmp_path: Path
) -> None:
    data = split(texts(random.Random(0), words, between, pieces), ("no", "yes"))
    name, scores = told(baseline(Classification(name="t", rows=ROWS), data, data.train, tmp_path))
    assert name == "tfidf_logreg"
    assert scores["accuracy"].value > 0.95
    assert scores["accuracy"].lo <= scores["accuracy"].value <= scores["accuracy"].hi


def told(found: Baseline | None) -> tuple[str, dict[str, Score]]:
    assert found is not None
    return found.name, found.scores


def test_labels_of_chance_are_not_learned(tmp_path: Path) -> None:
    rng = random.Random(1)
    data = split(texts(rng, ("word", "word"), " ", WORDS), ("no", "yes"))
    _, scores = told(baseline(Classification(name="t", rows=ROWS), data, data.train, tmp_path))
    assert scores["accuracy"].lo < 0.5 < scores["accuracy"].hi + 0.1


def test_a_label_without_training_rows_is_never_given(tmp_path: Path) -> None:
    data = split(texts(random.Random(0), ("bad", "good"), " ", WORDS), ("no", "yes", "maybe"))
    _, scores = told(baseline(Classification(name="t", rows=ROWS), data, data.train, tmp_path))
    assert scores["accuracy"].value > 0.95


def test_what_two_texts_have_in_common_is_found(tmp_path: Path) -> None:
    rng = random.Random(2)
    words = [f"w{i}" for i in range(60)]
    pairs, scored = [], []
    for i in range(800):
        first = rng.sample(words, 6)
        label = rng.randrange(2)
        second = first[:5] + rng.sample(words, 1) if label else rng.sample(words, 6)
        shared = len(set(first) & set(second)) / 6
        pairs.append(LabelledText(f"t-{i}", " ".join(first), " ".join(second), label))
        scored.append(ScoredPair(f"t-{i}", " ".join(first), " ".join(second), shared))
    data = split(pairs, ("no", "yes"))
    _, scores = told(baseline(Classification(name="t", rows=ROWS, second="b"), data, data.train, tmp_path))
    assert scores["accuracy"].value > 0.9
    alike = split(scored)
    name, scores = told(baseline(Similarity(name="t", rows=ROWS), alike, alike.train, tmp_path))
    assert name == "tfidf_ridge"
    assert scores["pearson"].value > 0.9


def test_a_word_is_known_by_what_stands_around_it(tmp_path: Path) -> None:
    """Names follow `mr` or begin with a capital; no name is seen twice."""
    rng = random.Random(3)
    items = []
    for i in range(400):
        name = f"{rng.choice('BCDF')}{''.join(rng.choices('aeioulmn', k=6))}"
        tokens = (*rng.choices(WORDS, k=3), "mr", name, *rng.choices(WORDS, k=2))
        items.append(LabelledTokens(f"t-{i}", tokens, (0, 0, 0, 0, 1, 0, 0)))
    data = split(items, ("O", "B-PER", "I-PER"))
    name, scores = told(baseline(TokenClassification(name="t", rows=ROWS), data, data.train, tmp_path))
    assert name == "window_logreg"
    assert scores["f1"].value > 0.98


def test_features_of_a_word_name_its_neighbours_and_its_ends() -> None:
    first, second = window_features(["Peter", "ran"])
    assert {"0=peter", ">2er", "<1p", "1=ran", "-1=<", "0sAaa"} <= set(first)
    assert {"0=ran", "-1=peter", "1=>"} <= set(second)


def test_the_better_of_source_and_first_sentence_is_taken(tmp_path: Path) -> None:
    long = [
        SourceTarget(f"g-{i}", f"Topic {i} is here. " + "It goes on and on. " * 9, (f"Topic {i} is here.",))
        for i in range(40)
    ]
    name, scores = told(baseline(Generation(name="t", rows=ROWS), split(long), long, tmp_path))
    assert name == "lead_1"
    assert scores["rouge_l"].value == pytest.approx(1)
    same = [SourceTarget(f"g-{i}", f"A word {i}. Another one", (f"A word {i}. Another one",)) for i in range(40)]
    assert told(baseline(Generation(name="t", rows=ROWS), split(same), same, tmp_path))[0] == "copy"


def test_of_questions_there_is_none(tmp_path: Path) -> None:
    data = split([])
    assert baseline(QuestionAnswering(name="t", rows=ROWS), data, (), tmp_path) is None


def test_a_baseline_is_learned_once_and_again_from_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = split(texts(random.Random(0), ("bad", "good"), " ", WORDS), ("no", "yes"))
    task = Classification(name="t", rows=ROWS)
    first = baseline(task, data, data.train, tmp_path)
    few = baseline(task, data, data.train[:10], tmp_path)
    assert first is not None
    assert few is not None
    assert few.scores["accuracy"].value < first.scores["accuracy"].value
    monkeypatch.setattr(module, "kind_of", None)
    assert baseline(task, data, data.train, tmp_path) == first
    assert baseline(task, data, data.train[::-1], tmp_path) == first, "seeds order the same rows in their own way"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One sentence. And more.", "One sentence."),
        ("第一句。第二句。", "第一句。"),
        ("version 1.5 is out! yes", "version 1.5 is out!"),
        ("no end", "no end"),
        ("", ""),
    ],
)
def test_the_first_sentence_ends_at_its_mark(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_scripts_without_spaces_are_told_by_their_letters() -> None:
    assert has_no_spaces(["这家酒店 wifi 很好", "房间很大"])
    assert has_no_spaces(["ภาษาไทยไม่มีช่องว่าง"])
    assert not has_no_spaces(["the hotel 好 is nice", "ein Haus", "дом"])
