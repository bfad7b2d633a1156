"""How many tokens a run trains on, and how many of them are unique."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scaling.part import Name, Part


class Epochs(Part):
    """Domains that offer just so many unique tokens that they are read so often: {code: 4}."""

    kind: Literal["epochs"] = "epochs"
    domains: dict[Name, Annotated[float, Field(gt=0)]] = Field(min_length=1)


class Proxy(Part):
    """Each domain is repeated as often as a run over `num_tokens` would repeat it.

    available_tokens: what each domain will hold for that run; a domain left out: what it holds here.
    """

    kind: Literal["proxy"] = "proxy"
    num_tokens: int = Field(ge=1)
    available_tokens: dict[Name, Annotated[int, Field(ge=1)]] = Field(default={})


Repetition = Annotated[Epochs | Proxy, Field(discriminator="kind")]


class Budget(Part):
    """D and U, the two sizes of a run.

    num_tokens: D, the tokens trained on; rounded down to whole batches, and logged as trained.
    unique_tokens: U, the unique tokens offered, shared by the mixture's weights; None: all there are.
    repetition: how often single domains are read, whatever U is.
    max_epochs: how often any other domain may be read; 1 is repetition off, None sets no limit.
    """

    num_tokens: int = Field(ge=1)
    unique_tokens: int | None = Field(default=None, ge=1)
    repetition: Repetition | None = None
    max_epochs: float | None = Field(default=1.0, ge=1)


def repeated_domains(budget: Budget) -> frozenset[str]:
    """The domains that a budget's repetition names."""
    if budget.repetition is None:
        return frozenset()
    return frozenset(
        budget.repetition.domains if budget.repetition.kind == "epochs" else budget.repetition.available_tokens
    )
