"""A table of runs: what every fit reads, whether our logs or a published file it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Columns

NOT_NATS = re.compile("bpb|bits|ppl|perplexity|err", re.IGNORECASE)
"""In the name of a column, units that stand there themselves."""


@dataclass(frozen=True, eq=False)  # told apart by identity: its arrays have no one truth value
class RunTable:
    """One measurement per row, checked (analysis/runs/read_table.py): finite, above 0 where a logarithm is taken.

    columns: by letter, (n,) each, `w` (n, m). y: the response, (n,), named `response`. domains: the m names behind `w`.
    recipe, run, seed: what groups rows, (n,) of text. run: the unit that is drawn at random (rows of one trunk share
    it). identity: the run itself, (n,), where the source names it. row: where each stood in its source, 1 for the
    first. source: for messages. unread: columns of few texts that nothing reads, and that may tell recipes apart.
    step: the column, if there is one, that says at which step of a training a row was measured.
    """

    columns: Columns
    y: Array
    recipe: NDArray[np.str_]
    run: NDArray[np.str_]
    seed: NDArray[np.str_]
    row: NDArray[np.int64]
    response: str = "loss"
    domains: tuple[str, ...] = ()
    source: str = ""
    identity: NDArray[np.str_] | None = None
    unread: tuple[str, ...] = ()
    step: str = ""

    def __len__(self) -> int:
        return len(self.y)

    def where(self, chosen: NDArray[np.bool_]) -> RunTable:
        """The rows where `chosen`, (n,), is true."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        rest = {name: getattr(self, name)[chosen] for name in ("y", "recipe", "run", "seed", "row")}
        identity = None if self.identity is None else self.identity[chosen]
        return replace(self, columns=columns, identity=identity, **rest)

    @property
    def unit(self) -> str:
        """The unit of the response where its name says one, such as bits_per_byte; empty for nats per token."""
        return self.response if NOT_NATS.search(self.response) else ""

    @property
    def num_runs(self) -> int:
        """Runs, each of which may have several rows."""
        return len(np.unique(self.run if self.identity is None else self.identity))

    @property
    def num_clusters(self) -> int:
        """Units drawn at random: runs, or trunks of several."""
        return len(np.unique(self.run))

    def by_recipe(self) -> Mapping[str, RunTable]:
        """A table per recipe, by name."""
        return {str(name): self.where(self.recipe == name) for name in np.unique(self.recipe)}

    def with_recipe_numbers(self) -> RunTable:
        """The same with a column `recipe`, (n,): the place of each row's recipe among the names, in order."""
        return replace(
            self, columns={**self.columns, "recipe": np.unique(self.recipe, return_inverse=True)[1].astype(float)}
        )
