"""Recipe against recipe in the data card: what tells them apart, what both keep, which weights fell."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.mixtures import displacements
from scaling.identity import digest
from scaling.mixture import Mixture, Stages, Weights
from scaling.part import Part
from scaling.spec import RunSpec

MOST_WORDS = 5
"""Longer lists in a filter, such as stop words, are told by their number and by a hash."""


@dataclass(frozen=True)
class Kept:
    """The documents of one domain that a recipe keeps: a hash of the text [num_kept], and tokens [num_kept].

    num_read: before any was dropped. num_held_out: dropped for their overlap with held-out text; None: not looked for.
    """

    hashes: NDArray[np.uint64]
    tokens: NDArray[np.int64]
    num_read: int
    num_held_out: int | None

    @functools.cached_property
    def address(self) -> str:
        """The same for recipes that keep the same, however they came to it."""
        content = hashlib.sha256(self.hashes.tobytes() + self.tokens.tobytes())
        return f"{content.hexdigest()} {self.num_read} {self.num_held_out}"


# ---- in words ------------------------------------------------------------------------------------------


def in_words(spec: RunSpec) -> dict[str, str]:
    """Each part of a recipe in a few words; settings at their default are left out."""
    recipe, corpus = spec.recipe, spec.recipe.corpus
    quality = recipe.quality
    content = digest({"content": spec.content, "validation_frac": corpus.validation_frac})[:6]
    words = {
        "corpus": f"{', '.join(sorted(corpus.domains))} (content {content})",
        "tokenizer": _part(spec.tokenizer),
        "degraders": ", ".join(map(_part, recipe.degraders)),
        "decontamination": _part(recipe.decontamination),
        "dedup": _part(recipe.dedup),
        "filters": ", ".join(_part(step, most_words=MOST_WORDS) for step in recipe.filters),
        "quality": "" if quality is None else f"best {quality.keep_frac * 100:.4g}% by {_part(quality.scorer)}",
        "mixture": _mixture(recipe.mixture),
        "order": _part(recipe.order),
    }
    if quality is not None and quality.domains is not None:
        words["quality"] += f" of {' '.join(quality.domains)}"
    return {part: text or "none" for part, text in words.items()}


def names(recipes: Sequence[Mapping[str, str]]) -> list[str]:
    """Per recipe in words, the parts that are not those of the first; of the first, those that others change."""
    first, others = recipes[0], recipes[1:]
    changed = [[part for part in first if recipe[part] != first[part]] for recipe in others]
    of_first = [part for part in first if any(part in parts for parts in changed)]
    return [
        "; ".join(f"{part}: {recipe[part]}" for part in parts)
        for recipe, parts in zip(recipes, [of_first, *changed], strict=True)
    ]


def _part(part: Part, left_out: str = "", most_words: int | None = None) -> str:
    """Its kind, and the settings that are not at their default; lists of more words by number and hash."""
    kind: str = part.kind  # type: ignore[attr-defined]
    chosen = part.model_dump(exclude_defaults=True, exclude={"kind", left_out})
    listed = ", ".join(f"{name} {_value(getattr(part, name), most_words)}" for name in chosen)
    return f"{kind} ({listed})" if listed else kind


def _value(value: Any, most_words: int | None = None) -> str:
    if isinstance(value, Part):
        return _part(value)
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_value(of)}" for name, of in value.items())
    if not isinstance(value, tuple):
        return str(value)
    if most_words is not None and len(value) > most_words:
        return f"{len(value)} entries ({digest(list(value))[:6]})"
    return " ".join(map(_value, value))


def _mixture(mixture: Mixture) -> str:
    if isinstance(mixture, Weights):
        return in_percent(mixture.weights)
    if isinstance(mixture, Stages):
        ends = (
            "to the end" if stage.until_tokens is None else f"until {stage.until_tokens:,}" for stage in mixture.stages
        )
        return "; ".join(f"{end}: {in_percent(s.weights)}" for end, s in zip(ends, mixture.stages, strict=True))
    return _part(mixture, "domains")


def in_percent(weights: Mapping[str, float]) -> str:
    """Weights in words, the heaviest first."""
    heaviest_first = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {weight * 100:.4g}%" for name, weight in heaviest_first if weight)


# ---- in numbers ----------------------------------------------------------------------------------------


def overlaps(recipes: Sequence[Mapping[str, Kept]]) -> list[dict[str, Any]]:
    """Per domain: the distinct choices of documents, whose recipes they are, and what each two of them share.

    recipes: what each keeps, by domain. Documents are the same if their text is.
    """
    found = []
    for domain in sorted({name for recipe in recipes for name in recipe}):
        numbers: dict[str, list[int]] = {}
        choices: dict[str, Kept] = {}
        for number, recipe in enumerate(recipes, start=1):
            if domain in recipe:
                choices[recipe[domain].address] = recipe[domain]
                numbers.setdefault(recipe[domain].address, []).append(number)
        arms = list(choices.values())
        found.append(
            {
                "domain": domain,
                "arms": [
                    {
                        "recipes": numbers[address],
                        "documents": len(arm.tokens),
                        "tokens": int(arm.tokens.sum()),
                        "read_documents": arm.num_read,
                        "held_out_overlap_documents": arm.num_held_out,
                    }
                    for address, arm in choices.items()
                ],
                "pairs": _pairs(arms),
            }
        )
    return found


def _pairs(arms: Sequence[Kept]) -> list[dict[str, Any]]:
    """What each two arms share; [of the first, of the second]."""
    texts, place = np.unique(np.concatenate([arm.hashes for arm in arms]), return_inverse=True)
    places = np.split(place, np.cumsum([len(arm.hashes) for arm in arms])[:-1])
    shared = np.zeros((2, len(arms), len(arms)))  # documents and tokens of arm i that arm j keeps, too
    for j, own in enumerate(places):
        is_kept = np.zeros(len(texts), dtype=bool)
        is_kept[own] = True
        for i, arm in enumerate(arms):
            is_shared = is_kept[places[i]]
            shared[:, i, j] = is_shared.sum(), arm.tokens[is_shared].sum()
    return [
        {
            "arms": [i, j],
            **{unit: [int(of[i, j]), int(of[j, i])] for unit, of in zip(("documents", "tokens"), shared, strict=True)},
            "document_shares": [_share(shared[0], i, j), _share(shared[0], j, i)],
            "token_shares": [_share(shared[1], i, j), _share(shared[1], j, i)],
        }
        for i in range(len(arms))
        for j in range(i + 1, len(arms))
    ]


def _share(shared: NDArray[np.float64], i: int, j: int) -> float:
    return float(f"{shared[i, j] / shared[i, i]:.6g}")


def displaced(weights: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Each recipe's weights against those of the first; only what changed."""
    found = displacements({str(number): of for number, of in enumerate(weights, start=1)})
    return [
        {
            "recipe": int(number),
            "against": 1,
            "domains": [{**asdict(row), "difference": row.difference} for row in rows if row.before != row.after],
        }
        for number, rows in found.items()
        if any(row.before != row.after for row in rows)
    ]
