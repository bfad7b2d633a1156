"""The embedded corpus: text that the Python installation already holds, read as real documents.

    docs    the docstrings of a module, in order; one document per module
    code    the source of a module without docstrings and whole-line comments; one document per module
    legal   licence files

from the standard library and a fixed list of this project's dependencies, none of which is imported. Modules
are taken in the order of a hash of their name until a part is full, so every package gives its share. Equal
installations give equal documents: what pip recorded about the files is the fingerprint.
"""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import importlib.metadata
import inspect
import os
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.files import file_sha256
from scaling.identity import digest

Part = Literal["docs", "code", "legal"]
Text = tuple[str, str]
"""An id and the text."""

EXTRACTION_VERSION = 1
"""Raised when a change of this file changes the documents."""

PACKAGES = (
    "torch", "transformers", "datasets", "deepspeed", "hydra-core", "omegaconf", "wandb", "pydantic", "numpy",
    "scipy", "matplotlib", "pandas", "pyarrow", "sympy", "networkx", "huggingface_hub", "fsspec", "filelock",
    "jinja2", "rich", "safetensors",
)  # fmt: skip
"""Dependencies of this project, or of torch and datasets, so that all are always there."""

MAX_CHARACTERS: dict[Part, int] = {"docs": 5_000_000, "code": 5_000_000, "legal": 2_000_000}
MIN_CHARACTERS = 200
MAX_FILE_BYTES = 200_000  # longer modules are tables and generated code

SKIPPED_FOLDERS = {
    "test",
    "tests",
    "testing",
    "_vendor",
    "idlelib",
    "lib2to3",
    "site-packages",
    "__pycache__",
}
SKIPPED_PATHS = (
    "transformers/models/",  # near-copies of each other by design: they would leak into validation
    "wandb/proto/",  # generated
)
LICENCE = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the installation; `id` is its path as imported, whatever the machine."""

    id: str
    path: Path
    sha256: str


def texts(part: Part) -> Iterator[Text]:
    """The documents of one part as (id, text), in a fixed order."""
    yield from _licences() if part == "legal" else _modules()[part]


def fingerprint(part: Part) -> str:
    """64 hex digits over the files that the part is drawn from; nothing is parsed."""
    files = licence_files() if part == "legal" else module_files()
    return digest(
        {
            "version": EXTRACTION_VERSION,
            "part": part,
            "limits": [MAX_CHARACTERS[part], MIN_CHARACTERS, MAX_FILE_BYTES],
            "files": [[file.id, file.sha256] for file in files],
        }
    )


# ---- which files ---------------------------------------------------------------------------------


@functools.cache
def module_files() -> tuple[File, ...]:
    """Python modules in the order of a hash of their id."""
    files = [file for file in (*_stdlib(".py"), *_recorded()) if _is_module(file.id)]
    return tuple(sorted(files, key=lambda file: hashlib.sha256(file.id.encode()).digest()))


@functools.cache
def licence_files() -> tuple[File, ...]:
    """Licences of Python and the packages, in the order of their id."""
    files = [file for file in _recorded() if LICENCE.search(file.id.rsplit("/", 1)[-1])]
    files = [file for file in files if not file.id.endswith((".py", ".pyc", ".html"))]
    python = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"  # not shipped by every distributor
    if python.exists():
        files.append(File("python/LICENSE.txt", python, file_sha256(python)))
    return tuple(sorted(files, key=lambda file: file.id))


def _is_module(id: str) -> bool:
    return id.endswith(".py") and SKIPPED_FOLDERS.isdisjoint(id.split("/")) and not id.startswith(SKIPPED_PATHS)


def _stdlib(suffix: str) -> Iterator[File]:
    root = Path(sysconfig.get_path("stdlib"))
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in names:
            if name.endswith(suffix):
                path = Path(folder, name)
                yield File(f"python/{path.relative_to(root).as_posix()}", path, file_sha256(path))


@functools.cache
def _recorded() -> tuple[File, ...]:
    """The files of the packages with the hash that pip recorded; ValueError if one is not installed."""
    files = []
    for package in PACKAGES:
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"the embedded text draws on package {package!r}, which is not installed") from None
        for name, sha256, _size in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            if not name.startswith("..") and sha256:
                files.append(File(name, Path(str(distribution.locate_file(name))), sha256))
    return tuple(files)


# ---- what is in them -----------------------------------------------------------------------------


@functools.cache
def _modules() -> dict[Part, tuple[Text, ...]]:
    """Docs and code, from one pass over the modules."""
    found: dict[Part, list[Text]] = {"docs": [], "code": []}
    num_characters: dict[Part, int] = {"docs": 0, "code": 0}
    for file in module_files():
        open_parts = [part for part in found if num_characters[part] < MAX_CHARACTERS[part]]
        if not open_parts:
            break
        if file.path.stat().st_size > MAX_FILE_BYTES:
            continue
        docs_and_code = split_module(file.path)
        for part in open_parts:
            text = docs_and_code.get(part, "")
            if len(text) >= MIN_CHARACTERS:
                found[part].append((file.id, text))
                num_characters[part] += len(text)
    return {part: tuple(documents) for part, documents in found.items()}


@functools.cache
def _licences() -> tuple[Text, ...]:
    documents: list[Text] = []
    num_characters = 0
    for file in licence_files():
        try:
            text = file.path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            text = file.path.read_text(encoding="latin-1")
        if len(text) >= MIN_CHARACTERS and num_characters < MAX_CHARACTERS["legal"]:
            documents.append((file.id, text))
            num_characters += len(text)
    return tuple(documents)


def split_module(path: Path) -> dict[Part, str]:
    """Docs and code of one module; nothing where it is not Python 3."""
    try:
        with tokenize.open(path) as file:
            source = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return {}
    docstrings = sorted(_docstrings(tree), key=lambda node: node.lineno)
    docs = "\n\n".join(inspect.cleandoc(str(node.value)) for node in docstrings)
    return {"docs": _valid_unicode(docs), "code": _without(source, tree, docstrings)}


def _docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def _without(source: str, tree: ast.AST, docstrings: list[ast.Constant]) -> str:
    """The source without docstrings and whole-line comments; runs of blank lines become one."""
    lines = source.split("\n")
    removed: set[int] = set()
    for node in docstrings:
        if not lines[node.lineno - 1][: node.col_offset].strip():
            removed.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    quoted: set[int] = set()  # lines that begin inside a string: a "#" there is no comment
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Constant | ast.JoinedStr):
            quoted.update(range(inner.lineno + 1, (inner.end_lineno or inner.lineno) + 1))
    kept = [
        line
        for number, line in enumerate(lines, start=1)
        if number not in removed and (number in quoted or not line.lstrip().startswith("#"))
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _valid_unicode(text: str) -> str:
    """Escapes such as "\\ud800" in a docstring are no character: they become "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")
