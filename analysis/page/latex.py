"""A table as LaTeX, for a paper: `\\input` it where the package booktabs is loaded."""

from __future__ import annotations

import re

from analysis.page.language import in_english, speaking
from analysis.page.table import Cell, Table, cell_text

ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ it would begin an argument
    "]": "{]}",
    "*": "{*}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "–": "--",
}


def latex_text(value: str) -> str:
    """Any text as text of LaTeX: what it would act on is escaped; what breaks lines or cannot be seen is a blank."""
    text = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", value).split())
    return "".join(ESCAPES.get(character, character) for character in text)


def latex_bytes(table: Table) -> bytes:
    """The table in English, UTF-8: numbers flush right, an estimate with its interval in one cell."""
    with speaking("en"):
        rows = [[_text(cell) for cell in row] for row in table.rows]
    columns = "".join("r" if is_number else "l" for is_number in table.is_number)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([latex_text(str(in_english(column))) for column in table.columns]),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _text(cell: Cell) -> str:
    return latex_text(str(in_english(cell)) if isinstance(cell, str) else cell_text(cell))


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
