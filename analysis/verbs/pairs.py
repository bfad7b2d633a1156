"""Options that hold pairs: NAME=VALUE,NAME=VALUE."""

from __future__ import annotations


def pairs_of(text: str | None, option: str, wanted: str) -> dict[str, str]:
    """The pairs of an option, in order; none for None. Raises AnalysisError for what is no pair, or twice there."""
    from analysis.runs.logs import AnalysisError

    found: dict[str, str] = {}
    for part in (text or "").split(",") if text is not None else ():
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not (name and sign and value) or name in found:
            raise AnalysisError(f"{option} must be {wanted}[,...], each once, got {text!r}")
        found[name] = value
    return found


def amounts_of(text: str | None, option: str, wanted: str) -> dict[str, float]:
    """The pairs of an option as numbers. Raises AnalysisError for what is none."""
    from analysis.runs.logs import AnalysisError

    found = {}
    for name, value in pairs_of(text, option, wanted).items():
        try:
            found[name] = float(value)
        except ValueError:
            raise AnalysisError(f"{option}: {name} must be a number, got {value!r}") from None
    return found
