"""What runs are called: labels for people, made from what a run is; the fingerprint tells runs apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from scaling.child import SPECS, AnySpec, CompressSpec, FinetuneSpec
from scaling.compression import Distillation
from scaling.data.degraders.duplicates import Duplicates
from scaling.identity import NOT_IDENTITY, fingerprint
from scaling.method import Full, Method
from scaling.mixture import Grid, Mixture, Swarm, Temperature, Weights
from scaling.model import Checkpoint
from scaling.recipe import Degrader
from scaling.spec import RunSpec
from scaling.status import short

MOST = 64
"""Characters of a name."""

SEPARATOR = re.compile(r"(?<!\de)-")
"""What stands between the words of a name; the minus of `1e-05` is none."""

WORD = re.compile(r"[\w.-]*\w", re.ASCII)
"""What may be a word of a name."""

MOST_OF_WORDS = 30
"""Of these, those that say in what runs of one sweep differ."""


def told_apart(specs: Sequence[AnySpec]) -> list[AnySpec]:
    """The runs of a sweep, with what differs in the names of those that would be called the same.

    So it is for the runs that they go on from. A name that the user gave stays.
    """
    names: dict[str, str] = {}  # by fingerprint
    for kind in SPECS.values():  # parents come first: a child's name has theirs
        runs = {fingerprint(run): run for spec in specs for run in _lineage(_named(spec, names)) if type(run) is kind}
        alike: dict[str, dict[str, AnySpec]] = defaultdict(dict)
        for identity, run in runs.items():
            if run.name == default_name(run):
                alike[run.name][identity] = run
        for group in alike.values():
            told = _differences([_facts(run) for run in group.values()])
            for (identity, run), words in zip(group.items(), told, strict=True):
                names[identity] = default_name(run, words)
    return [_named(spec, names) for spec in specs]


def _lineage(spec: AnySpec) -> list[AnySpec]:
    return [spec] if isinstance(spec, RunSpec) else [spec, *_lineage(spec.parent)]


def _named(spec: AnySpec, names: Mapping[str, str]) -> AnySpec:
    """A run, and those that it goes on from, under their names; a child of a parent with a new one has one, too."""
    if not isinstance(spec, RunSpec):
        is_usual = spec.name == default_name(spec)
        spec = cast(AnySpec, spec.model_copy(update={"parent": _named(spec.parent, names)}))
        if is_usual:
            spec = spec.model_copy(update={"name": default_name(spec)})
    return spec.model_copy(update={"name": names.get(fingerprint(spec), spec.name)})


def _facts(spec: AnySpec) -> dict[str, Any]:
    """The plain values of a spec by their keys. Of a model its size, not what that is made of; of data what is done."""
    tree = spec.model_dump(mode="json", exclude={*NOT_IDENTITY, "content", "parent"})
    if isinstance(spec, RunSpec):
        return dict(_leaves({**tree, "model": {"kind": spec.model.kind, "N": short(spec.num_params)}}))
    return {f"parent.{key}": value for key, value in _facts(spec.parent).items()} | dict(_leaves(tree))


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | list):
        for part, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(value, f"{key}.{part}")
    else:
        yield key, tree


def _differences(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each of several runs, such words as `learning_rate0.002`, as many as there is room for."""
    keys = dict.fromkeys(key for facts in runs for key in facts)
    differ = [key for key in keys if len({repr(facts.get(key)) for facts in runs}) > 1]
    told = []
    for facts in runs:
        words: list[str] = []
        for key in differ:
            if key not in facts or _follows(key, facts, runs):
                continue
            word = _word(re.sub(r"(\.\d+)+$", "", key).rpartition(".")[2], facts[key])
            if WORD.fullmatch(word) and len("-".join([*words, word])) <= MOST_OF_WORDS:
                words.append(word)
        told.append(words)
    return told


def _follows(key: str, facts: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a fact is that of all runs whose part, such as the second filter, is of the same kind."""
    part = key.removesuffix(".kind")
    while part := part.rpartition(".")[0]:
        kind = f"{part}.kind"
        if kind in facts:
            return len({repr(other.get(key)) for other in runs if other.get(kind) == facts[kind]}) == 1
    return False


def _word(key: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return key if value else f"no_{key}"
    if isinstance(value, int | float):
        return f"{key}{value:.4g}" if value < 10_000 else f"{key}{short(value)}"
    return value if key == "kind" else f"{key}{value}"


def default_name(spec: AnySpec, words: Sequence[str] = ()) -> str:
    """The name of a run for which the user has none. words: what else it is to say."""
    if isinstance(spec, CompressSpec):
        name = _compress_name(spec, words)
    else:
        name = _finetune_name(spec, words) if isinstance(spec, FinetuneSpec) else _pretrain_name(spec, words)
    return _last_words(name, MOST)  # seeds of many digits may make it longer


def _first_words(name: str, most: int) -> str:
    """As many words of a name as there is room for, from the first on; of one that is too long its beginning."""
    if len(name) <= most:
        return name
    ends = [found.start() for found in SEPARATOR.finditer(name, 0, most + 1)]
    return name[: ends[-1] if ends else max(0, most)].rstrip("-._")


def _last_words(name: str, most: int) -> str:
    """As many words of a name as there is room for, the last among them; of one that is too long its end."""
    if len(name) <= most:
        return name
    begins = [found.end() for found in SEPARATOR.finditer(name) if len(name) - found.end() <= most]
    return name[begins[0] if begins else len(name) - most :].lstrip("-._")


def _pretrain_name(spec: RunSpec, words: Sequence[str]) -> str:
    """Such as `docs80-code20-1M-s0`."""
    recipe, unique, seeds = spec.recipe, spec.budget.unique_tokens, spec.seeds
    parts = [
        *_mixture_name(recipe.mixture),
        *([recipe.dedup.kind + "-dedup"] if recipe.dedup.kind != "exact" else []),
        *(f"{step.kind}{_dose(step) * 100:.3g}" for step in recipe.degraders),
        *(step.kind for step in recipe.filters),
        *([f"{recipe.quality.scorer.kind}{recipe.quality.keep_frac * 100:.3g}"] if recipe.quality else []),
        *([recipe.order.kind] if recipe.order.kind != "shuffled" else []),
        *([spec.objective.kind] if spec.objective.kind != "clm" else []),
        *([f"U{short(unique)}"] if unique else []),
    ]
    seed = (
        f"s{seeds.init}" if seeds.init == seeds.order == seeds.subset else f"s{seeds.init}.{seeds.order}.{seeds.subset}"
    )
    last = [*words, short(spec.budget.num_tokens), seed]
    return "-".join([_first_words("-".join(parts), 44 - sum(len(word) + 1 for word in words)), *last])


def _dose(step: Degrader) -> float:
    return step.frac if isinstance(step, Duplicates) else step.document_frac


def _mixture_name(mixture: Mixture) -> list[str]:
    if isinstance(mixture, Weights):
        weights = sorted(mixture.weights.items(), key=lambda item: (-item[1], item[0]))
        return [f"{domain}{weight * 100:.3g}" for domain, weight in weights if weight > 0]
    if isinstance(mixture, Swarm | Grid):
        return [f"{mixture.kind}{mixture.index}"]
    if isinstance(mixture, Temperature):
        return [f"size{mixture.exponent:g}"]
    return [mixture.kind]


def _finetune_name(spec: FinetuneSpec, words: Sequence[str]) -> str:
    """Such as `sst2-n500-lora-docs80-code20-1M-s0-f2`."""
    parent = spec.parent
    start = parent.name
    if spec.start == "initial":
        start = "checkpoint" if isinstance(parent.model, Checkpoint) else f"scratch-s{parent.seeds.init}"
    parts = [
        _first_words(spec.task.name, 20),
        *([f"n{short(spec.num_examples)}"] if spec.num_examples else []),
        *_method_words(spec.method),
        *words,
    ]
    return f"{_joined(parts, start, 60)}-f{spec.seed}"


def _joined(parts: Sequence[str], start: str, most: int) -> str:
    """Such words, and of the name of what a run goes on from, where it is long, the end: that says size and seed."""
    label = _first_words("-".join(parts), most - 12)
    return f"{label}-{_last_words(start, most - 1 - len(label))}"


def _method_words(method: Method) -> list[str]:
    """What a method does that the usual one does not."""
    adaptation, loss = method.adaptation, method.loss
    return [
        *([] if isinstance(adaptation, Full) else [adaptation.kind]),
        *(["decay"] if getattr(adaptation, "layer_decay", 1.0) < 1 else []),
        *([loss.kind] if loss.kind == "focal" else []),
        *([loss.class_weights] if loss.class_weights != "none" else []),
        *([method.sampling] if method.sampling != "as_is" else []),
        *([method.augmentation.kind] if method.augmentation is not None else []),
    ]


def _compress_name(spec: CompressSpec, words: Sequence[str]) -> str:
    """Such as `magnitude50-sst2-...`."""
    compress = spec.compress
    dose = getattr(compress, "frac", None)
    label = compress.kind if dose is None else f"{compress.kind}{dose * 100:.3g}"
    if isinstance(compress, Distillation):
        label = f"distilled{compress.student.hidden_size}x{compress.student.num_layers}"
    return _joined([label, *words], spec.parent.name, MOST)
