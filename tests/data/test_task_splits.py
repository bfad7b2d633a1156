"""What a task holds: labels, splits, overlap, and the rows that say nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_files import classification, labelled, reviews, write_rows

from scaling.data.randomness import draws, key
from scaling.data.tasks.read import check_task_content, read_task, resolve_task
from scaling.data.tasks.splits import stratified_order
from scaling.task import Alert, Classification, Generation, LocalRows, QuestionAnswering, Similarity, Splitting

# ---- labels ----------------------------------------------------------------------------------------


def names_of(task: Classification, cache: Path) -> list[str]:
    data = read_task(task, cache)
    return [data.labels[item.label] for item in data.test]


@pytest.mark.parametrize(
    ("held", "labels", "meant"),
    [
        ([0, 1], None, ["0", "1"]),
        (["0", "1"], ("bad", "good"), ["bad", "good"]),
        ([0, 1], ("bad", "good"), ["bad", "good"]),
        ([1.0, 0.0], ("bad", "good"), ["good", "bad"]),
        (["good", "bad"], ("bad", "good"), ["good", "bad"]),
        ([True, False], None, ["true", "false"]),
        ([1, 2], ("2", "1"), ["1", "2"]),  # by name where all are names
        ([0, 1], ("1", "2"), ["1", "2"]),  # 0 is no name: by place, all of them
        ([10, 9], None, ["10", "9"]),
        ([-1, 1], ("-1", "1"), ["-1", "1"]),
    ],
)
def test_a_label_is_a_name_or_a_place_in_the_names_for_all_rows_alike(
    held: list[Any], labels: tuple[str, ...] | None, meant: list[str], tmp_path: Path
) -> None:
    rows = labelled([f"text {i}" for i in range(40)], held * 20)
    task = classification(tmp_path, labels=labels, train=rows[:30], validation=rows[30:36], test=rows[36:])
    assert names_of(task, tmp_path / "cache") == meant * 2


def test_names_without_order_are_sorted_and_numbers_by_size(tmp_path: Path) -> None:
    rows = labelled([f"text {i}" for i in range(60)], [(10, 9, 100)[i % 3] for i in range(60)])
    assert read_task(classification(tmp_path, train=rows), tmp_path / "cache").labels == ("9", "10", "100")


@pytest.mark.parametrize("text", ['["bad", "good"]', "bad\ngood\n"])
def test_names_may_stand_in_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(text)
    task, _ = resolve_task(classification(tmp_path, labels=str(tmp_path / "names"), train=reviews(60)), tmp_path)
    assert isinstance(task, Classification)
    assert task.labels == ("bad", "good")


@pytest.mark.parametrize("text", ["", "[1, 2]", "["])
def test_a_file_without_names_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(ValueError, match=r"^task\.labels: "):
        resolve_task(classification(tmp_path, labels=str(tmp_path / "names"), train=reviews(60)), tmp_path)


def test_labels_that_are_neither_names_nor_places_are_refused(tmp_path: Path) -> None:
    rows = labelled([f"text {i}" for i in range(60)], [i % 3 for i in range(60)])
    with pytest.raises(
        ValueError, match=r"task\.rows\.train: holds the labels 0, 1, 2: wanted those of task.labels, bad, good, or"
    ):
        read_task(classification(tmp_path, labels=("bad", "good"), train=rows), tmp_path / "cache")


def test_a_label_that_no_training_row_has_is_refused_where_nothing_names_it(tmp_path: Path) -> None:
    splits: dict[str, Any] = {"train": reviews(60), "validation": reviews(9, 100), "test": labelled(["a text"], [2])}
    wanted = r"^task\.rows\.test: .*line 1 holds the label 2, which no training row has: wanted one of 0, 1$"
    with pytest.raises(ValueError, match=wanted):
        read_task(classification(tmp_path, **splits), tmp_path / "cache")


def test_a_label_that_is_named_but_has_no_training_row_is_stated(tmp_path: Path) -> None:
    splits: dict[str, Any] = {
        "train": reviews(60),
        "validation": reviews(9, 100),
        "test": labelled(["a", "b", "c"], [2, 2, 0]),
    }
    data = read_task(classification(tmp_path, labels=("no", "yes", "maybe", "never"), **splits), tmp_path / "cache")
    assert data.facts["labels_without_training_rows"] == ["maybe", "never"]
    assert data.facts["held_out_rows_of_them"] == {"test": {"maybe": 2}}
    assert data.facts["labels"]["train"] == {"no": 40, "yes": 20, "maybe": 0, "never": 0}


def test_one_label_alone_is_nothing_to_learn(tmp_path: Path) -> None:
    rows = labelled([f"text {i}" for i in range(60)], ["spam"] * 60)
    with pytest.raises(
        ValueError, match=r"^task\.rows\.train has rows of the label \['spam'\] alone: wanted at least 2"
    ):
        read_task(classification(tmp_path, train=rows), tmp_path / "cache")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_whose_labels_are_hidden_is_refused(split: str, tmp_path: Path) -> None:
    splits: dict[str, Any] = {"train": reviews(60), "validation": reviews(9, 100), "test": reviews(9, 200)}
    splits[split] = labelled([f"hidden {i}" for i in range(5)], [-1] * 5)
    with pytest.raises(ValueError, match=rf"^task\.rows\.{split}: holds 5 rows and tells the answer of none"):
        read_task(classification(tmp_path, **splits), tmp_path / "cache")


def test_rows_without_text_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    train = [*reviews(60), *labelled(["no gold label", "", "  "], [-1, 0, 1]), {"text": None, "label": 0}]
    data = read_task(classification(tmp_path, train=train), tmp_path / "cache")
    assert data.facts["left_out"] == {"train": {"no_label": 1, "no_text": 3}}
    assert sum(data.facts["rows"].values()) == 60


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (Similarity, {"text": "a", "second": "b", "score": -1}),
        (QuestionAnswering, {"question": "a", "context": "b", "answers": {"text": [], "answer_start": []}}),
        (Generation, {"source": "a", "target": ""}),
    ],
)
def test_hidden_answers_of_other_kinds_are_refused_too(task: Any, row: dict[str, Any], tmp_path: Path) -> None:
    told: dict[str, Any] = {"score": 3, "answers": {"text": ["b"], "answer_start": [0]}, "target": "c"}
    train = [{name: told.get(name, f"{value} {i}") for name, value in row.items()} for i in range(30)]
    train = [{**row, "context": "b"} if "context" in row else row for row in train]
    rows = LocalRows(
        train=write_rows(tmp_path / "train.jsonl", train), test=write_rows(tmp_path / "test.jsonl", [row] * 3)
    )
    with pytest.raises(ValueError, match=r"^task\.rows\.test: holds .*: wanted a split with"):
        read_task(task(name="t", rows=rows.model_copy(update={"validation": rows.train})), tmp_path / "cache")


def test_an_alert_is_of_a_label_that_there_is(tmp_path: Path) -> None:
    task = classification(tmp_path, train=reviews(60)).model_copy(
        update={"alert": Alert(label="bad", min_precision=0.9)}
    )
    with pytest.raises(ValueError, match=r"^task\.alert\.label must be one of \['0', '1'\], got 'bad'"):
        resolve_task(task, tmp_path / "cache")


# ---- splits ----------------------------------------------------------------------------------------


def test_missing_splits_are_cut_by_the_seed_and_have_the_labels_of_the_whole(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        data = read_task(classification(tmp_path, Splitting(seed=seed), train=reviews(300)), tmp_path / "cache")
        assert data.facts["rows"] == {"train": 240, "validation": 30, "test": 30}
        assert data.facts["labels"]["test"] == {"0": 20, "1": 10}
        assert data.facts["labels"]["validation"] == {"0": 20, "1": 10}
        assert len({item.id for split in (data.train, data.validation, data.test) for item in split}) == 300
        found.append({item.id for item in data.test})
    assert found[0] != found[1]


def test_a_given_split_is_not_cut_from(tmp_path: Path) -> None:
    data = read_task(classification(tmp_path, train=reviews(200), test=reviews(50, 500)), tmp_path / "cache")
    assert data.facts["split"] == {"train": "given", "validation": "cut from train", "test": "given"}
    assert data.facts["rows"] == {"train": 180, "validation": 20, "test": 50}


def test_rows_of_a_group_and_equal_texts_stay_together(tmp_path: Path) -> None:
    rows = [{**row, "author": f"a{i % 40}"} for i, row in enumerate(reviews(400))]
    data = read_task(classification(tmp_path, Splitting(group="author"), train=rows), tmp_path / "cache")
    sides = [
        {(int(item.id.split("-")[1]) - 1) % 40 for item in split} for split in (data.train, data.validation, data.test)
    ]
    assert [len(side) for side in sides] == [32, 4, 4]
    assert len(set().union(*sides)) == 40
    twice = [*reviews(100), *({**row, "text": row["text"].upper() + " !"} for row in reviews(100))]
    assert all(
        pair == {"train": 0, "validation": 0} or 0 in pair.values()
        for pair in read_task(classification(tmp_path, train=twice), tmp_path / "cache").facts["overlap"].values()
    )


def test_a_rare_label_stays_where_it_can_be_learned(tmp_path: Path) -> None:
    rows = [*reviews(100), *labelled(["rare one", "rare two"], [7, 7])]
    data = read_task(classification(tmp_path, train=rows), tmp_path / "cache")
    assert data.facts["labels"]["train"]["7"] == 2


def test_too_few_rows_to_cut_from_are_refused(tmp_path: Path) -> None:
    rows = labelled(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match=r"^task\.rows\.train holds 2 rows .* too few to cut validation and test from"):
        read_task(classification(tmp_path, train=rows), tmp_path / "cache")


def test_every_prefix_of_a_stratified_order_has_the_shares_of_the_whole() -> None:
    strata = np.repeat([0, 1, 2], [70, 25, 5])
    order = stratified_order(strata, draws(key("test"), np.arange(100, dtype=np.uint64)))
    assert sorted(order.tolist()) == list(range(100))
    for num in range(1, 101):
        counts = np.bincount(strata[order[:num]], minlength=3)
        assert (np.abs(counts - num * np.array([0.7, 0.25, 0.05])) <= 1).all()


# ---- overlap ---------------------------------------------------------------------------------------


def overlapping() -> dict[str, Any]:
    """12 texts of test are in train, in other letters, 3 of them twice; 5 of validation are."""
    test, validation = reviews(40, 1000), reviews(20, 2000)
    again = [*test[:12], *test[:3]]
    train = [*reviews(100), *({**row, "text": f"{row['text'].upper()} !!"} for row in [*again, *validation[:5]])]
    return {"train": train, "validation": validation, "test": test}


def test_texts_that_splits_share_are_counted_whatever_their_letters(tmp_path: Path) -> None:
    data = read_task(classification(tmp_path, **overlapping()), tmp_path / "cache")
    assert data.facts["overlap"] == {
        "train/validation": {"train": 5, "validation": 5},
        "train/test": {"train": 15, "test": 12},
        "validation/test": {"validation": 0, "test": 0},
    }
    assert data.facts["removed_from_train"] == 0
    assert len(data.train) == 120


def test_shared_texts_are_taken_out_of_training_alone(tmp_path: Path) -> None:
    data = read_task(classification(tmp_path, Splitting(overlap="remove"), **overlapping()), tmp_path / "cache")
    assert data.facts["removed_from_train"] == 20
    assert data.facts["overlap"]["train/test"] == {"train": 15, "test": 12}
    assert data.facts["rows"] == {"train": 100, "validation": 20, "test": 40}
    assert {item.text for item in data.train} == {row["text"] for row in reviews(100)}


def test_nothing_is_left_where_all_texts_are_held_out(tmp_path: Path) -> None:
    task = classification(
        tmp_path, Splitting(overlap="remove"), train=reviews(9), validation=reviews(9), test=reviews(9)
    )
    with pytest.raises(ValueError, match=r"^task\.splitting\.overlap=remove leaves no training rows"):
        read_task(task, tmp_path / "cache")


def test_of_pairs_both_texts_count(tmp_path: Path) -> None:
    rows = [{**row, "second": f"answer {i % 2}"} for i, row in enumerate(reviews(60))]
    other = [{**row, "second": f"answer {1 - i % 2}"} for i, row in enumerate(reviews(60))]
    paths = {
        name: write_rows(tmp_path / f"{name}.jsonl", held) for name, held in {"train": rows, "test": other}.items()
    }
    for second, shared in (("second", 0), (None, 60)):
        task = Classification(name="t", rows=LocalRows(validation=paths["train"], **paths), second=second)
        assert read_task(task, tmp_path / "cache").facts["overlap"]["train/test"] == {"train": shared, "test": shared}


def test_texts_without_words_are_equal_only_if_they_are(tmp_path: Path) -> None:
    train = [*reviews(60), *labelled(["!!!", "???"], [0, 1])]
    data = read_task(
        classification(tmp_path, train=train, validation=reviews(9, 100), test=labelled(["!!!", ":)"], [0, 1])),
        tmp_path / "cache",
    )
    assert data.facts["overlap"]["train/test"] == {"train": 1, "test": 1}


def test_equal_texts_of_different_labels_are_counted(tmp_path: Path) -> None:
    train = [*reviews(60), *labelled(["same text", "Same text.", "same text", "twin", "twin"], [0, 1, 1, 0, 0])]
    test = labelled(["twin!", "other"], [1, 0])
    data = read_task(classification(tmp_path, train=train, validation=reviews(9, 100), test=test), tmp_path / "cache")
    assert data.facts["conflicting_labels"] == {"train": 1, "validation": 0, "test": 0, "all": 2}


# ---- the cache -------------------------------------------------------------------------------------


def test_a_task_is_read_once_and_again_when_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, content = resolve_task(classification(tmp_path, train=reviews(60)), tmp_path / "cache")
    first = read_task(task, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("scaling.data.tasks.raw_items.read_table", None)
        assert read_task(task, tmp_path / "cache") == first
        check_task_content(task, content, tmp_path / "cache")
    write_rows(tmp_path / "train.jsonl", reviews(90))
    with pytest.raises(ValueError, match=r"^task\.rows\.train changed since this run was specified"):
        check_task_content(task, content, tmp_path / "cache")
    assert sum(read_task(task, tmp_path / "cache").facts["rows"].values()) == 90


def test_a_moved_file_is_the_same_task(tmp_path: Path) -> None:
    contents = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        contents.append(resolve_task(classification(tmp_path / name, train=reviews(60)), tmp_path / "cache")[1])
    assert contents[0] == contents[1]
    assert Counter(len(value) for value in contents[0].values()) == {64: 1}
