"""Short names for recipes: what differs between those of a study, in words, and nothing else.

Each axis of the data has a function from one recipe's part of the spec, and those of all recipes, to a few words.
A field is named only where it differs among parts of the same kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Part = Mapping[str, Any]
MAX_DOMAINS = 5
"""Domains that a label names; the smallest of more are summed up."""

HARMS = {
    "ocr_noise": ("OCR noise in {} of documents", "OCR noise"),
    "shuffle_words": ("words shuffled in {} of documents", "shuffled words"),
    "truncate": ("{} of documents truncated", "truncation"),
    "boilerplate": ("boilerplate in {} of documents", "boilerplate"),
    "junk": ("junk in place of {} of documents", "junk"),
    "duplicates": ("{} planted copies", "planted copies"),
}
"""By kind of degrader: the words for a dose, and for the harm itself."""


def count_text(count: float) -> str:
    """A count for people: 62.5k, 1M, 2.05B."""
    near = float(f"{count:.1g}")  # 999,424 tokens are 1M in whole batches
    count = near if abs(near - count) < 1e-3 * count else float(f"{count:.3g}")
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def share_text(share: float) -> str:
    """A share for people: 30 %, 0.5 %."""
    return f"{100 * share:.3g} %"


def percent_text(share: float, places: int = 0) -> str:
    """A share to so many places: 95 %, 0.66 %."""
    return f"{100 * share:.{places}f} %"


def flops_text(flops: float) -> str:
    """FLOPs for people, as the tables have them: 1.02e+13."""
    return f"{flops:.3g}"


def value_text(value: Any) -> str:
    """Any value of a spec in a few characters."""
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    if isinstance(value, int | float):
        return f"{value:g}" if abs(value) < 1e6 else count_text(value)
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {value_text(item)}" for key, item in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        text = "+".join(value_text(item) for item in value)
    else:
        text = str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def canonical(value: Any) -> str:
    """Equal text for equal values of a spec."""
    return json.dumps(value, sort_keys=True)


def differing(part: Part, others: Sequence[Part | None], skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Name and value of the fields in which the parts of this kind differ."""
    like = [other for other in others if other and other.get("kind") == part.get("kind")]
    return [
        (name, value_text(value))
        for name, value in part.items()
        if name not in ("kind", *skip) and len({canonical(other.get(name)) for other in like}) > 1
    ]


def _in_brackets(fields: Sequence[tuple[str, str]]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in fields)})" if fields else ""


# ---- how text is mixed and ordered -----------------------------------------------------------------


def weights_text(weights: Mapping[str, float], target: str, decimals: int = 1) -> str:
    """Shares of domains, the target first: "80 % docs / 20 % code"."""
    parts = sorted((d for d in weights if weights[d] > 0), key=lambda domain: (domain != target, domain))
    if len(parts) == 1:
        return f"100 % {parts[0]}"
    if len(parts) > MAX_DOMAINS:
        named = sorted(parts, key=lambda domain: (domain != target, -weights[domain], domain))[: MAX_DOMAINS - 1]
        rest = [domain for domain in parts if domain not in named]
        parts = [domain for domain in parts if domain in named]
        others = f" / {_percent(sum(weights[d] for d in rest), decimals)} {len(rest)} others"
    else:
        others = ""
    return " / ".join(f"{_percent(weights[domain], decimals)} {domain}" for domain in parts) + others


def _percent(share: float, decimals: int) -> str:
    text = f"{100 * share:.{decimals}f}"
    if float(text) == 0:
        return f"<{10.0**-decimals:g} %"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def mixture_text(
    part: Part, others: Sequence[Part | None], weights: Mapping[str, float] | None, target: str, decimals: int
) -> str:
    """The mixture in words. weights: what the ledger says of one that is computed; None: no run has told yet."""
    kind = part.get("kind", "weights")
    if kind == "weights":
        return weights_text(part["weights"], target, decimals + 1)
    if kind == "stages":
        return _stages_text(part["stages"], target, decimals)
    told = [field for field in differing(part, others) if field[0] in ("exponent", "size")]
    prefix = " ".join(f"{name} {value}" for name, value in told)
    if weights is None:
        return prefix or f"{kind} {part.get('index', '')}".rstrip() + ", no complete run"
    shares = weights_text(weights, target, decimals)
    return f"{prefix} ({shares})" if prefix else shares


def _stages_text(stages: Sequence[Part], target: str, decimals: int) -> str:
    texts = []
    for stage in stages:
        until = stage.get("until_tokens")
        end = f" to {count_text(until)} tokens" if until else ""
        texts.append(weights_text(stage["weights"], target, decimals + 1) + end)
    return ", then ".join(texts)


def order_text(part: Part, others: Sequence[Part | None]) -> str:
    """The order in words."""
    first = "last" if part.get("descending") else "first"
    if part["kind"] == "shuffled":
        return "shuffled"
    if part["kind"] == "blocks":
        return ", then ".join(part["domains"]) + " in blocks"
    if part["kind"] == "length":
        return f"short documents {first}"
    if part["kind"] == "score":
        kinds = {other["scorer"]["kind"] for other in others if other and other.get("kind") == "score"}
        return f"low scores {first}" + (f" by {part['scorer']['kind']}" if len(kinds) > 1 else "")
    return str(part["kind"]) + _in_brackets(differing(part, others))


def repetition_text(part: Part | None, others: Sequence[Part | None]) -> str:
    """How often domains are repeated, in words."""
    if part is None:
        return "no repetition set"
    if part["kind"] == "epochs":
        return ", ".join(f"{domain} {epochs:g} epochs" for domain, epochs in part["domains"].items())
    if part["kind"] == "proxy":
        text = f"as often as at {count_text(part['num_tokens'])} tokens"
        return text + _in_brackets(differing(part, others, skip=("num_tokens",)))
    return str(part["kind"]) + _in_brackets(differing(part, others))


# ---- which documents -------------------------------------------------------------------------------


def harm_dose(step: Part) -> float:
    """The dose of a degrader: a share of documents; 1 where it does not say."""
    return float(step.get("document_frac", step.get("frac", 1.0)))


def harm_name(kind: str) -> str:
    """The harm of a kind of degrader, without its dose."""
    return HARMS[kind][1] if kind in HARMS else kind.replace("_", " ")


def degraders_text(steps: Sequence[Part], others: Sequence[Sequence[Part]]) -> str:
    """The harm done on purpose, in words."""
    if not steps:
        kinds = {step["kind"] for other in others for step in other}
        return f"no {harm_name(next(iter(kinds)))}" if len(kinds) == 1 else "no harm"
    every = [step for other in others for step in other]
    texts = []
    for step in steps:
        words = HARMS.get(step["kind"], (f"{harm_name(step['kind'])} in {{}} of documents", ""))[0]
        told = differing(step, every, skip=("document_frac", "frac"))
        texts.append(words.format(share_text(harm_dose(step))) + _in_brackets(told))
    return " + ".join(texts)


def filters_text(filters: Sequence[Part], others: Sequence[Sequence[Part]]) -> str:
    """The filters in words; where all recipes have the same ones, only the thresholds that differ."""
    if not filters:
        return "unfiltered"
    every = [step for other in others for step in other]
    if len({tuple(step["kind"] for step in other) for other in others}) == 1:
        told = [f"{step['kind']}.{name} {value}" for step in filters for name, value in differing(step, every)]
        return ", ".join(told)
    names = [str(step["kind"]) + _in_brackets(differing(step, every)) for step in filters]
    return " + ".join(names) + (" filter" if len(filters) == 1 else " filters")


def quality_text(part: Part | None, others: Sequence[Part | None]) -> str:
    """What is kept by score, in words."""
    if part is None:
        return "all documents"
    scorer, share = part["scorer"], share_text(part["keep_frac"])
    told = differing(scorer, [other["scorer"] for other in others if other])
    told += differing(part, others, skip=("scorer", "keep_frac"))
    is_random = scorer["kind"] == "random"
    return (f"random {share}" if is_random else f"best {share} by {scorer['kind']}") + _in_brackets(told)


def dedup_text(part: Part, others: Sequence[Part | None]) -> str:
    """The deduplication in words."""
    if part["kind"] == "none":
        return "no dedup"
    text = "exact dedup" if part["kind"] == "exact" else f"{part['kind']} dedup"
    if part["kind"] == "near":
        text += f" (J >= {part['threshold']:g})"
    scopes = {other.get("scope", "domain") for other in others if other and other["kind"] != "none"}
    if len(scopes) > 1:
        text += " over the corpus" if part.get("scope") == "corpus" else " within domains"
    return text + _in_brackets(differing(part, others, skip=("scope", "threshold")))


def decontamination_text(part: Part, others: Sequence[Part | None]) -> str:
    """The decontamination in words."""
    if part["kind"] == "none":
        return "no decontamination"
    text = f"decontaminated ({part['n']}-grams)" if part["kind"] == "ngram" else f"decontaminated by {part['kind']}"
    return text + _in_brackets(differing(part, others, skip=("n",)))


def isolation_text(is_isolated: bool, others: Sequence[bool]) -> str:
    """Whether tokens see other documents of their sequence."""
    return "attention within documents" if is_isolated else "attention across documents"


def unique_text(unique_tokens: int | None, others: Sequence[int | None]) -> str:
    """U in words."""
    return "U unlimited" if unique_tokens is None else f"U = {count_text(unique_tokens)} tokens"


def hyperparameters_text(part: Part, others: Sequence[Part]) -> str:
    """How learning rate, batch and warmup follow from N and D, in words."""
    told = []
    for name, value in part.items():
        rules = [other[name] for other in others if isinstance(other.get(name), Mapping)]
        if isinstance(value, Mapping):
            told += [(f"{name}.{key}", text) for key, text in differing(value, rules)]
        else:
            told += differing({"kind": part["kind"], name: value}, others)
    if len({other["kind"] for other in others}) > 1:
        return f"{part['kind']} hyperparameters" + _in_brackets(told)
    return ", ".join(f"{name} {text}" for name, text in told)


AXES: tuple[tuple[str, Callable[[Any, Sequence[Any]], str]], ...] = (
    ("recipe.degraders", degraders_text),
    ("recipe.decontamination", decontamination_text),
    ("recipe.dedup", dedup_text),
    ("recipe.filters", filters_text),
    ("recipe.quality", quality_text),
    ("recipe.order", order_text),
    ("budget.unique_tokens", unique_text),
    ("budget.repetition", repetition_text),
    ("batch.isolate_documents", isolation_text),
    ("hyperparameters", hyperparameters_text),
)
"""The axes of the data besides the mixture, each with its words, in the order in which they take effect."""
