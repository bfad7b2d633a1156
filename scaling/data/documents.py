"""Documents of a domain, from wherever they are: embedded text, local files, the Hugging Face hub.

No domain is ever wholly in memory. Every error is a ValueError of one line: field, value and what was wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scaling.data import embedded
from scaling.data.formats import READING_VERSION, read_file
from scaling.data.hub import pin, read_hub
from scaling.data.local_files import SourcePart, local_files, local_parts
from scaling.document import Document
from scaling.identity import digest
from scaling.source import Embedded, Local, Source

__all__ = ["SourcePart", "check_content", "content_fingerprint", "parts", "pin", "read_documents", "read_part"]


def parts(source: Source, cache: Path) -> list[SourcePart]:
    """What a source consists of, in order. Its documents are those of its parts, one after the other.

    Local files are hashed once: `cache/documents/` remembers them by path, size and time of change.
    """
    if isinstance(source, Embedded):
        return [SourcePart(embedded.fingerprint(source.part))]
    if isinstance(source, Local):
        return local_parts(source, cache)
    held = source.model_dump(include={"repo", "config", "split", "max_documents", "text", "id", "group"})
    return [SourcePart(digest({"version": READING_VERSION, **held, "revision": pin(source).revision}))]


def read_part(field: str, name: str, source: Source, part: SourcePart) -> Iterator[Document]:
    """The documents of one part of domain `name`, in the order of the source; empty ones included.

    field: where the configuration names the source, for errors. Raises ValueError for whatever is wrong with it.
    """
    try:
        if isinstance(source, Embedded):
            yield from (Document(id, name, text) for id, text in embedded.texts(source.part))
        elif isinstance(source, Local):
            for file in part.files:
                yield from read_file(name, source, file)
        else:
            yield from read_hub(name, source)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error.__cause__


def read_documents(name: str, source: Source) -> Iterator[Document]:
    """The documents of all parts of domain `name`; nothing is hashed or cached."""
    field = f"corpus.domains.{name}"
    try:
        files = tuple(local_files(source.path)) if isinstance(source, Local) else ()
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error.__cause__
    yield from read_part(field, name, source, SourcePart("", files))


def content_fingerprint(source: Source, cache: Path) -> str:
    """64 hex digits over what the source holds; where it is does not enter."""
    return digest([part.digest for part in parts(source, cache)])


def check_content(field: str, source: Source, content: str, cache: Path) -> None:
    """ValueError if a source no longer holds what a spec was made of: it must not pass for the same run."""
    try:
        found = content_fingerprint(source, cache)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error.__cause__
    if found != content:
        raise ValueError(f"{field} changed since this run was specified: content {found[:8]}, wanted {content[:8]}")
