"""What is wrong with a configuration, in one line each: the field as the user wrote it, the value, what was wanted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scaling.part import Part
from scaling.source import SOURCES
from scaling.task import KINDS, ROWS

AnyPart = TypeVar("AnyPart", bound=Part)

WANTED = {
    "scorer.good": "name texts of corpus.domains or corpus.references, such as [docs]",
    "scorer.rest": "name texts of corpus.domains or corpus.references, such as [code]",
    "scorer.references": "name texts of corpus.domains or corpus.references, such as [docs]",
    "order.domains": "name every domain that is trained on, in their order, such as [code,docs]",
    "rows.train": "name a file: task.rows.train=pairs.jsonl",
    "mixture.stages": "give weights and ends, such as [{weights:{code:1.0},until_tokens:400_000},{weights:{docs:1.0}}]",
}
"""What a key without a default is to be given, by how its field ends."""


A_TEXT = r"corpus\.(domains|references)\.[^.]+"
OF_TASKS: Mapping[str, Mapping[str, type[Part]]] = {"task": KINDS, "task.rows": ROWS}
"""What few files spell out in full: the keys depend on the kind, and most have defaults."""


class ConfigError(ValueError):
    """A configuration that is no run; each of `lines` names a field, its value and what was wanted."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        Exception.__init__(self, "; ".join(lines))


def one_line(error: BaseException) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split())


def missing(field: str) -> str:
    """`order.domains: missing: name every domain ...`."""
    hints = [hint for ending, hint in WANTED.items() if f".{field}".endswith(f".{ending}")]
    return ": ".join([field, "missing", *hints])


def no_such_key(key: str, conf: Path) -> str:
    """What to write instead of a key that the configuration has not: one much like it, or a choice that has it."""
    homes: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        folders, text = path.parent.relative_to(conf).parts, path.read_text(encoding="utf-8")
        group = "task" if folders[:1] == ("task",) else ".".join(folders)  # task=glue/cola
        header = re.match(r"# @package (\w+)", text)
        package = header[1].replace("_global_", "") if header else group
        tree = yaml.safe_load(text) or {}
        for field in _keys({package: tree} if package else tree):
            homes.setdefault(field, []).extend([f"{group}={path.stem}"] if group else [])  # others are no choices
    if (conf / key).is_dir():
        names = sorted(path.stem for path in (conf / key).glob("*.yaml"))
        return f"{key}: wanted a name ({', '.join(names)}), with its keys one by one"
    section, _, field = key.rpartition(".")
    noun, kinds = ("domain", SOURCES) if re.fullmatch(A_TEXT, section) else ("task", OF_TASKS.get(section, {}))
    if having := [f"kind {kind}" for kind, part in kinds.items() if field in part.model_fields]:
        return f"{key}: the {noun} does not set it: wanted +{key}=..., which {noun}s of {' and '.join(having)} have"
    if noun == "domain":
        fields = [f"kind {kind} have {', '.join(part.model_fields)}" for kind, part in kinds.items()]
        return f"{key}: no such key; domains of {'; of '.join(fields)}"
    if key in homes:
        return f"{key}: the choice made has no such key" + (f"; {' or '.join(homes[key])} has" if homes[key] else "")
    if alike := difflib.get_close_matches(key, homes, n=3, cutoff=0.75):
        return f"{key}: no such key; did you mean {' or '.join(alike)}?"
    inside = [field for field in homes if field.rpartition(".")[0] == section]
    return (
        f"{key}: no such key; there are {', '.join(sorted(inside or [field for field in homes if '.' not in field]))}"
    )


def _keys(tree: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if key not in ("defaults", "hydra"):
            yield f"{parent}{key}"
            if isinstance(value, Mapping):
                yield from _keys(value, f"{parent}{key}.")


def lines_of(error: ValidationError, tree: Mapping[str, Any], parent: str = "", part: type[Part] = Part) -> list[str]:
    """Each error once. tree: what was wrong, as it was written: a step stands under its name. parent: its field.

    part: what it was to be; Part: unknown keys bring up no others.
    """
    errors = error.errors(include_url=False)
    places = [details["loc"] for details in errors]
    return [
        _line(details, tree, parent) + (_known(part, place) if details["type"] == "extra_forbidden" else "")
        for details, place in zip(errors, places, strict=True)
        if details["type"] != "too_short"  # a list whose members are wrong counts as empty, too: no news
        or not any(other[: len(place)] == place and other != place for other in places)
    ]


def _line(details: ErrorDetails, tree: Mapping[str, Any], parent: str) -> str:
    """`budget.num_tokens: Input should be greater than or equal to 1, got 0`."""
    field = ".".join([*([parent] if parent else []), *_path(details["loc"], tree)]).removeprefix("recipe").lstrip(".")
    kind, message, got = details["type"], details["msg"].removeprefix("Value error, "), details["input"]
    if kind == "value_error":  # our own checks say what they got, of the whole field or of what is left of it
        named = not field or message.startswith((f"{field}.", f"{field}:"))
        return one_line(ValueError(message if named else f"{field}.{message}"))
    if kind == "missing":
        return missing(field)
    if kind == "union_tag_not_found":
        kinds = f": wanted one of {', '.join(map(repr, SOURCES))}" if re.fullmatch(A_TEXT, field) else ""
        return missing(f"{field}.kind") + kinds
    if kind == "union_tag_invalid":
        field, message, got = f"{field}.kind", f"wanted one of {details['ctx']['expected_tags']}", got.get("kind")
    if kind == "extra_forbidden":
        message = "unknown key"
    return one_line(ValueError(f"{field}: {message}, got {got!r}"))


def _known(part: type[Part], location: tuple[int | str, ...]) -> str:
    """The keys that stand where an unknown one does; none where they are not those of one part alone."""
    found = [part]
    for step in location[:-1]:
        if len(found) == 1 and step in found[0].model_fields:
            found = list(_parts_in(found[0].model_fields[str(step)].annotation))
        else:  # the name of a domain, the place in a list, the kind of one of several parts
            found = [one for one in found if _default(one, "kind") == step] or found
    return f"; there are {', '.join(found[0].model_fields)}" if len(found) == 1 and found != [part] else ""


def _default(part: type[Part], field: str) -> Any:
    return part.model_fields[field].default if field in part.model_fields else None


def _parts_in(annotation: Any) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)


def _path(location: tuple[int | str, ...], tree: Any) -> Iterator[str]:
    """The keys that lead to an error as the user wrote them: without the kinds of the variants that were tried."""
    kind_passed = False
    for depth, part in enumerate(location, start=1):
        if isinstance(tree, list) and isinstance(part, int):
            tree, kind_passed = tree[part], False
            yield str(tree["kind"] if isinstance(tree, Mapping) and "kind" in tree else part)
        elif not isinstance(tree, Mapping):
            continue  # the alternatives of a plain value: int, str
        elif part == tree.get("kind") and not kind_passed:
            kind_passed = True  # it comes first, and a field may be called the same
        elif part in tree:
            tree, kind_passed = tree[part], False
            yield str(part)
        elif isinstance(part, int):  # the steps stand in a list by now
            key, tree = list(tree.items())[part]
            kind_passed = False
            yield str(key)
        elif depth == len(location) and part != "[key]":
            yield str(part)


def checked(part: type[AnyPart], tree: Mapping[str, Any], written: Mapping[str, Any], parent: str = "") -> AnyPart:
    """A part of a spec. written: the same as the user wrote it, which is what the errors name."""
    try:
        return part.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(lines_of(error, written, parent, part)) from None
