"""Fonts of the figures: one that comes with matplotlib, and for Chinese one that this machine may have."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache

from matplotlib import font_manager

LATIN = "DejaVu Sans"
"""Comes with matplotlib: the same bytes on every machine, but for the characters that it lacks."""
CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "SimHei",
    "Noto Sans CJK JP",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)
"""Fonts with Chinese characters, the first that is there is used."""


@cache
def chinese_font() -> str | None:
    """The name of a font on this machine that has Chinese characters."""
    if (name := _first_known()) is None:
        _add_new()
        name = _first_known()
    return name


def _first_known() -> str | None:
    there = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE if name in there), None)


def _add_new() -> None:
    """Tell matplotlib of fonts that were installed after it made its list of them."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with suppress(OSError, RuntimeError):  # one that cannot be read is none
                font_manager.fontManager.addfont(path)


def fonts() -> list[str]:
    """The families of the figures: a character that the first lacks is taken from the second."""
    if (chinese := chinese_font()) is None:
        return [LATIN]
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it may have no bold, which is no news
    return [LATIN, chinese]
