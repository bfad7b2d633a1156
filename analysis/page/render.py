"""A page as HTML and as Markdown. Whatever a log holds is text here, escaped for the one or the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.page.language import say, spoken
from analysis.page.page import Page

TEMPLATES = Path(__file__).parent / "templates"


def html(page: Page) -> str:
    """One self-contained HTML page."""
    return _render("report.html.j2", page)


def markdown(page: Page) -> str:
    """The same in Markdown, with its figures beside it."""
    return _render("report.md.j2", page)


def _render(template: str, page: Page) -> str:
    is_html = template.endswith(".html.j2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=is_html,
        finalize=unbroken if is_html else markdown_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    context: dict[str, Any] = {"page": page, "study": page.study, "results": page.results}
    return environment.get_template(template).render(**context, say=say, language=spoken())


def unbroken(value: object) -> object:
    """Any value, without a line break between a number and its per cent sign."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return re.sub(r"(?<=\d) %", "\u00a0%", value)


def markdown_text(value: object) -> object:
    """Any value as plain Markdown text: what would be markup or HTML is escaped, line breaks are blanks."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#!&~$])", r"\\\1", text)
