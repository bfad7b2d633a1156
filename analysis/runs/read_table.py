"""Read a table of runs from CSV or parquet: our own `points`, or what others published.

What is wrong with a row is said with its number (1 is the first below the header), the column, and the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array
from analysis.runs.logs import AnalysisError
from analysis.runs.run_table import RunTable
from analysis.runs.table_checks import check_rows

NAMES: Mapping[str, tuple[str, ...]] = {
    "N": (
        *("N", "params", "num_params", "n_params", "parameters", "num_parameters", "n_parameters", "model_size"),
        *("param_count", "parameter_count", "total_params", "total_parameters", "model_params", "model_parameters"),
        *("non_embedding_params", "non_embedding_parameters", "num_non_embedding_params", "n_non_embedding_params"),
    ),
    "D": ("D", "tokens", "num_tokens", "n_tokens", "train_tokens", "training_tokens"),
    "U": ("U", "unique_tokens", "num_unique_tokens"),
    "C": ("C", "flops", "flop", "compute", "training_flops", "training_flop"),
    "P": ("P", "pretrain_tokens"),
    "L": ("L", "loss", "val_loss"),
    "loss": ("loss", "val_loss", "validation_loss", "eval_loss", "test_loss", "final_loss"),
    "metric": ("metric", "error", "accuracy"),
    "recipe": ("recipe",),
    "run": ("fingerprint", "run", "run_id"),
    "trunk": ("trunk",),
    "seed": ("seed",),
    "domain": ("domain",),
    "role": ("role",),
    "step": ("step", "global_step", "checkpoint", "ckpt", "iteration"),
}
"""Letters, and the column names that are taken for them where the user says nothing; the first that is there counts.
Case does not matter for words, nor spaces for underscores; for single letters it does: N parameters, n of anything."""
AMOUNTS = ("N", "D", "U", "C", "P", "L")
WEIGHTS = ("w", "weights")
WEIGHT_PREFIX = "w:"
FLOPS_PER_TOKEN = 6.0
"""Per parameter, for the one of N, D and C that a table lacks (C = 6 N D: Kaplan et al. 2020, arXiv 2001.08361)."""
SEPARATORS = ",;\t"
HEADER_BYTES = 1 << 20
COMPARISONS = ("!=", ">=", "<=", "=", ">", "<")
AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([KMBT])", re.IGNORECASE)
POWERS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
GROUPED = re.compile(r"\d{1,3}(,\d{3}){2,}(\.\d+)?")
"""Two commas at least: 2,966 may be a loss of 2.966."""
MAX_RECIPES = 20
"""A column of more texts than these names runs, not recipes."""


@dataclass(frozen=True)
class RawTable:
    """A file as it stands: its columns by name, each a list of cells (None where empty), and the number of each row."""

    source: str
    columns: Mapping[str, Sequence[Any]]
    row: NDArray[np.int64]

    def column(self, name: str, what: str) -> Sequence[Any]:
        """A column by its name; raises AnalysisError that lists those that are there."""
        if name not in self.columns:
            there = ", ".join(self.columns)
            raise AnalysisError(f"{self.source}: there is no column {name!r} ({what}); the table has: {there}")
        return self.columns[name]

    def numbers(self, name: str, what: str) -> Array:
        """A column as numbers, (n,); nan where a cell is empty. Raises AnalysisError for a cell that is none."""
        cells = self.column(name, what)
        found = np.empty(len(cells))
        for i, cell in enumerate(cells):
            number = _number(cell)
            if number is None:
                raise AnalysisError(f"{self.source}: row {self.row[i]}: {name} must be a number, got {cell!r}")
            found[i] = number
        return found

    def texts(self, name: str, what: str) -> NDArray[np.str_]:
        """A column as text, (n,); empty cells are errors."""
        cells = self.column(name, what)
        for i, cell in enumerate(cells):
            if cell is None or cell == "":
                raise AnalysisError(f"{self.source}: row {self.row[i]}: {name} is empty")
        return np.array([str(cell) for cell in cells], dtype=np.str_)

    def where(self, chosen: NDArray[np.bool_]) -> RawTable:
        """The rows where `chosen`, (n,), is true."""
        kept = np.flatnonzero(chosen)
        columns = {name: [cells[int(i)] for i in kept] for name, cells in self.columns.items()}
        return RawTable(self.source, columns, self.row[kept])


def read_table(
    path: str | Path,
    *,
    needs: Iterable[str] = (),
    may_be_zero: Iterable[str] = (),
    columns: Mapping[str, str] | None = None,
    response: str = "loss",
    response_column: str | None = None,
    group: str | None = None,
    cluster: str | None = None,
    where: Sequence[str] = (),
) -> RunTable:
    """The runs of a CSV or parquet file, checked.

    needs: letters that must be there (N, D, U, C, P, L, w; one of N, D and C may follow from the two others); others
    are read where their usual names are there and every cell is good. may_be_zero: letters of which 0 is an amount.
    columns: letter -> column name, for `w` (or `weights`) a pattern such as train_*, or names web|code|math; also
    run, recipe, seed, trunk. response: `loss` or `metric`; response_column: where it stands. group, cluster: columns
    that tell recipes, and units drawn at random, apart. where: comparisons that rows must meet, such as domain=docs or
    C<1e22.

    Raises AnalysisError, with the row where it is about one.
    """
    raw = read_raw(path)
    named = {("w" if name in WEIGHTS else name): column for name, column in (columns or {}).items()}
    for name in named:
        if name not in (*NAMES, "w"):
            known = ", ".join([*AMOUNTS, "w", "loss", "recipe", "run", "seed", "trunk"])
            raise AnalysisError(f"--columns must name one of {known}, got {name!r}")
    for column, key in ((response_column, response), (group, "recipe"), (cluster, "trunk")):
        if column is not None:
            named[key] = column
    for condition in where:
        raw = raw.where(_met(raw, named, condition))
        if not len(raw.row):
            raise AnalysisError(f"{raw.source}: no row has {condition}")
    raw = _without_trajectories(raw, where)
    needs, may_be_zero = tuple(needs), tuple(may_be_zero)
    amounts = _amounts(raw, named, needs, may_be_zero)
    weights, domains = _weights(raw, named, required="w" in needs)
    place = _place(raw, named, response)
    if place is None:
        like = [name for name in raw.columns if response in name.lower()] or list(raw.columns)
        raise AnalysisError(
            f"{raw.source}: no column {response!r}; name it with --loss-column, e.g. one of {', '.join(like[:12])}"
        )
    y = raw.numbers(place, response)
    identity = _place(raw, named, "run")
    run = raw.texts(identity, "run") if identity else np.array([f"row {i}" for i in raw.row], dtype=np.str_)
    unit = _place(raw, named, "trunk")
    units = _units(raw, unit, run)
    seed = _place(raw, named, "seed")
    recipe, step = _place(raw, named, "recipe"), _place(raw, named, "step")
    empty = np.full(len(y), "", dtype=np.str_)
    table = RunTable(
        columns=amounts | ({"w": weights} if weights is not None else {}),
        y=y,
        recipe=raw.texts(recipe, "recipe") if recipe else empty,
        run=units,
        seed=np.array(["" if c is None else str(c) for c in raw.columns[seed]], dtype=np.str_) if seed else empty,
        row=raw.row,
        response=place,
        domains=domains,
        source=raw.source,
        identity=run if identity else units if unit and len(np.unique(units)) == len(units) else None,
        step=step if step and len(set(map(str, raw.columns[step]))) > 1 else "",
        unread=() if recipe else _like_recipes(raw, [p for p in (place, identity, unit, seed) if p], amounts),
    )
    _one_domain(raw, named)
    is_loss = response == "loss"
    check_rows(table, run if identity else None, rest=_rest(raw), is_loss=is_loss, may_be_zero=may_be_zero)
    _one_unit(raw)
    return table


def read_raw(path: str | Path) -> RawTable:
    """The cells of a CSV (of commas, semicolons or tabs) or parquet file, its column names without spaces around them.

    Raises AnalysisError for one that is neither or holds nothing.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = Path(path)
    if not path.is_file():
        raise AnalysisError(f"no such table: {str(path)!r}")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = parquet.read_table(path)
        else:
            with pa.input_stream(str(path)) as stream:
                header = stream.read(HEADER_BYTES).partition(b"\n")[0].decode(errors="replace")
            sign = max(SEPARATORS, key=header.count)
            point = "," if sign == ";" else "."  # as spreadsheets write where the comma is the decimal sign
            told = csv.ConvertOptions(decimal_point=point)
            table = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=sign), convert_options=told)
        names = [name.strip() for name in table.column_names]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise AnalysisError(f"cannot read {str(path)!r} as a table: {str(error).splitlines()[0]}") from error
    if twice := {name for name in names if names.count(name) > 1}:
        raise AnalysisError(f"{path.name}: the column {min(twice)!r} is there twice")
    if not table.num_rows:
        raise AnalysisError(f"{path.name}: the table has no rows")
    cells = (column.to_pylist() for column in table.columns)
    return RawTable(path.name, dict(zip(names, cells, strict=True)), np.arange(1, table.num_rows + 1))


def _amounts(
    raw: RawTable, named: Mapping[str, str], needs: Sequence[str], may_be_zero: Sequence[str]
) -> dict[str, Array]:
    """The columns that laws read as numbers; asked for, or there under their usual names without a bad cell."""
    found = {}
    there = {letter for letter in AMOUNTS if _place(raw, named, letter) is not None}
    for letter in AMOUNTS:
        place = _place(raw, named, letter)
        if place is None:
            if letter in needs and not (letter in "NDC" and there >= set("NDC") - {letter}):
                usual = ", ".join(NAMES[letter])
                raise AnalysisError(
                    f"{raw.source}: no column for {letter} (looked for {usual}); "
                    f"the table has: {', '.join(raw.columns)}; say which with --columns {letter}=NAME"
                )
            continue
        is_clean = letter != "L" and all(_is_good(cell, letter in may_be_zero) for cell in raw.columns[place])
        if letter in needs or letter in named or is_clean or (letter in "NDC" and set(needs) & set("NDC") - there):
            found[letter] = raw.numbers(place, letter)
    with np.errstate(all="ignore"):  # what is wrong with a row is said of the column that it has
        if "N" in needs and "N" not in found:
            found["N"] = found["C"] / (FLOPS_PER_TOKEN * found["D"])
        if "D" in needs and "D" not in found:
            found["D"] = found["C"] / (FLOPS_PER_TOKEN * found["N"])
        if "C" in needs and "C" not in found:
            found["C"] = FLOPS_PER_TOKEN * found["N"] * found["D"]
    return found


def _weights(raw: RawTable, named: Mapping[str, str], required: bool) -> tuple[Array | None, tuple[str, ...]]:
    """The share of each domain, (n, m), and the names of the domains."""
    pattern = named.get("w", WEIGHT_PREFIX + "*")
    if "|" in pattern:
        places = [name.strip() for name in pattern.split("|")]
        if len(set(places)) < len(places):
            raise AnalysisError(f"--columns: weights must name each column once, got {pattern!r}")
        for name in places:
            raw.column(name, "weight")
    else:
        places = [name for name in raw.columns if fnmatchcase(name, pattern)]
    if not places:
        if required or "w" in named:
            raise AnalysisError(
                f"{raw.source}: no columns {pattern!r} with the weights of domains; the table has: "
                f"{', '.join(raw.columns)}; say which with --columns 'weights=PATTERN*' or 'weights=NAME|NAME|...'"
            )
        return None, ()
    fixed = len(pattern.split("*")[0]) if pattern.endswith("*") and "|" not in pattern else 0
    if not (required or "w" in named) and not all(_is_good(c, True) for name in places for c in raw.columns[name]):
        return None, ()
    return np.stack([raw.numbers(name, "weight") for name in places], axis=1), tuple(name[fixed:] for name in places)


def _place(raw: RawTable, named: Mapping[str, str], key: str) -> str | None:
    """The column of a letter: as told, else under its usual names; None where it has none."""
    if key in named:
        raw.column(named[key], key)
        return named[key]
    spoken = {name.lower().replace(" ", "_"): name for name in reversed(list(raw.columns))}
    there = (name if name in raw.columns else spoken.get(name) for name in NAMES[key])
    return next((name for name in there if name is not None), None)


def _units(raw: RawTable, place: str | None, run: NDArray[np.str_]) -> NDArray[np.str_]:
    """What is drawn at random: the trunk, or the run where a row names no trunk."""
    if place is None:
        return run
    cells = raw.columns[place]
    return np.array([str(c) if c not in (None, "") else r for c, r in zip(cells, run, strict=True)], dtype=np.str_)


def _rest(raw: RawTable) -> list[str]:
    """All that is said of each row, such as its learning rate; but for columns that number or name the rows."""
    told = [cells for cells in raw.columns.values() if len(set(map(str, cells))) < len(cells)]
    return [str(row) for row in zip(*told, strict=True)] or [""] * len(raw.row)


def _without_trajectories(raw: RawTable, where: Sequence[str]) -> RawTable:
    """Our own points say what each is for: those in the middle of a schedule enter no fit, unless chosen by `where`."""
    if "role" not in raw.columns or any(condition.startswith("role") for condition in where):
        return raw
    return raw.where(np.array([cell != "trajectory" for cell in raw.columns["role"]]))


def _like_recipes(raw: RawTable, used: Sequence[str], amounts: Mapping[str, Array]) -> tuple[str, ...]:
    """Columns of a few texts, each in several rows, that are no names of sizes: one text for every N, or every D."""
    found = []
    for name, cells in raw.columns.items():
        texts = [str(cell) for cell in cells]
        count = len(set(texts))
        is_text = all(isinstance(cell, str) and _number(cell) is None for cell in cells)
        if name in used or not is_text or not 1 < count <= min(MAX_RECIPES, len(texts) // 2):
            continue
        sizes = [amounts[letter] for letter in ("N", "D") if letter in amounts]
        if not any(len(set(zip(size, texts, strict=True))) == len(set(size)) <= len(texts) / 2 for size in sizes):
            found.append(name)
    return tuple(found)


def _one_domain(raw: RawTable, named: Mapping[str, str]) -> None:
    """A table of the losses on several domains, or of several metrics of a task, is several tables."""
    place = _place(raw, named, "domain")
    names = sorted({str(cell) for cell in raw.columns[place]}) if place else []
    if len(names) > 1:
        raise AnalysisError(
            f"{raw.source}: holds the losses on {len(names)} domains ({', '.join(names)}): "
            f"choose one with --where {place}={names[0]}"
        )
    metrics = sorted({str(cell) for cell in raw.columns.get("metric_name", ()) if cell not in (None, "")})
    if len(metrics) > 1:
        raise AnalysisError(
            f"{raw.source}: holds {len(metrics)} metrics ({', '.join(metrics)}): "
            f"choose one with --where metric_name={metrics[0]}"
        )


def _one_unit(raw: RawTable) -> None:
    """A column that names units must name one."""
    for name, cells in raw.columns.items():
        if name.lower() in ("unit", "units") or name.lower().endswith(("_unit", "_units")):
            other = next((i for i, cell in enumerate(cells) if cell != cells[0]), None)
            if other is not None:
                raise AnalysisError(
                    f"{raw.source}: row {raw.row[other]}: {name} is {cells[other]!r}, but {cells[0]!r} in row "
                    f"{raw.row[0]}: mixed units; convert them, or choose one with --where {name}={cells[0]}"
                )


def _met(raw: RawTable, named: Mapping[str, str], condition: str) -> NDArray[np.bool_]:
    """The rows that meet column=value, or another comparison; as numbers where both sides are.

    A letter, as messages name columns, stands for its column where no column has that name.
    """
    sign = next((sign for sign in COMPARISONS if sign in condition), None)
    if sign is None:
        raise AnalysisError(f"--where must be column=value (or !=, <, >, <=, >=), got {condition!r}")
    name, _, wanted = condition.partition(sign)
    name = name.strip()
    if name not in raw.columns and name in NAMES:
        name = _place(raw, named, name) or name
    cells = raw.column(name, f"of --where {condition}")
    return np.array([_compare(cell, sign, wanted.strip()) for cell in cells])


def _compare(cell: Any, sign: str, wanted: str) -> bool:
    number, wanted_number = _number(cell), _number(wanted)
    a: Any = "" if number is not None and np.isnan(number) else str(cell)  # empty, or NaN
    b: Any = wanted
    if isinstance(cell, bool):
        a, b = a.lower(), wanted.lower()
    if number is not None and wanted_number is not None and np.isfinite([number, wanted_number]).all():
        a, b = number, wanted_number
    elif sign not in ("=", "!="):
        return False
    compared = {"=": a == b, "!=": a != b, "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}
    return bool(compared[sign])


def _number(cell: Any) -> float | None:
    """A cell as a number, also 12.5%, 1.3B and 1,300,000; nan where it is empty, None where it is something else."""
    if cell is None or cell == "":
        return float("nan")
    if isinstance(cell, bool):
        return None
    try:
        if not isinstance(cell, str):
            return float(cell)
        if cell.endswith("%"):
            return float(cell[:-1]) / 100
        if amount := AMOUNT.fullmatch(cell):
            return float(amount[1]) * POWERS[amount[2].upper()]
        return float(cell.replace(",", "") if GROUPED.fullmatch(cell) else cell)
    except (TypeError, ValueError):
        return None


def _is_good(cell: Any, may_be_zero: bool) -> bool:
    number = _number(cell)
    return number is not None and np.isfinite(number) and (number > 0 or (may_be_zero and number == 0))
