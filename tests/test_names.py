"""What runs are called: what differs between the runs of a sweep is in their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from lab import SpecMaker, tuned_on
from pydantic import TypeAdapter

from scaling.child import AnySpec, CompressSpec, FinetuneSpec
from scaling.compression import Magnitude
from scaling.identity import fingerprint
from scaling.names import default_name, told_apart
from scaling.part import Name
from scaling.spec import RunSpec

LONG = {
    "recipe.order": {"kind": "length"},
    "recipe.filters": [{"kind": kind} for kind in ("gopher_quality", "gopher_repetition", "c4")],
}


def usual(spec: AnySpec) -> Any:
    return spec.model_copy(update={"name": default_name(spec)})


def names(spec: SpecMaker, *changes: Mapping[str, Any]) -> list[str]:
    """Of the runs of a sweep, as safe as names are to be."""
    runs = told_apart([usual(spec(each)) for each in changes])
    return [TypeAdapter(Name).validate_python(run.name) for run in runs]


def test_runs_of_several_learning_rates_say_theirs(spec: SpecMaker) -> None:
    found = names(spec, *({"optimizer.learning_rate": rate, "seeds.init": 1} for rate in (2e-3, 1e-5)))
    assert found == ["alpha75-beta25-learning_rate0.002-8.19k-s1.0.0", "alpha75-beta25-learning_rate1e-05-8.19k-s1.0.0"]


def test_what_names_say_already_is_not_said_again(spec: SpecMaker) -> None:
    axes = {"budget.num_tokens": 16_384, "seeds.order": 1, "recipe.order": {"kind": "length"}, "objective.kind": "mlm"}
    runs = [usual(spec({key: value})) for key, value in axes.items()]
    assert told_apart(runs) == runs
    assert told_apart([runs[0], runs[0]]) == [runs[0], runs[0]]


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("model.num_layers", [1, 3], ["N11.1k", "N33.2k"]),
        ("batch.isolate_documents", [True, False], ["isolate_documents", "no_isolate_documents"]),
        ("tokenizer.vocab_size", [320, 32_000], ["vocab_size320", "vocab_size32k"]),
        (
            "schedule",
            [{"kind": "wsd", "warmup_tokens": 0, "decay_frac": 0.2}, {"kind": "cosine", "warmup_tokens": 0}],
            ["wsd", "cosine"],
        ),
        (
            "recipe.filters",
            [[{"kind": "length", "min_words": n}] for n in (1, 5)],
            ["length-min_words1", "length-min_words5"],
        ),
    ],
)
def test_each_axis_has_its_word(spec: SpecMaker, key: str, values: list[Any], words: list[str]) -> None:
    found = names(spec, *({key: value} for value in values))
    assert found == [f"alpha75-beta25-{word}-8.19k-s0" for word in words]


def test_filters_that_are_cut_off_are_told_by_their_kinds(spec: SpecMaker) -> None:
    gopher, c4 = LONG["recipe.filters"][:2], {"kind": "c4"}
    found = names(spec, *({"recipe.filters": steps} for steps in (gopher, [*gopher, c4])))
    assert found == [f"alpha75-beta25-gopher_quality{word}-8.19k-s0" for word in ("", "-c4")]


def test_what_ends_in_a_dot_is_no_word_of_a_name(spec: SpecMaker) -> None:
    bad = [["x", "0."], ["y", "1."]]
    found = names(spec, *({"recipe.filters": [{"kind": "c4", "bad_words": each}]} for each in bad))
    assert found == ["alpha75-beta25-c4-bad_wordsx-8.19k-s0", "alpha75-beta25-c4-bad_wordsy-8.19k-s0"]


def test_a_long_name_makes_room_for_what_differs_and_keeps_size_and_seed(spec: SpecMaker) -> None:
    for name, rate in zip(
        names(spec, *({**LONG, "optimizer.learning_rate": rate} for rate in (1e-3, 2e-3))), (1, 2), strict=True
    ):
        assert name.startswith("alpha75-beta25-")
        assert name.endswith(f"-learning_rate0.00{rate}-8.19k-s0")


def test_seeds_of_many_digits_leave_a_name_short_enough(spec: SpecMaker) -> None:
    most = 2**31 - 1
    seeds = {"seeds.init": most, "seeds.order": 1, "seeds.subset": most}
    for name, rate in zip(
        names(spec, *({**LONG, **seeds, "optimizer.learning_rate": rate} for rate in (1e-3, 2e-3))), (1, 2), strict=True
    ):
        assert name.endswith(f"learning_rate0.00{rate}-8.19k-s{most}.1.{most}")
    child = default_name(tuned_on(usual(spec(seeds)), seed=most))
    assert TypeAdapter(Name).validate_python(child).endswith(f"-s{most}.1.{most}-f{most}")


@pytest.mark.parametrize("name", [f"{'many-' * count}words-of-a-task" for count in range(6)])
def test_a_name_that_is_too_long_is_cut_between_words(spec: SpecMaker, name: str) -> None:
    parent = usual(spec({"recipe.order": {"kind": "length"}, "objective.kind": "mlm", "optimizer.learning_rate": 1e-5}))
    parent = parent.model_copy(update={"name": default_name(parent, ["learning_rate1e-05"])})
    task = {"kind": "classification", "name": name, "rows": {"kind": "local", "train": "rows.jsonl"}}
    tuned = usual(tuned_on(parent, task=task, method={"loss": {"kind": "focal"}, "sampling": "over"}))
    pruned = usual(CompressSpec(name="x", study=parent.study, parent=tuned, compress=Magnitude(frac=0.25)))
    said = ("alpha75-beta25-length-mlm-learning_rate1e-05-8.19k-s0", "focal-over-f0", "magnitude25", name)
    whole = {word for words in said for word in words.split("-")}
    for run in (parent, tuned, pruned):
        assert len(run.name) <= 64
        assert set(run.name.split("-")) <= whole, run.name
        assert "-05-" not in run.name or "learning_rate1e-05" in run.name
    assert tuned.name.endswith("-8.19k-s0-f0")
    assert pruned.name.startswith("magnitude25-")
    assert pruned.name.endswith("-s0-f0")


def test_one_word_that_is_too_long_alone_is_cut_all_the_same(spec: SpecMaker) -> None:
    task = {"kind": "classification", "name": "x" * 60, "rows": {"kind": "local", "train": "rows.jsonl"}}
    name = default_name(tuned_on(usual(spec()), task=task))
    assert name == f"{'x' * 20}-alpha75-beta25-8.19k-s0-f0"


def test_a_name_that_the_user_gave_stays(spec: SpecMaker) -> None:
    mine: list[AnySpec] = [spec({"name": "mine", "optimizer.learning_rate": rate}) for rate in (1e-3, 2e-3)]
    assert told_apart(mine) == mine


def test_children_and_what_they_go_on_from_are_told_apart_alike(spec: SpecMaker) -> None:
    """A run is called the same wherever it stands: asked for, or as the parent of another."""
    parents: list[RunSpec] = [usual(spec({"optimizer.learning_rate": rate})) for rate in (1e-3, 2e-3)]
    tree = {
        "task": {"kind": "classification", "name": "sst2", "rows": {"kind": "local", "train": "rows.jsonl"}},
        "content": {},
    }
    tuned = [
        usual(
            FinetuneSpec.model_validate(
                {"name": "x", "study": parent.study, "parent": parent, "optimizer": {"learning_rate": rate}, **tree}
            )
        )
        for parent in parents
        for rate in (1e-4, 3e-4)
    ]
    pruned = [
        usual(
            CompressSpec.model_validate(
                {"name": "x", "study": run.study, "parent": run, "compress": {"kind": "int8_weights"}}
            )
        )
        for run in tuned
    ]
    found = told_apart([*parents, *tuned, *pruned])
    assert len({run.name for run in found}) == 2 + 4 + 4
    assert [fingerprint(run) for run in found] == [fingerprint(run) for run in [*parents, *tuned, *pruned]]
    assert [run.parent.parent.name for run in found[6:]] == [run.parent.name for run in found[2:6]]
    assert [run.parent for run in found[6:]] == found[2:6]
    # where there is no room for all, the end of the parent's name says its size and seed
    assert found[2].name.startswith("sst2-learning_rate0.0001-")
    assert found[2].name.endswith("-learning_rate0.001-8.19k-s0-f0")
    assert found[6].name.startswith("int8_weights-")
    assert found[6].name.endswith("-8.19k-s0-f0")
