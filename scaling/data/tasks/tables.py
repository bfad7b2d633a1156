"""Rows of labelled tasks as they come, from local files, the hub or the Python installation; and what they hold, by
hash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.data import json_values
from scaling.data.formats import HOW, READING_VERSION, batches, csv_rows, file_format, seekable
from scaling.data.hub import open_table, pin
from scaling.data.local_files import file_hashes, local_files
from scaling.data.raw_text import codec, file_text, lines
from scaling.data.rows import InputError, first_line, kind_of
from scaling.data.tasks import embedded_tasks
from scaling.data.tasks.columns import Row
from scaling.data.tasks.items import SplitName
from scaling.identity import digest
from scaling.source import Hub
from scaling.task import EmbeddedRows, HubRows, Rows

TABLE_VERSION = 1
"""Raised when a change of code changes the rows of a file."""

DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the place of each, for errors. label_names: of columns whose numbers stand for names, in order."""

    rows: Iterable[tuple[str, Row]]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def given_splits(rows: Rows) -> tuple[SplitName, ...]:
    """The splits that are given, and not cut from `train`."""
    if isinstance(rows, EmbeddedRows):
        return ("train",)
    held: dict[SplitName, str | None] = {"train": rows.train, "validation": rows.validation, "test": rows.test}
    return tuple(name for name, where in held.items() if where is not None)


def pinned(rows: Rows) -> Rows:
    """The rows with a revision of the hub resolved to its commit."""
    if not isinstance(rows, HubRows):
        return rows
    source = pin(Hub(repo=rows.repo, config=rows.config, revision=rows.revision))
    return rows.model_copy(update={"revision": source.revision})


def content_of(rows: Rows, split: SplitName, cache: Path) -> str:
    """64 hex digits over what a split holds and how it is read, wherever it is; hub rows must be pinned."""
    if isinstance(rows, EmbeddedRows):
        return embedded_tasks.fingerprint(rows.part)
    how: dict[str, Any] = {"version": [READING_VERSION, TABLE_VERSION]}
    where = getattr(rows, split)
    if isinstance(rows, HubRows):
        return digest({**how, **rows.model_dump(include={"repo", "config", "revision"}), "split": where})
    files = _files(where)
    hashes = file_hashes(where, files, cache)
    how |= {"format": file_format(files[0]), "encoding": codec(rows.encoding)}
    return digest({**how, "files": [hashes[file] for file in files]})


def read_table(rows: Rows, split: SplitName, columns: Mapping[str, str]) -> Table:
    """The rows of a split that is given. columns: of each role. Raises ValueError, also while it is read."""
    if isinstance(rows, EmbeddedRows):
        return Table(embedded_tasks.rows(rows.part, columns), embedded_tasks.label_names(rows.part, columns))
    if isinstance(rows, HubRows):
        return _hub_table(rows, getattr(rows, split), columns)
    files = _files(getattr(rows, split))
    names = _parquet_label_names(files[0]) if file_format(files[0]) == ".parquet" else {}
    return Table(_local_rows(files, rows.encoding, columns), names)


# ---- local files -----------------------------------------------------------------------------------

Numbered = Iterator[tuple[int, Row]]


def _files(path: str) -> list[Path]:
    return local_files(path, READERS)


def _local_rows(files: Iterable[Path], encoding: str, columns: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    for file in files:
        kind = file_format(file)
        noun = "row" if kind == ".parquet" else "line"
        try:
            for number, row in READERS[kind](file, encoding, columns):
                yield f"{str(file)!r} {noun} {number}", row
        except InputError as error:
            raise InputError(f"{str(file)!r} {error}") from error.__cause__


def _jsonl(file: Path, encoding: str, columns: Mapping[str, str]) -> Numbered:
    for number, value in json_values.line_values(file_text(file, encoding)):
        yield number, _fields_of(value, number)


def _json(file: Path, encoding: str, columns: Mapping[str, str]) -> Numbered:
    """Objects in a list or one after the other; or one whose `data` lists them, as SQuAD has it."""
    for number, value in json_values.values(file_text(file, encoding)):
        row = _fields_of(value, number)
        if not isinstance(row.get("data"), list):
            yield number, row
            continue
        for entry in row["data"]:
            held = _fields_of(entry, number)
            if "paragraphs" in held:
                yield from ((number, question) for question in _squad(held, columns))
            else:
                yield number, held


def _squad(article: Row, columns: Mapping[str, str]) -> Iterator[Row]:
    """The questions of an article, flat (Rajpurkar et al. 2016)."""
    if "answers" not in columns:
        raise InputError("holds questions as SQuAD nests them: wanted a task of kind qa")
    try:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                yield {
                    "id": asked["id"],
                    "title": article.get("title"),
                    columns["question"]: asked["question"],
                    columns["context"]: paragraph["context"],
                    columns["answers"]: asked.get("answers", []),
                }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"is not nested as SQuAD is ({error!r}): wanted paragraphs[].{{context, qas[].{{id, question, answers}}}}"
        ) from None


def _csv(file: Path, encoding: str, columns: Mapping[str, str]) -> Numbered:
    return csv_rows(file, encoding, tuple(columns.values()))


def _tsv(file: Path, encoding: str, columns: Mapping[str, str]) -> Numbered:
    """The first line names the columns; quotes are text, as benchmarks have it."""
    names: list[str] | None = None
    for number, line in enumerate(lines(file_text(file, encoding, any_newline=True)), start=1):
        fields = line.split("\t")
        if names is None:
            names = fields
        elif len(fields) != len(names) and line:
            raise InputError(f"line {number} has {len(fields)} fields: wanted {len(names)}, as in its header")
        elif line:
            yield number, dict(zip(names, fields, strict=True))


def _parquet(file: Path, encoding: str, columns: Mapping[str, str]) -> Numbered:
    import pyarrow.parquet as pq

    number = 0
    try:
        with seekable(file) as opened, pq.ParquetFile(opened, **HOW) as table:
            for batch in batches(table, table.schema_arrow.names):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except InputError:
        raise
    except Exception as error:  # Arrow lets through what its codecs raise
        raise InputError(f"cannot be read: {first_line(error)}") from error


def _parquet_label_names(file: Path) -> dict[str, tuple[str, ...]]:
    """The names that `datasets` writes beside columns of labels."""
    import pyarrow.parquet as pq

    try:
        with seekable(file) as opened:
            written = (pq.read_schema(opened).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(written)["info"]["features"]
    except (KeyError, TypeError, ValueError, OSError):  # no such note, or none that we know: numbers are numbers
        return {}
    return _names_of(features)


def _names_of(features: Any) -> dict[str, tuple[str, ...]]:
    """From features as `datasets` writes them: a label, or a list of labels in one of the ways that it had."""
    found = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        held = feature
        while isinstance(held, Mapping) and "feature" in held:
            held = held["feature"]
        if isinstance(held, list) and len(held) == 1:
            held = held[0]
        names = held.get("names") if isinstance(held, Mapping) else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[column] = tuple(names)
    return found


def _conll(file: Path, encoding: str, columns: Mapping[str, str]) -> Numbered:
    """A word a line, its tag last, after a tab or spaces; a blank line ends a sentence. Lines that begin a document
    are left out."""
    if "tags" not in columns:
        raise InputError("holds words and their tags: wanted a task of kind tokens")
    words: list[str] = []
    tags: list[str] = []
    number = 0
    for number, line in enumerate(lines(file_text(file, encoding, any_newline=True)), start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        if fields and fields[0] == DOCUMENT_START:
            continue
        if len(fields) == 1:
            raise InputError(f"line {number} holds {line!r}: wanted a word and its tag")
        if fields:
            words.append(fields[0])
            tags.append(fields[-1].strip())
        elif words:
            yield number - len(words), {columns["tokens"]: words, columns["tags"]: tags}
            words, tags = [], []
    if words:
        yield number - len(words) + 1, {columns["tokens"]: words, columns["tags"]: tags}


def _fields_of(value: Any, number: int) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"line {number} holds {kind_of(value)}: wanted an object")
    return value


READERS: dict[str, Callable[[Path, str, Mapping[str, str]], Numbered]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".conll": _conll,
}

# ---- the hub ---------------------------------------------------------------------------------------


def _hub_table(rows: HubRows, split: str, columns: Mapping[str, str]) -> Table:
    try:
        table = open_table(rows.repo, rows.config, split, rows.revision)
        names = {} if table.features is None else _names_of(table.features.to_dict())
    except InputError:
        raise
    except Exception as error:  # `datasets` raises what the file systems below it raise
        raise InputError(_hub_error(rows, error)) from error
    return Table(_hub_rows(rows, table), names)


def _hub_rows(rows: HubRows, table: Any) -> Iterator[tuple[str, Row]]:
    number = 0
    try:
        for batch in table.with_format("arrow").iter(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{rows.repo} row {number}", row
    except Exception as error:
        raise InputError(_hub_error(rows, error)) from error


def _hub_error(rows: HubRows, error: Exception) -> str:
    said = first_line(error)
    hint = ": wanted revision=refs/convert/parquet, or a mirror of it" if "scripts are no longer" in said else ""
    return f"repo={rows.repo!r} cannot be read: {said}{hint}"
