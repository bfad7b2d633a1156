"""The documents of one local file: jsonl, json, csv, parquet or txt, each also compressed.

Read here and not through `datasets`, which reads the hub for us: of local files it holds a list in JSON or a row
group of Parquet in memory (1.7 GB and 1.0 GB for 200 MB of text), turns ids such as 2020-01-01 into times, refuses
a file where a late line has a new key, and leaves no place to stop a file that unpacks without end.
"""

from __future__ import annotations

import csv
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scaling.data import json_values, raw_text, rows
from scaling.data.raw_text import CHUNK_BYTES, COMPRESSED, file_bytes, file_text, lines
from scaling.data.rows import InputError, check_columns, first_line, kind_of, to_document, wanted_columns
from scaling.document import Document
from scaling.source import Local

READING_VERSION = 1
"""Raised when a change of code changes the documents of a file."""

BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 1024
"""Of Parquet, at a time."""

HOW = {"pre_buffer": False, "buffer_size": CHUNK_BYTES, "page_checksum_verification": True}
"""How Parquet is read. With a buffer a column of a row group is read in pieces: 200 MB of text in one row group
took 52 MiB of memory with it and 160 MiB without."""

Rows = Iterator[tuple[int, Mapping[str, Any]]]
"""The number of a line (of Parquet: of a row) from 1, and what is in its columns."""

log = logging.getLogger(__name__)


def file_format(file: Path) -> str:
    """The suffix without compression: `.jsonl` for `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_file(domain: str, source: Local, file: Path) -> Iterator[Document]:
    """The documents of a file in order. Raises ValueError of one line that names the file and the place in it."""
    noun = "row" if file_format(file) == ".parquet" else "line"
    num_rows = num_repaired = 0
    has_groups = source.group is None
    try:
        for number, row in READERS[file_format(file)](file, source):
            try:
                document = to_document(domain, source, row)
            except InputError as error:
                raise InputError(f"{noun} {number} {error}") from None
            num_rows += 1
            num_repaired += document.text is not row[source.text] and bool(row[source.text])
            has_groups = has_groups or source.group in row
            yield document
        if num_rows > 0 and not has_groups:
            raise InputError(f"has no column {source.group!r}")
    except InputError as error:
        raise ValueError(f"{str(file)!r} {error}") from error.__cause__
    if num_repaired > 0:
        log.warning("%s: %d texts of %r had lone surrogates, now U+FFFD", domain, num_repaired, file.name)


# ---- text ------------------------------------------------------------------------------------------


def _jsonl(file: Path, source: Local) -> Rows:
    return _objects(json_values.line_values(file_text(file, source.encoding)))


def _json(file: Path, source: Local) -> Rows:
    return _objects(json_values.values(file_text(file, source.encoding)))


def _objects(values: Iterable[tuple[int, Any]]) -> Rows:
    for number, value in values:
        if not isinstance(value, dict):
            raise InputError(f"line {number} holds {kind_of(value)}: wanted an object")
        yield number, value


def _csv(file: Path, source: Local) -> Rows:
    return csv_rows(file, source.encoding, wanted_columns(source))


def csv_rows(file: Path, encoding: str, wanted: Sequence[str]) -> Rows:
    """The first line names the columns. Everything is text, "NA" too; lines may go on within quotes (RFC 4180)."""
    csv.field_size_limit(rows.MAX_DOCUMENT_BYTES)  # of the process; csv has no other
    with_ends = (f"{line}\n" for line in lines(file_text(file, encoding)))
    reader = csv.reader(with_ends, strict=True)
    try:
        names = next((row for row in reader if row), [])
        if names:
            check_columns(wanted, names)
        if twice := [column for column in wanted if names.count(column) > 1]:
            raise InputError(f"has the column {twice[0]!r} {names.count(twice[0])} times: wanted it once")
        for row in reader:
            if len(row) != len(names) and row:
                raise InputError(f"line {reader.line_num} has {len(row)} fields: wanted {len(names)}, as in its header")
            if row:
                yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not CSV ({error})") from None


def _txt(file: Path, source: Local) -> Rows:
    chunks = file_text(file, source.encoding, any_newline=True)
    if source.unit == "document":
        yield 1, {"text": _whole(chunks)}
    elif source.unit == "line":
        yield from ((number, {"text": line}) for number, line in enumerate(lines(chunks), start=1))
    else:
        yield from ((number, {"text": paragraph}) for number, paragraph in _paragraphs(lines(chunks)))


def _whole(chunks: Iterable[str]) -> str:
    pieces, num_characters = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        num_characters += len(chunk)
        if num_characters > rows.MAX_DOCUMENT_BYTES:
            raise InputError(f"holds a text of more than {rows.MAX_DOCUMENT_BYTES:,} bytes: wanted another `unit`")
    return "".join(pieces)


def _paragraphs(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Runs of lines that are not blank, with the number of the first."""
    held: list[str] = []
    number = 0
    for number, line in enumerate(lines, start=1):
        if line and not line.isspace():
            held.append(line)
        elif held:
            yield number - len(held), "\n".join(held)
            held = []
    if held:
        yield number - len(held) + 1, "\n".join(held)


# ---- Parquet ---------------------------------------------------------------------------------------


def _parquet(file: Path, source: Local) -> Rows:
    import pyarrow.parquet as pq

    limit = max(raw_text.MAX_DECOMPRESSED_BYTES, raw_text.MAX_DECOMPRESSED_RATIO * file.stat().st_size)
    number = num_characters = 0
    try:
        with seekable(file) as opened, pq.ParquetFile(opened, **HOW) as table:
            _check_types(source, table.schema_arrow)
            for batch in batches(table, wanted_columns(source)):
                for row in batch.to_pylist():
                    number += 1
                    num_characters += len(row[source.text] or "")
                    yield number, row
                if num_characters > limit:
                    raise InputError(f"unpacks to more than {limit:,} bytes")
    except InputError:
        raise
    except Exception as error:  # Arrow lets through what its codecs raise
        raise InputError(f"cannot be read: {first_line(error)}") from error


def batches(table: Any, names: list[str]) -> Iterator[Any]:
    """Record batches of a few megabytes, whatever the row groups are."""
    for group in range(table.num_row_groups):
        held = table.metadata.row_group(group)
        num_rows = BATCH_BYTES * held.num_rows // max(held.total_byte_size, 1)
        size = min(max(num_rows, 1), MAX_BATCH_ROWS)
        yield from table.iter_batches(size, row_groups=[group], columns=names, use_threads=False)


def _check_types(source: Local, schema: Any) -> None:
    import pyarrow as pa

    check_columns(wanted_columns(source), schema.names)
    kind = schema.field(source.text).type
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_null(held)):
        raise InputError(f"column {source.text!r} holds {kind}: wanted text")


@contextmanager
def seekable(file: Path) -> Iterator[Path | IO[bytes]]:
    """Parquet is read from its end: a compressed file is unpacked to disk first."""
    if file.suffix.lower() not in COMPRESSED:
        yield file
        return
    with tempfile.TemporaryFile() as unpacked:
        for chunk in file_bytes(file):
            unpacked.write(chunk)
        unpacked.seek(0)
        yield unpacked


READERS: dict[str, Callable[[Path, Local], Rows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
}
