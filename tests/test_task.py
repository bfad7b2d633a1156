"""The task files that come with the project, and what a command line may change of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from scaling.data.tasks.columns import columns_of
from scaling.data.tasks.tables import given_splits
from scaling.task import METRICS, AnyTask, HubRows, LocalRows, check_metric, metric_of

CONF = Path(__file__).resolve().parent.parent / "conf" / "task"
FILES = {str(path.relative_to(CONF).with_suffix("")): path for path in sorted(CONF.rglob("*.yaml"))}
TASKS = {name: path for name, path in FILES.items() if name != "none"}
ASKED = {
    "sst2", "ag_news", "conll2003", "squad", "multi30k", "scitldr", "chnsenticorp", "csl", "weibo_ner", "cmrc2018",
    "intent", "financial_sentiment", "item_interest", "library", "python_tokens",
    *(f"glue/{name}" for name in ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli")),
    *(f"clue/{name}" for name in ("afqmc", "tnews", "iflytek", "cmnli", "ocnli", "csl", "cmrc2018")),
}  # fmt: skip


def read(name: str, *overrides: str) -> Any:
    """A task file with overrides, as the command line has them behind `task.`."""
    tree = OmegaConf.load(TASKS[name])
    if OmegaConf.missing_keys(tree):
        overrides = ("rows.train=rows.jsonl", *overrides)
    tree = OmegaConf.merge(tree, OmegaConf.from_dotlist(list(overrides)))
    return TypeAdapter(AnyTask).validate_python(OmegaConf.to_container(tree, resolve=True))


def test_every_task_asked_for_has_a_file() -> None:
    assert TASKS.keys() >= ASKED


@pytest.mark.parametrize("name", TASKS)
def test_a_task_file_is_a_task_with_its_columns_named(name: str) -> None:
    task = read(name)
    assert task.name == name.replace("/", "_")
    check_metric(task)
    assert metric_of(task) in METRICS[task.kind]
    written = OmegaConf.to_container(OmegaConf.load(TASKS[name]))
    assert isinstance(written, dict)
    roles = {role: column for role, column in columns_of(task).items() if role != "group"}
    assert {role: written.get(role) for role in roles} == roles, "columns stand in the file, to be changed"
    assert TASKS[name].read_text(encoding="utf-8").startswith("# "), "the first line says what the task is"
    assert "train" in given_splits(task.rows)


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("library", "python_tokens")])
def test_any_task_is_pointed_at_local_files(name: str) -> None:
    task = read(name, "rows.kind=local", "rows.train=a.jsonl", "rows.validation=null", "rows.test=b.jsonl")
    assert task.rows == LocalRows(train="a.jsonl", test="b.jsonl")
    assert columns_of(task) == columns_of(read(name))


def test_only_keys_of_other_kinds_of_rows_are_left_behind() -> None:
    with pytest.raises(ValidationError, match="trian"):
        read("sst2", "rows.trian=a.jsonl")
    assert isinstance(read("sst2").rows, HubRows)
    with pytest.raises(ValidationError, match="kind"):
        read("sst2", "rows.kind=remote")


def test_a_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^task\.metric must be one of \['f1', .*got 'bleu'"):
        check_metric(read("conll2003", "metric=bleu"))
