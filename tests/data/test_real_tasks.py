"""Real labelled sets kept beside the repository: each is read by the task file that names it; counts as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from scaling.data.tasks.items import TaskData
from scaling.data.tasks.read import read_task, resolve_task
from scaling.data.tasks.subset import training_rows
from scaling.method import Method
from scaling.task import AnyTask

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf" / "task"


@pytest.fixture(scope="module")
def tasks() -> Path:
    path = ROOT.parent / "shared" / "data" / "tasks"
    if not path.is_dir():
        pytest.skip("the shared tasks are not here")
    return path


def read(cache: Path, name: str, *overrides: str, **splits: Path) -> TaskData[Any]:
    """A task file whose rows are local files."""
    tree = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), OmegaConf.from_dotlist(list(overrides)))
    held = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(held, dict)
    held["rows"] = {"kind": "local", **{split: str(path) for split, path in splits.items()}}
    task, _ = resolve_task(TypeAdapter(AnyTask).validate_python(held), cache)
    return read_task(task, cache)


def splits_of(folder: Path, suffix: str) -> dict[str, Path]:
    """train, validation and test, compressed or not."""
    return {split: next(folder.glob(f"{split}{suffix}*")) for split in ("train", "validation", "test")}


def test_sst2_has_the_rows_of_glue(tasks: Path, tmp_path: Path) -> None:
    data = read(tmp_path, "sst2", **splits_of(tasks / "sst2", ".jsonl"))
    assert data.facts["rows"] == {"train": 67_349, "validation": 872, "test": 1821}
    assert data.facts["labels"]["train"] == {"negative": 29_780, "positive": 37_569}
    small, large = (training_rows(data, num, 0, Method())[0] for num in (100, 1000))
    assert large[:100] == small


def test_chnsenticorp_has_some_330_test_texts_in_train_and_they_are_taken_out(tasks: Path, tmp_path: Path) -> None:
    rows = splits_of(tasks / "chnsenticorp", ".jsonl")
    kept = read(tmp_path, "chnsenticorp", "splitting.overlap=report", **rows)
    held_out = {item.text for item in kept.test}
    assert len(held_out & {item.text for item in kept.train}) == 330
    assert kept.facts["overlap"]["train/test"] == {"train": 351, "test": 335}  # whatever their punctuation
    data = read(tmp_path, "chnsenticorp", **rows)
    assert data.facts["rows"] == {"train": 9600 - data.facts["removed_from_train"], "validation": 1200, "test": 1200}
    assert not {item.text for item in data.train} & held_out
    assert data.facts["conflicting_labels"]["train"] == 25


def test_csl_has_names_of_labels_in_its_rows(tasks: Path, tmp_path: Path) -> None:
    data = read(tmp_path, "csl", "text=text", "label=label_name", **splits_of(tasks / "csl_category", ".jsonl"))
    assert len(data.labels) == 13
    assert data.facts["labels"]["train"]["工学"] == 3536
    assert data.facts["labels"]["test"]["军事学"] == 8
    few, _ = training_rows(data, 13, 0, Method())
    assert len({item.label for item in few}) == 13


def test_ag_news_has_its_validation_cut_from_train(tasks: Path, tmp_path: Path) -> None:
    folder = tasks / "ag_news_small"
    data = read(tmp_path, "ag_news", train=folder / "train.jsonl.gz", test=folder / "test.jsonl.gz")
    assert data.facts["rows"] == {"train": 9001, "validation": 1000, "test": 7600}
    assert data.facts["labels"]["test"] == dict.fromkeys(["World", "Sports", "Business", "Sci/Tech"], 1900)


@pytest.mark.parametrize(
    ("name", "rows", "entities"),
    [
        ("conll2003", (14_041, 3250, 3453), {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}),
        ("weibo_ner", (1350, 270, 270), {"GPE.NAM": 205, "PER.NOM": 766}),
    ],
)
def test_entities_are_as_many_as_published(
    name: str, rows: tuple[int, ...], entities: dict[str, int], tasks: Path, tmp_path: Path
) -> None:
    data = read(tmp_path, name, **splits_of(tasks / name, ".conll"))
    assert tuple(data.facts["rows"][split] for split in ("train", "validation", "test")) == rows
    assert {kind: data.facts["labels"]["train"][f"B-{kind}"] for kind in entities} == entities


def test_questions_are_read_as_squad_nests_them(tasks: Path, tmp_path: Path) -> None:
    folder = tasks / "squad_small"
    data = read(tmp_path, "squad", train=folder / "train.json.gz", test=folder / "validation.json.gz")
    assert len(data.test) == 1190
    assert len(data.train) + len(data.validation) == 11_877
    for item in data.test:
        assert all(item.context.startswith(text, start) for text, start in item.answers)
    folder = tasks / "cmrc2018"
    chinese = read(tmp_path, "cmrc2018", train=folder / "cmrc2018_dev.json.gz", test=folder / "cmrc2018_trial.json.gz")
    assert chinese.facts["rows"]["test"] == 1000
    assert chinese.facts["left_out"] == {"test": {"no_text": 2}}
    assert chinese.facts["answers_moved"] == {"train": 7, "test": 5}


def test_texts_made_from_texts_have_all_that_are_right(tasks: Path, tmp_path: Path) -> None:
    captions = read(tmp_path, "multi30k", **splits_of(tasks / "multi30k", ".jsonl"))
    assert captions.facts["rows"] == {"train": 29_000, "validation": 1014, "test": 1000}
    papers = read(tmp_path, "scitldr", **splits_of(tasks / "scitldr", ".jsonl"))
    assert papers.facts["rows"] == {"train": 1992, "validation": 619, "test": 618}
    assert max(len(item.targets) for item in papers.test) > 1
    folder = tasks / "csl_title"
    titles = read(
        tmp_path,
        "csl_title",
        "source=document",
        "target=summary",
        train=folder / "validation.jsonl.gz",
        test=folder / "test.jsonl.gz",
    )
    assert titles.facts["rows"] == {"train": 900, "validation": 100, "test": 1000}
