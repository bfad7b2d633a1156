"""Rows of labelled tasks from files of every format, and from the hub."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from task_files import write_rows

from scaling.data.tasks.items import LabelledText, LabelledTokens, Question, ScoredPair, SourceTarget
from scaling.data.tasks.read import read_task, resolve_task
from scaling.task import (
    AnyTask,
    Classification,
    Generation,
    HubRows,
    LocalRows,
    QuestionAnswering,
    Similarity,
    TokenClassification,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = [f'line {i}, with "quotes" and\ttabs' if i % 5 == 0 else f"text {i}" for i in range(30)]
LABELS = [("yes", "no", "maybe")[i % 3] for i in range(30)]
PLAIN = [text.replace("\t", " ") for text in TEXTS]

SENTENCES = [
    (["EU", "rejects", "German", "call"], ["B-ORG", "O", "B-MISC", "O"]),
    (["Peter", "Black"], ["B-PER", "I-PER"]),
]


def items(task: AnyTask, folder: Path) -> list[Any]:
    """All items in the order of the file."""
    data = read_task(task, folder / "cache")
    found = [*data.train, *data.validation, *data.test]
    return sorted(found, key=lambda item: int(item.id.split("-")[1]) if "-" in item.id else 0)


def write_table(path: Path, rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    if path.name.endswith(".jsonl"):
        write_rows(path, rows)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1))
    elif path.name.endswith(".csv"):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *([row[name] for name in names] for row in rows)])
    elif path.name.endswith(".tsv"):
        path.write_text("".join("\t".join(map(str, line)) + "\n" for line in [names, *(row.values() for row in rows)]))
    elif path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return str(path)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "csv", "tsv", "parquet"])
def test_a_table_gives_the_same_rows_in_every_format(suffix: str, tmp_path: Path) -> None:
    texts = PLAIN if suffix == "tsv" else TEXTS
    rows = [{"text": text, "label": label} for text, label in zip(texts, LABELS, strict=True)]
    task = Classification(name="t", rows=LocalRows(train=write_table(tmp_path / f"train.{suffix}", rows)))
    data = read_task(task, tmp_path / "cache")
    assert data.labels == ("maybe", "no", "yes")
    found = items(task, tmp_path)
    assert [item.text for item in found] == texts
    assert [data.labels[item.label] for item in found] == LABELS


def test_a_glob_is_read_as_one_split(tmp_path: Path) -> None:
    for part in range(3):
        rows = [{"text": f"text {i}", "label": i % 2} for i in range(10 * part, 10 * part + 10)]
        write_rows(tmp_path / f"part-{part}.jsonl", rows)
    task = Classification(name="t", rows=LocalRows(train=str(tmp_path / "part-*.jsonl")))
    assert [item.text for item in items(task, tmp_path)] == [f"text {i}" for i in range(30)]


def conll(sentences: Iterable[tuple[list[str], list[str]]], between: str) -> str:
    lines = ["-DOCSTART- -X- -X- O", ""]
    for words, tags in sentences:
        lines += [
            between.join([word, *(["NN"] if between == " " else []), tag])
            for word, tag in zip(words, tags, strict=True)
        ]
        lines += ["", ""]
    return "\n".join(lines)


@pytest.mark.parametrize("between", ["\t", " "])
def test_conll_gives_a_sentence_per_blank_line_with_the_last_column_as_tags(between: str, tmp_path: Path) -> None:
    sentences = [([f"w{i}", *words], ["O", *tags]) for i in range(10) for words, tags in SENTENCES]
    path = tmp_path / "train.conll"
    path.write_text(conll(sentences, between), encoding="utf-8")
    task = TokenClassification(name="t", tags="ner_tags", rows=LocalRows(train=str(path)))
    data = read_task(task, tmp_path / "cache")
    found = items(task, tmp_path)
    assert [list(item.tokens) for item in found] == [words for words, _ in sentences]
    assert [[data.labels[tag] for tag in item.tags] for item in found] == [tags for _, tags in sentences]


def test_tags_may_be_numbers_or_names_and_mean_the_same(tmp_path: Path) -> None:
    names = ("O", "B-PER", "I-PER", "B-ORG", "B-MISC")
    rows = [{"tokens": [f"w{i}", *words], "tags": ["O", *tags]} for i in range(10) for words, tags in SENTENCES]
    numbered = [{**row, "tags": [names.index(tag) for tag in row["tags"]]} for row in rows]
    spaced = [{"tokens": " ".join(row["tokens"]), "tags": " ".join(row["tags"])} for row in rows]
    found = []
    for name, held in (("names", rows), ("numbers", numbered), ("spaced", spaced)):
        path = write_rows(tmp_path / f"{name}.jsonl", held)
        found.append(items(TokenClassification(name="t", rows=LocalRows(train=path), labels=names), tmp_path))
    assert found[0] == found[1] == found[2]
    assert isinstance(found[0][0], LabelledTokens)


CONTEXT = "  The tower is in Paris. Paris is in France."
ANSWERS: dict[str, Any] = {"text": ["Paris"], "answer_start": [CONTEXT.index("Paris")]}


def squads() -> dict[str, Any]:
    flat = [
        {"id": f"q{i}", "question": f"Where {i}?", "context": f"{CONTEXT} {i // 2}", "answers": ANSWERS}
        for i in range(20)
    ]
    listed = [{**row, "answers": [{"text": "Paris", "answer_start": ANSWERS["answer_start"][0]}]} for row in flat]
    paragraphs = [
        {"context": row["context"], "qas": [{key: row[key] for key in ("id", "question", "answers")}]} for row in listed
    ]
    nested = {"version": "1", "data": [{"title": "a", "paragraphs": paragraphs[:9]}, {"paragraphs": paragraphs[9:]}]}
    return {"flat": flat, "listed": listed, "nested": nested, "wrapped": {"data": flat}}


def test_questions_are_the_same_flat_and_nested(tmp_path: Path) -> None:
    found = {}
    for name, held in squads().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(held))
        data = read_task(QuestionAnswering(name="t", rows=LocalRows(train=str(tmp_path / f"{name}.json"))), tmp_path)
        found[name] = data
        (one,) = [item for item in (*data.train, *data.validation, *data.test) if item.id == "q3"]
        assert one == Question("q3", "Where 3?", f"{CONTEXT} 1", (("Paris", CONTEXT.index("Paris")),))
        contexts = [{item.context for item in split} for split in (data.train, data.validation, data.test)]
        assert not contexts[0] & contexts[1] | contexts[0] & contexts[2], "questions of a context stay together"
    assert found["flat"].train == found["listed"].train == found["nested"].train == found["wrapped"].train


def test_an_answer_is_found_where_it_stands_and_left_out_where_it_is_not(tmp_path: Path) -> None:
    answers = [
        {"text": ["Paris", "France"], "answer_start": [18, 0]},  # France stands elsewhere
        {"text": ["Paris"], "answer_start": [26]},  # near the second
        {"text": ["London"], "answer_start": [3]},
    ]
    rows = [{"question": f"{i}?", "context": f"{CONTEXT} {i}", "answers": answers[i % 3]} for i in range(30)]
    data = read_task(
        QuestionAnswering(name="t", rows=LocalRows(train=write_rows(tmp_path / "a.jsonl", rows))), tmp_path
    )
    assert data.facts["left_out"] == {"train": {"answer_not_in_context": 10}}
    assert data.facts["answers_moved"] == {"train": 20}
    found = {item.answers for split in (data.train, data.validation, data.test) for item in split}
    second = CONTEXT.rindex("Paris")
    assert found == {(("Paris", 18), ("France", CONTEXT.index("France"))), (("Paris", second),)}


def test_a_target_is_one_text_or_several_and_may_be_nested(tmp_path: Path) -> None:
    rows: list[Mapping[str, Any]] = [
        {
            "translation": {"en": f"word {i}", "de": f"Wort {i}"},
            "lines": [f"a {i}.", "b."],
            "tldrs": [f"x {i}", "", "y"],
        }
        for i in range(20)
    ]
    path = LocalRows(train=write_rows(tmp_path / "a.jsonl", rows))
    nested = items(Generation(name="t", rows=path, source="translation.en", target="translation.de"), tmp_path)
    assert nested[3] == SourceTarget("train-4", "word 3", ("Wort 3",))
    several = items(Generation(name="t", rows=path, source="lines", target="tldrs"), tmp_path)
    assert several[3] == SourceTarget("train-4", "a 3. b.", ("x 3", "y"))


def test_scores_are_numbers_or_texts_that_say_one(tmp_path: Path) -> None:
    rows = [{"text": f"a {i}", "second": f"b {i}", "score": i / 4 if i % 2 else str(i / 4)} for i in range(20)]
    task = Similarity(name="t", rows=LocalRows(train=write_rows(tmp_path / "a.jsonl", rows)))
    assert items(task, tmp_path)[5] == ScoredPair("train-6", "a 5", "b 5", 1.25)


# ---- the hub: a folder is a repository to `datasets`, so the reading is real ------------------------


def hub_folder(folder: Path, names: list[str]) -> str:
    import datasets

    features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    for split, num in (("train", 40), ("validation", 10)):
        rows = {"sentence": [f"{split} {i}" for i in range(num)], "label": [i % 2 for i in range(num)]}
        path = folder / "default" / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return str(folder)


def test_labels_of_the_hub_have_the_names_of_their_feature_whatever_their_order(tmp_path: Path) -> None:
    found = []
    for mirror in (["bad", "good"], ["good", "bad"]):
        repo = hub_folder(tmp_path / mirror[0], mirror)
        rows = HubRows(repo=repo, config="default", revision=COMMIT, validation=None, test="validation")
        plain = Classification(name="t", rows=rows, text="sentence")
        data = read_task(plain, tmp_path / "cache")
        assert data.labels == tuple(mirror)
        assert [data.labels[item.label] for item in data.test] == [mirror[i % 2] for i in range(10)]
        named = read_task(plain.model_copy(update={"labels": ("bad", "good")}), tmp_path / "cache")
        found.append([named.labels[item.label] for item in named.test])
    assert found[0] == [{"good": "bad", "bad": "good"}[name] for name in found[1]]


def test_a_local_parquet_keeps_the_names_that_datasets_wrote(tmp_path: Path) -> None:
    repo = Path(hub_folder(tmp_path, ["bad", "good"]))
    rows = LocalRows(train=str(repo / "default/train/*.parquet"))
    assert read_task(Classification(name="t", rows=rows, text="sentence"), tmp_path / "cache").labels == ("bad", "good")


def test_a_hub_task_is_pinned_and_says_its_labels_once_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    repo = hub_folder(tmp_path, ["bad", "good"])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, repo, revision: SimpleNamespace(sha=COMMIT))
    rows = HubRows(repo=repo, config="default", validation=None, test="validation")
    task, content = resolve_task(Classification(name="t", rows=rows, text="sentence"), tmp_path / "cache")
    assert isinstance(task.rows, HubRows)
    assert task.rows.revision == COMMIT
    assert isinstance(task, Classification)
    assert task.labels == ("bad", "good")
    assert sorted(content) == ["test", "train"]
    monkeypatch.setattr("scaling.data.tasks.tables.open_table", None)  # all is in the cache by now
    assert resolve_task(task, tmp_path / "cache") == (task, content)
    assert len(read_task(task, tmp_path / "cache").test) == 10


def test_a_script_of_the_hub_is_refused_with_the_revision_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found conll2003.py")

    monkeypatch.setattr("scaling.data.tasks.tables.open_table", refuse)
    task = TokenClassification(name="t", rows=HubRows(repo="someone/ner", revision=COMMIT))
    with pytest.raises(ValueError, match=r"^task\.rows\.train: repo='someone/ner' .*revision=refs/convert/parquet"):
        resolve_task(task, tmp_path)


# ---- what is wrong with files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "name", "text", "wanted"),
    [
        (
            Classification,
            "a.jsonl",
            '{"sentence": "a", "label": 1}\n',
            "line 1 has no column 'text'.*'label', 'sentence'",
        ),
        (Classification, "a.jsonl", '{"text": "a"}\n', "line 1 has no column 'label'"),
        (Classification, "a.jsonl", '{"text": 5, "label": 1}\n', "line 1 column 'text' holds a number: wanted text"),
        (
            Classification,
            "a.jsonl",
            '{"text": "a", "label": null}\n',
            "line 1 column 'label' holds nothing: wanted a lab",
        ),
        (
            Classification,
            "a.jsonl",
            '{"text": "a", "label": 0.5}\n',
            "line 1 column 'label' holds a number: wanted a lab",
        ),
        (Classification, "a.jsonl", "", "holds no rows"),
        (Classification, "a.csv", "text,label\n", "holds no rows"),
        (Classification, "a.csv", "sentence,label\na,1\n", "has no column 'text'"),
        (Classification, "a.tsv", "text\tlabel\na\n", "line 2 has 1 fields: wanted 2"),
        (Classification, "a.conll", "a O\n", "holds words and their tags: wanted a task of kind tokens"),
        (Classification, "a.jsonl", "[1]\n", "line 1 holds a list: wanted an object"),
        (Classification, "a.jsonl", "{", "line 1 is not JSON"),
        (Classification, "a.json", '{"data": [{"paragraphs": []}]}', "wanted a task of kind qa"),
        (Classification, "a.xlsx", "x", "wanted .jsonl, .json, .csv, .tsv, .parquet, .conll"),
        (TokenClassification, "a.conll", "word\n", "line 1 holds 'word': wanted a word and its tag"),
        (TokenClassification, "a.jsonl", '{"tokens": ["a"], "tags": []}\n', "has 1 tokens and 0 tags"),
        (
            TokenClassification,
            "a.jsonl",
            '{"tokens": 1, "tags": []}\n',
            "column 'tokens' holds a number: wanted a list",
        ),
        (Similarity, "a.jsonl", '{"text": "a", "second": "b", "score": "x"}\n', "'score' holds 'x': wanted a number"),
        (Similarity, "a.jsonl", '{"text": "a", "second": "b", "score": NaN}\n', "wanted a number"),
        (QuestionAnswering, "a.json", '{"data": [{"paragraphs": [{}]}]}', "is not nested as SQuAD is"),
        (
            QuestionAnswering,
            "a.jsonl",
            '{"question": "a", "context": "b", "answers": "c"}\n',
            "'answers' holds text: wanted",
        ),
        (Generation, "a.jsonl", '{"source": "a", "target": 3}\n', "column 'target' holds a number: wanted text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    task: Any, name: str, text: str, wanted: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=wanted) as error:
        read_task(task(name="t", rows=LocalRows(train=str(tmp_path / name))), tmp_path / "cache")
    assert str(error.value).startswith("task.rows.train: ")
    assert "\n" not in str(error.value)


def test_a_group_that_no_row_has_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": str(i), "label": i % 2} for i in range(30)])
    task = Classification.model_validate(
        {"name": "t", "rows": {"kind": "local", "train": path}, "splitting": {"group": "author"}}
    )
    with pytest.raises(ValueError, match=r"^task\.rows\.train: .* line 1 has no column 'author'"):
        read_task(task, tmp_path / "cache")


def test_an_item_is_a_labelled_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": f" t{i} ", "b": f"s{i}", "label": i % 2} for i in range(30)])
    task = Classification(name="t", rows=LocalRows(train=path), second="b")
    assert items(task, tmp_path)[4] == LabelledText("train-5", "t4", "s4", 0)
