"""Whether two recipes may be compared at all, and whether they are matched as the study declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.page.labels import count_text, percent_text
from analysis.page.language import say
from analysis.runs.points import Point, Study
from analysis.runs.recipes import Recipe

MATCHES = ("tokens", "unique_tokens", "flops", "weights")
TOLERANCE = 0.01
"""Amounts and shares that differ by less than this are matched: whole sequences do not divide them evenly."""


def why_not_comparable(a: Recipe, b: Recipe, domain: str) -> str | None:
    """Why two recipes' losses on a domain cannot be compared at all, or None."""
    for what, root in (
        (say("objectives"), "objective"),
        (say("tokenizers"), "tokenizer"),
        (say("models"), "model"),
        (say("texts of {domain}", domain=domain), f"content.{domain}"),
        (say("validation shares"), "recipe.corpus.validation_frac"),
        (say("amounts of validation text"), "evaluation"),
    ):
        ours, theirs = a.subtree(root), b.subtree(root)
        if ours != theirs:
            path = next(path for path in sorted({**ours, **theirs}) if ours.get(path) != theirs.get(path))
            return say(
                "the {what} differ ({path}: {ours} against {theirs})",
                what=what, path=path, ours=ours.get(path), theirs=theirs.get(path),
            )  # fmt: skip
    return None


def why_unmatched(a: Sequence[Point], b: Sequence[Point], study: Study) -> str | None:
    """Why two recipes are not matched as the study declares, with the numbers, or None."""
    eval_tokens = {p.num_eval_tokens for p in (*a, *b)}
    if len(eval_tokens) > 1:
        return say("the losses are over different numbers of validation tokens ({counts})", counts=sorted(eval_tokens))
    common = sorted({p.tokens for p in a} & {p.tokens for p in b})
    if not common:
        ours, theirs = (", ".join(count_text(size) for size in sorted({p.tokens for p in side})) for side in (a, b))
        return say(
            "they need a size in common and have 0: {ours} against {theirs} tokens", ours=ours, theirs=theirs
        )  # fmt: skip
    if study.match == "weights":
        return why_weights_differ(_shares(study, a[0].recipe), _shares(study, b[0].recipe))
    amount = {"unique_tokens": lambda p: p.unique_tokens, "flops": lambda p: p.flops}.get(study.match)
    for size in common if amount else ():
        means = [float(np.mean([amount(p) for p in side if p.tokens == size])) for side in (a, b)]  # type: ignore[misc]
        if why := why_amounts_differ(study.match, means[0], means[1], count_text(size)):
            return why
    return None


def why_amounts_differ(match: str, ours: float, theirs: float, size: str) -> str | None:
    """Both amounts of what should be equal at a size, if they are not."""
    if abs(ours - theirs) <= TOLERANCE * max(ours, theirs):
        return None
    return say(
        "not matched in {match}: {ours} against {theirs} at {size} tokens",
        match=match, ours=count_text(ours), theirs=count_text(theirs), size=size,
    )  # fmt: skip


def why_weights_differ(a: Mapping[str, float], b: Mapping[str, float]) -> str | None:
    """The first domain whose share is not the same, with both, or None."""
    if not (a and b):
        return say("not matched in weights: the share of each domain is not known")
    for domain in sorted({*a, *b}):
        ours, theirs = a.get(domain, 0.0), b.get(domain, 0.0)
        if abs(ours - theirs) > TOLERANCE:
            return say(
                "not matched in weights: {domain} has {ours} against {theirs}",
                domain=domain, ours=percent_text(ours, 1), theirs=percent_text(theirs, 1),
            )  # fmt: skip
    return None


def _shares(study: Study, label: str) -> dict[str, float]:
    """The realised share of each domain, the mean over the runs; as the recipe states it where no ledger tells."""
    ledgers = [run.ledger for run in study.runs if run.ledger and study.recipe_of[run.fingerprint] == label]
    if ledgers:
        return {d: float(np.mean([x.domains[d].realised_weight for x in ledgers])) for d in ledgers[0].domains}
    return dict(next(recipe.weights or {} for recipe in study.recipes if recipe.label == label))
