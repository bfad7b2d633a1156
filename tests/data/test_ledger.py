"""The ledger is a count of what the stream gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import BASE, Made, T, make_stream, mixtures, stages

from scaling.budget import Epochs, Proxy, Repetition
from scaling.data.ledger import ledger


@dataclass(frozen=True)
class Documents:
    documents: int = 3


@dataclass(frozen=True)
class Kept:
    counts: Documents = Documents()
    dropped: dict[str, int] = field(default_factory=lambda: {"duplicate": 2})


@given(
    mixtures(),
    st.integers(1, 200),
    st.none() | st.just(Epochs(domains={"a": 3, "c": 0.5})) | st.just(Proxy(num_tokens=4000)),
    st.data(),
)
@settings(max_examples=80, deadline=None)
def test_the_ledger_equals_a_replay(made: Made, num: int, repetition: Repetition | None, data: st.DataObject) -> None:
    unique_tokens = None
    if len(made[0]) == 1 and not isinstance(repetition, Proxy):
        unique_tokens = data.draw(st.none() | st.integers(1, 200))
    stream = make_stream(*made, num, unique_tokens, repetition)
    prefix = data.draw(st.integers(1, num))
    kept = {name: Kept() for name in stream.domains}
    flat = ledger(stream, prefix, kept, ("aside", *stream.domains)).flat()
    seen = [int(stream.sequence(i)[0]) for i in range(prefix)]
    assert flat["ledger/tokens"] == prefix * T
    assert flat["ledger/sequences"] == prefix
    assert flat["ledger/unique_tokens"] == len(set(seen)) * T
    for base, name in enumerate(sorted(made[1])):
        mine = [number % BASE for number in seen if number // BASE == base]
        at = f"ledger/{name}"
        assert flat[f"{at}/tokens"] == len(mine) * T
        assert flat[f"{at}/unique_tokens"] == len(set(mine)) * T
        assert flat[f"{at}/realised_weight"] == len(mine) / prefix
        assert flat[f"{at}/epochs"] == len(mine) / stream.offered[name]
        assert flat[f"{at}/planted_tokens"] == sum(T for number in mine if number % 3 == 0)
        assert flat[f"{at}/weight"] == pytest.approx(intended(made, name, prefix))
        assert flat[f"{at}/dropped/duplicate"] == 2
        assert flat[f"{at}/documents"] == 3
    assert {value for key, value in flat.items() if key.startswith("ledger/aside/")} == {0}


def intended(made: Made, name: str, num: int) -> float:
    """The mean over sequences of the weight that the stage of each gives to a domain."""
    ends = [stage.until_tokens or num * T for stage in made[0]]
    of_sequence = [next(s for s, end in zip(made[0], ends, strict=True) if (i + 1) * T <= end) for i in range(num)]
    return float(np.mean([stage.weights.get(name, 0.0) for stage in of_sequence]))


def test_the_intended_weight_of_a_curriculum_is_that_of_the_whole_budget() -> None:
    mixture = stages((25, {"a": 0.8, "b": 0.2}), (None, {"b": 1.0}))
    stream = make_stream(mixture, {"a": 99, "b": 99}, 100)
    domains = ledger(stream, 100, {"a": Kept(), "b": Kept()}).domains
    assert {name: seen.weight for name, seen in domains.items()} == pytest.approx({"a": 0.2, "b": 0.8})
    assert {name: seen.tokens for name, seen in domains.items()} == {"a": 20 * T, "b": 80 * T}
