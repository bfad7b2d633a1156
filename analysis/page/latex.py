"""A table as LaTeX, for a paper: `\\input` it; its first line says what it needs."""

from __future__ import annotations

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
    '"': r"{\char34}",  # \textquotedbl is not in LaTeX's default encoding
    "–": "--",
}
EVERYWHERE = "±×·°µ²³…—‘’“”"
"""Beyond ASCII, what pdfLaTeX sets without further packages."""


def latex_text(value: str) -> str:
    """Any text as text of LaTeX: what it would act on is escaped; what breaks lines or cannot be seen is a blank."""
    text = " ".join("".join(character if character.isprintable() else " " for character in value).split())
    return "".join(ESCAPES.get(character, character) for character in text)


def latex_bytes(table: Table) -> bytes:
    """The table in English, UTF-8: numbers flush right, an estimate with its interval in one cell."""
    with speaking("en"):
        rows = [[_text(cell) for cell in row] for row in table.rows]
    header = [latex_text(str(in_english(column))) for column in table.columns]
    columns = "".join("r" if is_number else "l" for is_number in table.is_number)
    lines = [
        f"% {_needs(header, *rows)}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(header),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _needs(*rows: list[str]) -> str:
    known = {*map(chr, range(128)), *EVERYWHERE}
    if not (foreign := sorted({character for row in rows for cell in row for character in cell} - known)):
        return "Needs the package booktabs."
    return (
        "Needs the package booktabs and, where pdfLaTeX lacks these characters, XeLaTeX or LuaLaTeX with a font that "
        f"has them (for Chinese the package ctex): {' '.join(foreign)}"
    )


def _text(cell: Cell) -> str:
    return latex_text(str(in_english(cell)) if isinstance(cell, str) else cell_text(cell))


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
