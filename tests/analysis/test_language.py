"""The catalogue: every sentence that a report can say is there in Chinese, with the same fields."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from string import Formatter

import pytest

from analysis.contrasts.contrast import Decision
from analysis.fitting.result import Status
from analysis.page.held_fixed import PARTS
from analysis.page.language import CATALOGUES, LANGUAGES, Said, in_english, listed, say, speaking, spoken
from analysis.runs.run_facts import STATES

ANALYSIS = Path(__file__).parents[2] / "analysis"
CATALOGUE: dict[str, str] = json.loads((CATALOGUES / "zh.json").read_text(encoding="utf-8"))


def said_in(path: Path) -> set[str]:
    """The sentences that a file says."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".j2":
        return set(re.findall(r'say\("([^"]*)"', text))
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and node.args]
    said = [node.args[0] for node in calls if getattr(node.func, "id", getattr(node.func, "attr", "")) == "say"]
    return {part.value for part in said if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def sentences() -> set[str]:
    """All that is said literally, and the words that are said out of a record."""
    files = [*ANALYSIS.rglob("*.py"), *ANALYSIS.rglob("*.j2")]
    words = {status.value for status in Status} | {decision.value for decision in Decision}
    words |= {*STATES, "interrupted", *(name for name, _ in PARTS)}
    return words.union(*map(said_in, files))


def whole_sentences(path: Path) -> list[str]:
    """Texts of a file that read as sentences and stand outside of `say`, docstrings and errors."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    said = {id(stmt.value) for node in bodies for stmt in node.body if isinstance(stmt, ast.Expr)}
    for node in ast.walk(tree):
        is_said = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say"
        if is_said or isinstance(node, ast.Raise):
            said |= {id(part) for part in ast.walk(node)}
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in said]
    is_sentence = re.compile(r"[A-Z][^\n]*( [^\n]*){5,}\.").fullmatch
    return [n.value for n in texts if isinstance(n.value, str) and is_sentence(n.value)]


def fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def test_every_sentence_is_in_the_catalogue() -> None:
    assert len(sentences()) > 300
    assert not sorted(sentences() - CATALOGUE.keys())


@pytest.mark.parametrize("place", ["sections", "downstream"])
def test_no_sentence_of_the_page_is_written_past_the_catalogue(place: str) -> None:
    paths = sorted((ANALYSIS / place).glob("*.py"))
    assert paths
    assert {path.name: found for path in paths if (found := whole_sentences(path))} == {}


def test_the_catalogue_holds_no_sentence_that_is_not_said() -> None:
    assert not sorted(CATALOGUE.keys() - sentences())


@pytest.mark.parametrize("english", sorted(CATALOGUE))
def test_a_translation_has_the_fields_of_its_sentence(english: str) -> None:
    chinese = CATALOGUE[english]
    assert fields(chinese) == fields(english)
    assert chinese.strip()


def test_what_is_said_knows_its_english() -> None:
    with speaking("zh"):
        inner = say("{count} others", count=3)
        outer = say("{first} and {last}", first="a", last=inner)
        assert (str(outer), in_english(outer)) == ("a 和 其他 3 个", "a and 3 others")
        assert in_english(listed(["x", inner])) == "x, 3 others"
        assert (str(listed(["x", "y"])), in_english(listed(["x", "y"]))) == ("x、y", "x, y")
    assert not isinstance(say("{count} others", count=3), Said)
    assert listed(["x", "y"]) == "x, y"


def test_what_the_catalogue_lacks_stays_english() -> None:
    with speaking("zh"):
        assert say("No such sentence of {name}.", name="x") == "No such sentence of x."


def test_a_language_ends_with_its_block() -> None:
    assert LANGUAGES == ("en", "zh")
    with speaking("zh"):
        assert spoken() == "zh"
    assert spoken() == "en"
    with pytest.raises(ValueError, match="got 'fr'"), speaking("fr"):
        pass
