"""The only door from Hydra to a RunSpec: one point of a sweep becomes one checked spec, or one-line errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field, model_validator

from scaling.child import AnySpec
from scaling.config_children import CHILD_SECTIONS, Seed, Tasks, children
from scaling.config_errors import ConfigError, checked, missing, one_line
from scaling.config_rules import as_ruled
from scaling.data.documents import content_fingerprint, pin
from scaling.data.pretrained import pinned
from scaling.launchers.here import Here, Joblib
from scaling.launchers.launcher import Elsewhere, Launcher
from scaling.launchers.ray import Ray
from scaling.launchers.slurm import Slurm
from scaling.model import Checkpoint
from scaling.names import default_name
from scaling.objective import TRAINS
from scaling.part import Part
from scaling.recipe import Corpus
from scaling.source import Embedded, Hub, Source
from scaling.spec import RunSpec
from scaling.tokenizer import CheckpointTokenizer

Action = Literal["run", "plan", "prepare"]
AnyLauncher = Annotated[Here | Joblib | Slurm | Ray, Field(discriminator="kind")]
RECIPE = ("corpus", "degraders", "decontamination", "dedup", "filters", "quality", "mixture", "order")
SECTIONS = ("study", "corpus", "mixture", "tokenizer", "model", "objective", "budget", "schedule")
EMBEDDED = {part: {"kind": "embedded", "part": part} for part in ("docs", "code", "legal")}
ONLY_EVALUATED = (Embedded(part="legal"),)
"""What no mixture trains on unless it says so: there are some hundred licences, and most are copies of a few."""
USUAL_MODEL = {objective: families[0] for objective, families in TRAINS.items()}


class Shards(Part):
    """How many machines share the preparation of data, and which of them this is, from 0 on; None: a launcher says."""

    shards: int | None = Field(default=None, ge=1)
    shard: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _belong_together(self) -> Shards:
        if self.shard is not None and self.shard >= (self.shards or 0):
            raise ValueError(f"prepare.shard must be below prepare.shards, got {self.shard} of {self.shards}")
        return self


class Request(Part):
    """What the user wants done with a sweep; no part of any run."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    action: Action
    runs: str | None
    prepare: Shards
    launch: AnyLauncher

    @model_validator(mode="after")
    def _only_preparing_is_shared(self) -> Request:
        shards = self.prepare
        if shards.shards is not None and self.action != "prepare":
            raise ValueError(f"prepare.shards needs action=prepare, got action={self.action}")
        if shards.shards is not None and shards.shard is None and not isinstance(self.launch, Elsewhere):
            raise ValueError(
                f"prepare.shards={shards.shards} needs launch=slurm or launch=ray, or prepare.shard, which says"
                " which of them this is"
            )
        return self


class OneSeed(Part):
    """The seed that all take which are not set."""

    seed: Seed


@dataclass(frozen=True, slots=True)
class Point:
    """One run that a point of a sweep asks for, and what the user wants done with all of them."""

    spec: AnySpec
    action: Action
    runs: Path
    prepare: Shards
    launch: Launcher


def read_points(config: DictConfig, sources: Sources) -> list[Point]:
    """Turn what Hydra composed into runs: one of pretraining, or those of its task, one per seed of fine-tuning.

    Raises ConfigError. sources: what is known already.
    """
    tree = _tree(config)
    asked_of_children = {key: tree.pop(key, None) for key in CHILD_SECTIONS}
    finetune_seeds = tree["seeds"].pop("finetune", None)
    seed = {"seed": tree.pop("seed", 0)}  # taken up by interpolation, as is the point: a run of a sweep that is no grid
    checked(OneSeed, seed, seed)
    tree.pop("point", None)
    name = tree.pop("name", None)
    asked = {key: tree.pop(key, None) for key in Request.model_fields}
    request = checked(Request, asked, asked)
    if tree["corpus"].get("domains") is None:
        tree["corpus"]["domains"] = EMBEDDED
    corpus = checked(Corpus, tree["corpus"], tree["corpus"], "corpus")
    _fill_defaults(tree, corpus)
    try:
        corpus, content = sources.resolve_all(corpus)
        if tree["model"]["kind"] == "checkpoint":
            model = checked(Checkpoint, tree["model"], tree["model"], "model")
            tree["model"], tokenizer = sources.checkpoint(model)
            if tree["tokenizer"].get("kind") == "checkpoint":
                tree["tokenizer"] = tokenizer
        elif tree["tokenizer"].get("kind") == "checkpoint":
            raise ValueError(f"tokenizer=checkpoint goes with model=checkpoint, got {tree['model']['kind']!r}")
        written = {key: tree.pop(key) for key in RECIPE if key in tree} | {"corpus": corpus}
        rest = {**as_ruled(tree), "name": name or "run", "content": content}
        spec = checked(RunSpec, {**rest, "recipe": _with_lists(written)}, {**rest, "recipe": written})
        spec = spec.model_copy(update={"recipe": spec.recipe.pinned()})
        if name is None:
            spec = spec.model_copy(update={"name": default_name(spec)})
        specs = children(spec, asked_of_children, finetune_seeds, name, sources.tasks)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([one_line(error)]) from None
    runs = Path(request.runs or Path("runs") / spec.study.name)
    return [Point(each, request.action, runs, request.prepare, request.launch) for each in specs]


def _tree(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain dicts and lists, with nothing missing, no code named, and all sections there."""
    try:
        if left_open := sorted(OmegaConf.missing_keys(config)):
            raise ConfigError([missing(field) for field in left_open])
        tree: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]  # what follows are the names that omegaconf has for its own types
        raise ConfigError([f"{error.full_key}: {said}" if error.full_key else said]) from None
    if unsafe := list(_targets(tree, "")):
        raise ConfigError(
            [f"{field}: a config cannot name Python code to run, got {value!r}" for field, value in unsafe]
        )
    for section in SECTIONS:
        if not isinstance(tree.get(section), Mapping):
            raise ConfigError([f"{section}: wanted a section with keys, got {tree.get(section)!r}"])
    return tree


def _with_lists(recipe: dict[str, Any]) -> dict[str, Any]:
    """Steps stand under names of the user's, which command lines and studies can change; the recipe has their order."""
    lists = {
        field: [{"kind": None, **step} if isinstance(step, Mapping) else step for step in recipe[field].values()]
        for field in ("degraders", "filters")
        if isinstance(recipe.get(field), Mapping)
    }
    return {**recipe, **lists}


class Sources:
    """What sources hold, each looked up once and not at every point of a sweep."""

    def __init__(self, cache: Path) -> None:
        self.tasks = Tasks(cache)
        self._cache = cache
        self._known: dict[Source, tuple[Source, str]] = {}
        self._checkpoints: dict[Checkpoint, tuple[Checkpoint, CheckpointTokenizer]] = {}

    def resolve(self, field: str, source: Source) -> tuple[Source, str]:
        """A source, a hub revision resolved to its commit, and the fingerprint of what it holds."""
        if source not in self._known:
            try:
                pinned = pin(source) if isinstance(source, Hub) else source
                self._known[source] = pinned, content_fingerprint(pinned, self._cache)
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from None
        return self._known[source]

    def resolve_all(self, corpus: Corpus) -> tuple[Corpus, dict[str, str]]:
        """A corpus with every source resolved, and the fingerprints by name."""
        named: dict[str, dict[str, Source]] = {"domains": {}, "references": {}}
        content = {}
        for field, resolved in named.items():
            for name, source in getattr(corpus, field).items():
                resolved[name], content[name] = self.resolve(f"corpus.{field}.{name}", source)
        return corpus.model_copy(update=named), content

    def checkpoint(self, model: Checkpoint) -> tuple[Checkpoint, CheckpointTokenizer]:
        """A checkpoint, a hub revision resolved to its commit, with what its files say and hold; and its tokenizer."""
        if model not in self._checkpoints:
            self._checkpoints[model] = pinned(model)
        return self._checkpoints[model]


def _fill_defaults(tree: dict[str, Any], corpus: Corpus) -> None:
    """Spell out the defaults that follow from other keys, so that a spec says all that it means."""
    domains = list(corpus.domains)
    mixed = [name for name, source in corpus.domains.items() if source not in ONLY_EVALUATED] or domains
    mixture = tree["mixture"]
    mixture.setdefault("kind", "weights")
    if mixture["kind"] == "weights" and mixture.get("weights") is None:
        mixture["weights"] = {domain: 1 / len(mixed) for domain in mixed}
    if mixture["kind"] in ("temperature", "swarm", "grid") and mixture.get("domains") is None:
        mixture["domains"] = sorted(mixed)
    if tree["tokenizer"].get("kind") != "checkpoint" and tree["tokenizer"].get("domains") is None:
        tree["tokenizer"]["domains"] = sorted(domains)
    if tree["study"].get("target") is None:
        tree["study"]["target"] = domains[0]
    if tree["model"].get("kind") is None and tree["objective"].get("kind") == "none":
        raise ConfigError(["objective=none goes with model=checkpoint, got a new model"])
    if tree["model"].get("kind") is None:
        tree["model"]["kind"] = USUAL_MODEL.get(tree["objective"].get("kind"))


def _targets(tree: Any, field: str) -> Iterator[tuple[str, Any]]:
    """Every key of Hydra's instantiation language in the tree."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            here = f"{field}.{key}".lstrip(".")
            if str(key) in ("_target_", "_partial_", "_args_"):
                yield here, value
            yield from _targets(value, here)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _targets(value, f"{field}.{index}")
