"""The laws as help lists them, read from their source: to import them takes the better part of a second."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A law: its equation, the columns that it reads (those in brackets where the table has them), and what for."""

    name: str
    equation: str
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    purpose: str

    def __str__(self) -> str:
        reads = ", ".join(self.columns) + (f" ({', '.join(self.optional)})" if self.optional else "")
        return f"  {self.name}: {self.equation}\n    reads {reads}. {self.purpose}"


def catalogue() -> tuple[Entry, ...]:
    """Every law of this package, by name."""
    found = {}
    for path in Path(__file__).parent.glob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in module.body:
            told = _constants(node) if isinstance(node, ast.ClassDef) else {}
            if {"name", "equation", "columns"} <= set(told):
                purpose = (ast.get_docstring(module) or "").splitlines()[0]
                name, optional = told["name"], told.get("optional", ())
                found[name] = Entry(name, told["equation"], told["columns"], optional, purpose)
    return tuple(found[name] for name in sorted(found))


def _constants(body: ast.ClassDef) -> dict[str, Any]:
    """The class variables that are written out."""
    return {
        node.target.id: ast.literal_eval(node.value)
        for node in body.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant | ast.Tuple)
    }
