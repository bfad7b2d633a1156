"""Tasks whose rows the Python installation holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling.data import embedded
from scaling.data.tasks import embedded_tasks
from scaling.data.tasks.read import read_task
from scaling.task import Classification, EmbeddedRows, Splitting, TokenClassification

WORDS = "These are more than twelve words that say what a function of the library does with"
CODE = "def double(number, times=2):\n    return [number * 2 for _ in range(times)] + ['a', 1.5]\n"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of 60 modules of three libraries."""
    libraries = ("python", "torch", "sympy")
    docs = [(f"{libraries[i % 3]}/m{i}.py", f"{WORDS} {i} one.\n\nShort.\n\n{WORDS} {i} two.") for i in range(60)]
    code = [(f"python/m{i}.py", CODE.replace("double", f"double{i}") * 3) for i in range(60)]
    monkeypatch.setattr(embedded, "texts", lambda part: iter(docs if part == "docs" else code))
    monkeypatch.setattr(embedded, "fingerprint", lambda part: part)


@pytest.mark.usefixtures("installed")
def test_a_paragraph_of_a_docstring_is_of_its_library_and_modules_stay_whole(tmp_path: Path) -> None:
    task = Classification(name="library", rows=EmbeddedRows(part="library"), splitting=Splitting(group="module"))
    data = read_task(task, tmp_path)
    assert data.labels == embedded_tasks.LIBRARIES
    assert sum(data.facts["rows"].values()) == 120
    modules = [{item.text.split()[-2] for item in split} for split in (data.train, data.validation, data.test)]
    assert len(modules[0] | modules[1] | modules[2]) == sum(map(len, modules)) == 60
    for item in data.test:
        module = int(item.text.split()[-2])
        assert data.labels[item.label] == ("python", "torch", "sympy")[module % 3]


@pytest.mark.usefixtures("installed")
def test_a_token_is_of_the_kind_that_tokenize_says(tmp_path: Path) -> None:
    task = TokenClassification(name="python_tokens", rows=EmbeddedRows(part="python_tokens"), is_bio=False)
    data = read_task(task, tmp_path)
    kinds = {word: data.labels[tag] for item in data.train for word, tag in zip(item.tokens, item.tags, strict=True)}
    assert {word: kinds[word] for word in ("return", "number", "*", "1.5", "'a'", "range", "in")} == {
        "return": "KEYWORD",
        "number": "NAME",
        "*": "OP",
        "1.5": "NUMBER",
        "'a'": "STRING",
        "range": "NAME",
        "in": "KEYWORD",
    }


@pytest.mark.usefixtures("installed")
def test_rows_go_with_a_task_of_their_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part='python_tokens' goes with a task that has 'tags'"):
        read_task(Classification(name="t", rows=EmbeddedRows(part="python_tokens")), tmp_path)
