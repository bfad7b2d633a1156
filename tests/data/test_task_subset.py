"""The rows that a run trains on: nested, stratified, balanced, augmented."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_files import classification, labelled, write_rows

from scaling.data.tasks.items import LabelledText, LabelledTokens, Question, SourceTarget, TaskData
from scaling.data.tasks.read import read_task
from scaling.data.tasks.subset import training_facts, training_rows
from scaling.method import Augmentation, Method
from scaling.task import LocalRows, TokenClassification

PLAIN = Method()
KINDS = ("delete", "swap", "noise")


@pytest.fixture
def imbalanced(tmp_path: Path) -> TaskData[Any]:
    """240 training rows of 4 labels: 80, 15, 4 and 1 in a hundred."""
    labels = [0 if i % 100 < 80 else 1 if i % 100 < 95 else 2 if i % 100 < 99 else 3 for i in range(300)]
    rows = labelled([f"some text of many words number {i}" for i in range(300)], labels)
    return read_task(classification(tmp_path, train=rows), tmp_path / "cache")


def training_items(*asked: Any) -> tuple[Any, ...]:
    return training_rows(*asked)[0]


def made_up(items: tuple[Any, ...], labels: tuple[str, ...] = ()) -> TaskData[Any]:
    return TaskData(items, items, items, labels, {})


def test_a_smaller_subset_is_a_prefix_of_a_larger_one_and_all_rows_are_the_largest(imbalanced: TaskData[Any]) -> None:
    whole = training_items(imbalanced, None, 3, PLAIN)
    assert sorted(item.id for item in whole) == sorted(item.id for item in imbalanced.train)
    for num in (2, 4, 17, 100, len(whole)):
        assert training_items(imbalanced, num, 3, PLAIN) == whole[:num]
    assert training_items(imbalanced, 17, 4, PLAIN) != whole[:17]


def test_every_label_is_there_as_soon_as_there_are_as_many_rows(imbalanced: TaskData[Any]) -> None:
    for seed in range(5):
        assert {item.label for item in training_items(imbalanced, 4, seed, PLAIN)} == {0, 1, 2, 3}
        counts = Counter(item.label for item in training_items(imbalanced, 100, seed, PLAIN))
        assert counts[0] in range(78, 82)
        assert counts[1] in range(14, 17)


def test_every_tag_is_there_as_soon_as_there_are_as_many_rows(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", str(i)], "tags": ["O", f"B-{i}" if 10 <= i < 18 else "O"]} for i in range(200)]
    task = TokenClassification(
        name="t",
        rows=LocalRows(**{split: write_rows(tmp_path / "a.jsonl", rows) for split in ("train", "validation", "test")}),
    )
    data = read_task(task, tmp_path / "cache")
    tags = {tag for item in training_items(data, 9, 0, PLAIN) for tag in item.tags}
    assert tags == set(range(9))


def test_rows_that_cannot_be_taken_are_refused(imbalanced: TaskData[Any]) -> None:
    num = len(imbalanced.train)
    for wrong in (0, num + 1):
        with pytest.raises(ValueError, match=f"^num_examples must be from 1 to {num}, .* got {wrong}$"):
            training_items(imbalanced, wrong, 0, PLAIN)
    with pytest.raises(
        ValueError, match=r"^num_examples=1 gives rows of the label '.' alone: wanted at least 2, and 4 for"
    ):
        training_items(imbalanced, 1, 0, PLAIN)


def test_rare_labels_are_repeated_or_frequent_ones_left_out(imbalanced: TaskData[Any]) -> None:
    subset = training_items(imbalanced, 100, 0, PLAIN)
    counts = Counter(item.label for item in subset)
    over = training_items(imbalanced, 100, 0, Method(sampling="over"))
    assert set(Counter(item.label for item in over).values()) == {max(counts.values())}
    assert set(over) == set(subset)
    repeats = Counter(item.id for item in over if item.label == 1)
    assert max(repeats.values()) - min(repeats.values()) <= 1
    under = training_items(imbalanced, 100, 0, Method(sampling="under"))
    assert Counter(item.label for item in under) == dict.fromkeys(range(4), min(counts.values()))
    method = Method(sampling="over", augmentation=Augmentation(kind="swap", copies=2))
    rows, facts = training_rows(imbalanced, 100, 0, method)
    assert facts == training_facts(imbalanced, 100, 0, method)
    assert facts["num_rows"] == len(rows)
    assert facts["num_examples"] == 100
    assert facts["num_rows"] == 3 * len(over)
    assert facts["labels"] == {str(label): counts[label] for label in range(4)}


def test_what_has_no_label_of_its_own_cannot_be_balanced() -> None:
    data = made_up((SourceTarget("a", "text", ("target",)),) * 3)
    with pytest.raises(ValueError, match=r"^method\.sampling=over needs a label for each row"):
        training_items(data, None, 0, Method(sampling="over"))


def test_a_subset_without_a_label_says_so(imbalanced: TaskData[Any]) -> None:
    facts = training_facts(imbalanced, 2, 0, PLAIN)
    assert len(facts["labels_without_rows"]) == 2


# ---- augmentation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_copies_stand_behind_their_rows_and_differ_from_them_and_each_other(
    kind: Any, imbalanced: TaskData[Any]
) -> None:
    method = Method(sampling="over", augmentation=Augmentation(kind=kind, copies=2, frac=0.3))
    found = training_items(imbalanced, 50, 0, method)
    assert found == training_items(imbalanced, 50, 0, method)
    assert [item for item in found if "~" not in item.id] == list(found[::3])
    copies = [item for item in found if "~" in item.id]
    assert len({item.id for item in copies}) == len(copies), "a repeated row has copies of its own"
    assert np.mean([copy.text != row.text for row, copy in zip(found[::3], found[1::3], strict=True)]) > 0.9
    assert np.mean([one.text != other.text for one, other in zip(found[1::3], found[2::3], strict=True)]) > 0.8
    assert all(copy.label == row.label for row, copy in zip(found[::3], found[1::3], strict=True))


def augment(item: Any, kind: str, frac: float = 0.2, labels: tuple[str, ...] = ()) -> Any:
    method = Method(augmentation=Augmentation(kind=kind, frac=frac))
    return training_items(made_up((item,), labels), None, 0, method)[1]


def test_words_are_deleted_and_swapped_by_their_share() -> None:
    words = [f"w{i}" for i in range(50)]
    item = SourceTarget("a", " ".join(words), ("right",))
    deleted = augment(item, "delete")
    left = deleted.source.split()
    assert len(left) == 40
    assert [word for word in words if word in left] == left
    swapped = augment(item, "swap").source.split()
    assert sorted(swapped) == sorted(words)
    assert sum(one != other for one, other in zip(words, swapped, strict=True)) == 20
    assert deleted.targets == ("right",)


def test_a_text_of_one_word_stays() -> None:
    for kind in ("delete", "swap"):
        assert augment(SourceTarget("a", "word", ("right",)), kind).source == "word"


def test_chinese_loses_characters() -> None:
    text = "这家酒店的房间很干净服务也好下次还会再来的"
    assert len(augment(SourceTarget("a", text, ("right",)), "delete").source) == len(text) - round(0.2 * len(text))


def test_the_words_of_entities_stay_where_they_are_with_their_labels() -> None:
    tokens = tuple(f"w{i}" for i in range(30))
    tags = tuple(1 if i in (4, 20) else 2 if i in (5, 21) else 0 for i in range(30))
    for kind in ("delete", "swap"):
        found = augment(LabelledTokens("a", tokens, tags), kind, labels=("O", "B-X", "I-X"))
        given = dict(zip(found.tokens, found.tags, strict=True))
        assert all(given[word] == tag for word, tag in zip(tokens, tags, strict=True) if word in given)
        entities = [word for word, tag in zip(found.tokens, found.tags, strict=True) if tag]
        assert entities == ["w4", "w5", "w20", "w21"]
        assert found.tokens != tokens
    noisy = augment(LabelledTokens("a", tokens, tags), "noise", labels=("O", "B-X", "I-X"))
    assert noisy.tags == tags
    assert all(noisy.tokens)


def test_of_a_question_the_context_and_its_answers_stay() -> None:
    item = Question("a", "where does the quick brown fox go to", "It goes home.", (("home", 8),))
    for kind in KINDS:
        found = augment(item, kind)
        assert (found.context, found.answers) == (item.context, item.answers)
        assert found.question != item.question


def test_both_texts_of_a_pair_are_harmed() -> None:
    text = "one two three four five six seven eight nine ten"
    rows = (LabelledText("a", text, text, 0), LabelledText("b", "other words of a text", "and more of them", 1))
    found = training_items(made_up(rows, ("x", "y")), None, 0, Method(augmentation=Augmentation(kind="swap")))
    (copy,) = [item for item in found if item.id == "a~1"]
    assert isinstance(copy, LabelledText)
    assert copy.second is not None
    assert len({copy.text, copy.second, text}) == 3
