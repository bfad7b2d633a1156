"""Which files a path names, all of one format, none outside of it; and what they hold, by hash."""

from __future__ import annotations

import glob
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.data.formats import READERS, READING_VERSION, file_format
from scaling.data.raw_text import codec
from scaling.data.rows import ID_DIGITS
from scaling.files import file_sha256, write_json
from scaling.identity import digest
from scaling.source import Local

PART_BYTES = 256 << 20
"""Of files as they are on disk. Many parts let machines share the work; each costs an entry of every cache."""

METADATA = {"manifest.json", "dataset_info.json", "dataset_infos.json", "state.json"}
"""Files that say what a folder holds, and are no documents of it."""


@dataclass(frozen=True, slots=True)
class SourcePart:
    """Some files of a domain, or all that is no file.

    digest: 64 hex digits over what the part holds and how it is read, wherever it is.
    """

    digest: str
    files: tuple[Path, ...] = ()


def local_parts(source: Local, cache: Path) -> list[SourcePart]:
    """The files in order, in parts of at least PART_BYTES; the last may be smaller.

    A file added at the end leaves the parts before the last as they are.
    """
    encoding = codec(source.encoding)
    files = local_files(source.path)
    how = {
        "version": READING_VERSION,
        "format": file_format(files[0]),
        "encoding": encoding,
        **source.model_dump(include={"unit", "text", "id", "group"}),
    }
    hashes = file_hashes(source.path, files, cache)
    return [SourcePart(digest({**how, "files": [hashes[file] for file in group]}), group) for group in _groups(files)]


def _groups(files: Iterable[Path]) -> Iterator[tuple[Path, ...]]:
    held: list[Path] = []
    num_bytes = 0
    for file in files:
        held.append(file)
        num_bytes += file.stat().st_size
        if num_bytes >= PART_BYTES:
            yield tuple(held)
            held, num_bytes = [], 0
    if held:
        yield tuple(held)


# ---- which files -----------------------------------------------------------------------------------


def local_files(path: str, formats: Collection[str] = READERS) -> list[Path]:
    """The files of a file, folder or glob, by name, all of one format; ValueError if there are none.

    The path itself may be a link; a link below it that leads outside is refused, and so is what is no regular
    file: a pipe would never end.
    """
    try:
        files = list(_named(path, formats))
    except OSError as error:
        raise ValueError(f"path={path!r} cannot be read: {error.filename}: {error.strerror}") from error
    known = sorted(file for file in files if file_format(file) in formats)
    found = sorted({file_format(file) for file in known})
    if not found:
        wanted = ", ".join(formats)
        raise ValueError(f"path={path!r} holds {files[0].name!r}: wanted {wanted}, or one of them compressed")
    if len(found) > 1:
        raise ValueError(f"path={path!r} holds {' and '.join(found)} files: wanted one format, such as '*{found[-1]}*'")
    for file in known:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ValueError(f"path={path!r} holds {file.name!r}, which is no regular file")
    return known


def _named(path: str, formats: Collection[str]) -> Iterator[Path]:
    """What a path names, folders opened; at least one file."""
    root = Path(path).expanduser()
    if root.is_dir():
        files = list(_below(root, path))
        files = [file for file in files if file.name not in METADATA] or files
        if not files:
            raise ValueError(f"path={path!r} is an empty folder: wanted {', '.join(formats)} files")
    elif root.exists():
        files = [root]
    else:
        fixed = Path(*_before_magic(root.parts))
        matches = map(Path, glob.glob(str(root), recursive=True))
        files = [_checked(match, fixed, path) for match in matches if not match.is_dir()]
        if not files:
            raise ValueError(f"path={path!r} does not exist: wanted a file, a folder or a glob")
    yield from files


def _below(root: Path, path: str) -> Iterator[Path]:
    """Every file below a folder but hidden ones. Links to folders inside are left: what they lead to is read."""
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            _checked(Path(folder, name), root, path)
        for name in names:
            if not name.startswith("."):
                yield _checked(Path(folder, name), root, path)


def _checked(file: Path, root: Path, path: str) -> Path:
    """The file itself; ValueError if links lead from it to nowhere, or out of what the path names."""
    try:
        target = file.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        raise ValueError(f"path={path!r} holds {str(file)!r}, a link that leads nowhere") from None
    if not target.is_relative_to(root.resolve()):
        raise ValueError(f"path={path!r} holds {str(file)!r}, a link that leads outside: wanted the file itself")
    return file


def _raise(error: OSError) -> None:
    raise error


def _before_magic(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


# ---- what they hold --------------------------------------------------------------------------------


def files_by_id(source: Local, cache: Path) -> dict[str, str]:
    """Of txt files that are a document each: its id, and the file, as seen from the folder that holds them all.

    Nothing is read: the id is the hash of the text, and that of the file where it is UTF-8 with LF, as most are. Of
    files that hold the same the last is named, the one that deduplication drops.
    """
    files = local_files(source.path)
    if source.unit != "document" or file_format(files[0]) != ".txt":
        return {}
    folder = os.path.commonpath([file.parent for file in files])
    hashes = file_hashes(source.path, files, cache)
    return {hashes[file][:ID_DIGITS]: file.relative_to(folder).as_posix() for file in files}


def file_hashes(path: str, files: Sequence[Path], cache: Path) -> dict[Path, str]:
    """SHA-256 of each file; one is read again only if its size or time changed."""
    memory = cache / "documents" / f"{digest(str(Path(path).absolute()))}.json"
    known: dict[str, list[Any]] = {}
    if memory.exists():
        known = json.loads(memory.read_text(encoding="utf-8"))
    fresh: dict[str, list[Any]] = {}
    for file in files:
        key, held = str(file.absolute()), file.stat()
        seen = known.get(key)
        if seen is None or seen[:2] != [held.st_size, held.st_mtime_ns]:
            try:
                seen = [held.st_size, held.st_mtime_ns, file_sha256(file)]
            except OSError as error:
                raise ValueError(f"{str(file)!r} cannot be read: {error.strerror}") from error
        fresh[key] = seen
    if fresh != known:
        write_json(memory, fresh)
    return {file: fresh[str(file.absolute())][2] for file in files}
