"""`python -m scaling`: Hydra composes the points of a sweep; all are checked; then the study runs them."""

from __future__ import annotations

import itertools
import os
import re
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scaling.child import pretraining_of
from scaling.config import Point, Sources, read_points
from scaling.config_errors import ConfigError, no_such_key, one_line
from scaling.data.cache import cache_root
from scaling.data.prepare import prepare_shard
from scaling.names import told_apart
from scaling.study import run_study
from scaling.train.preemption import PreemptedError, Stop


def main() -> None:
    try:
        points = compose_points(sys.argv[1:])
    except ConfigError as error:
        sys.exit("\n".join(f"error: {line}" for line in error.lines))
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        message = one_line(error)
        for advice in (" Config search path:", " To append to your "):  # of no use here: the keys are all there are
            message = message.split(advice)[0]
        sys.exit(f"error: {message}")
    if not points:  # Hydra answered --help, --cfg or the like
        return
    stop = Stop()
    try:
        stop.listen()
        stop.listen_to_ctrl_c()
        first, specs = points[0], [point.spec for point in points]
        num_shards = first.prepare.shards
        sys.exit(run_study(specs, first.action, first.runs, cache_root(), stop, first.launch, num_shards))
    except PreemptedError as error:
        print("preempted; the same command goes on from here", file=sys.stderr)
        sys.exit(error.code)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def compose_points(arguments: list[str]) -> list[Point]:
    """The points that the command line describes, each checked. Raises ConfigError with the errors of all."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what it would print, so that we can say it in one line
    # Composes every point twice, the first time for launchers that would find an error late, on other machines.
    Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]
    Hydra.get_mode = _mode  # type: ignore[method-assign]
    _check_study(arguments)
    _check_choices(arguments)
    sources = Sources(cache_root())
    is_ours = False  # what runs: our code, or Hydra's
    points: list[Point] = []
    errors: dict[str, list[str]] = defaultdict(list)  # each with the points where it stands
    num_points = itertools.count()

    @hydra.main(version_base="1.3", config_path=str(shipped("conf")), config_name="run")
    def collect(config: DictConfig) -> None:
        nonlocal is_ours
        is_ours = True
        next(num_points)
        ours = HydraConfig.get()
        if ours.mode != RunMode.MULTIRUN and ours.sweeper.params:
            errors["hydra.mode: wanted MULTIRUN, or -m, since the study sets hydra.sweeper.params"].append("")
        try:
            found = read_points(config, sources)
            shards = found[0].prepare
            if shards.shard is not None and shards.shards is not None:
                prepare_shard(pretraining_of(found[0].spec), shards.shard, shards.shards, cache_root(), print)
            else:
                points.extend(found)
        except (ConfigError, OSError) as error:
            overrides: Any = OmegaConf.to_container(ours.overrides.task, resolve=False)
            for line in error.lines if isinstance(error, ConfigError) else [one_line(error)]:
                errors[line].append(" ".join(overrides))
        is_ours = False

    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix=".hydra-") as scratch:  # where other machines see it, too
        _lay_out(Path(scratch))
        os.environ["SCALING_SCRATCH"] = scratch
        sys.argv[1:] = arguments
        try:
            collect()
        except ConfigCompositionException as error:
            if unknown := re.match(r"Could not override '([\w.]+)'", str(error)):
                raise ConfigError([no_such_key(unknown[1], shipped("conf")) + _swept(unknown[1], arguments)]) from None
            raise
        except (TypeError, AttributeError, AssertionError) as error:  # where a name was wanted, Hydra takes it for one
            if is_ours:
                raise
            raise ConfigError(
                [f"hydra cannot compose what the command line or the study says: {one_line(error)}"]
            ) from error
    if errors:
        total = next(num_points)
        raise ConfigError([line + _where(overrides, total) for line, overrides in errors.items()])
    named = told_apart([point.spec for point in points])
    return [replace(point, spec=spec) for point, spec in zip(points, named, strict=True)]


def _mode(self: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """Whether this is a sweep. Hydra's own takes a study that it cannot compose for none, and hides what is wrong."""
    config = self.compose_config(
        config_name=config_name,
        overrides=overrides,
        run_mode=RunMode.MULTIRUN,
        with_log_configuration=False,
        validate_sweep_overrides=False,
    )
    mode: RunMode | None = config.hydra.mode
    return mode


def _check_study(arguments: list[str]) -> None:
    """ConfigError where a study is not chosen by +sweeps=NAME, or its file does not say that its keys are a run's."""
    lines = []
    for argument in arguments:
        key, _, name = argument.partition("=")
        if key in ("sweep", "+sweep", "sweeps"):
            lines.append(f"{argument}: did you mean +sweeps={name}?")
        files = [folder / f"{name.removesuffix('.yaml')}.yaml" for folder in (Path("sweeps"), shipped("sweeps"))]
        file = next(filter(Path.is_file, files), None) if key == "+sweeps" else None
        if file is not None and not re.match(r"\s*#\s*@package\s+_global_\s", file.read_text(encoding="utf-8")):
            lines.append(f"{file}: its first line is missing: wanted `# @package _global_`")
    if lines:
        raise ConfigError(lines)


def _check_choices(arguments: list[str]) -> None:
    """ConfigError where a choice such as filters=gopher gets something else than names."""
    parser = OverridesParser.create()
    lines = []
    for argument in arguments:
        group, _, given = argument.partition("=")
        names = sorted(path.stem for path in (shipped("conf") / group).glob("*.yaml")) if group.isidentifier() else []
        try:
            value = parser.parse_override(argument).value() if names and given else None
        except OverrideParseException:  # Hydra says it better
            continue
        alternatives = value.list if isinstance(value, ChoiceSweep) else [value]
        in_lists = [member for chosen in alternatives if isinstance(chosen, list) for member in chosen]
        if any(isinstance(member, dict | list | int | float) for member in in_lists) or isinstance(value, int | float):
            lines.append(f"{group}: wanted a name ({', '.join(names)}), got {given}")
    if lines:
        raise ConfigError(lines)


def _swept(key: str, arguments: list[str]) -> str:
    """Why a key that one of the choices has is none of a sweep over several."""
    group = key.partition(".")[0]
    for argument in arguments:
        if argument.startswith(f"{group}=") and OverridesParser.create().parse_override(argument).is_sweep_override():
            return (
                f"; with {argument} all must have it, and it is swept, too:"
                f" else write a choice of your own, conf/{group}/NAME.yaml"
            )
    return ""


def _where(overrides: list[str], num_points: int) -> str:
    """At which points of a sweep an error stands."""
    if len(overrides) == num_points:
        return "" if num_points == 1 else f" (at all {num_points} points)"
    return f" (at {len(overrides)} of {num_points} points, first: {overrides[0]})"


def _lay_out(scratch: Path) -> None:
    """Give Hydra a folder to write in, and search paths that hold `sweeps/` and the groups of a `conf/` alone.

    Every folder on a search path is a config group to Hydra: beside a folder `runs/`, the key `runs` would be one.
    """
    for name, sweeps in {"here": Path.cwd() / "sweeps", "shipped": shipped("sweeps")}.items():
        (scratch / name).mkdir()
        if sweeps.is_dir():
            (scratch / name / "sweeps").symlink_to(sweeps)
    for group in (path for path in shipped("conf").iterdir() if path.is_dir()):
        if (own := Path.cwd() / "conf" / group.name).is_dir() and not own.samefile(group):
            (scratch / "here" / group.name).symlink_to(own)


def shipped(folder: str) -> Path:
    """`conf` or `sweeps`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


if __name__ == "__main__":
    main()
