"""From the command line to checked specs, through the real Hydra."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from composing import OWN, compose, one, sweep
from pydantic import TypeAdapter

from analysis.contrasts.fit import MIN_SIZES
from scaling.__main__ import shipped
from scaling.child import CompressSpec, FinetuneSpec
from scaling.config_children import Finetune
from scaling.data.filters.language import CODES
from scaling.identity import directory_name, fingerprint, trunk_identity
from scaling.recipe import Degrader, Filter
from scaling.spec import RunSpec

pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_order_of_overrides_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["budget.num_tokens=2_000_000", "seeds.init=3", "objective=mlm"]
    assert directory_name(one(monkeypatch, *overrides)) == directory_name(one(monkeypatch, *reversed(overrides)))


def test_the_order_of_weights_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one_way = one(monkeypatch, "mixture.weights={a:0.3,b:0.7}")
    other_way = one(monkeypatch, "mixture.weights={b:0.7,a:0.3}")
    assert fingerprint(one_way) == fingerprint(other_way)


@pytest.mark.parametrize(
    "placement",
    ["placement.ranks=2", "zero=stage2", "placement.threads=1", "study.name=other", "name=x", "tracking=online"],
)
def test_where_a_run_computes_is_not_its_identity(monkeypatch: pytest.MonkeyPatch, placement: str) -> None:
    assert fingerprint(one(monkeypatch, placement)) == fingerprint(one(monkeypatch))


@pytest.mark.parametrize(
    "change",
    [
        "budget.num_tokens=999_936",
        "budget.unique_tokens=1000",
        "optimizer.learning_rate=1e-3",
        "batch.num_sequences=8",
        "seeds.order=1",
        "dedup=none",
        "decontamination=none",
        "order.kind=length",
        "degraders=junk",
        "quality=heuristic",
        "batch.isolate_documents=true",
        "filters=gopher",
        "model=mini",
        "schedule=cosine",
        "evaluation.max_tokens=1000",
        "tokenizer.vocab_size=2048",
    ],
)
def test_what_can_change_the_numbers_is_its_identity(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    assert fingerprint(one(monkeypatch, change)) != fingerprint(one(monkeypatch))


def test_moved_files_are_the_same_run_and_changed_files_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first = one(monkeypatch)
    Path("elsewhere").mkdir()
    Path("a.jsonl").rename("elsewhere/a.jsonl")
    moved = one(monkeypatch, "corpus.domains.a.path=elsewhere/a.jsonl")
    assert fingerprint(moved) == fingerprint(first)
    Path("a.jsonl").write_text('{"text": "other words"}\n', encoding="utf-8")
    assert fingerprint(one(monkeypatch)) != fingerprint(first)


def test_runs_that_differ_in_budget_alone_share_a_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = one(monkeypatch), one(monkeypatch, "budget.num_tokens=2_000_000")
    assert trunk_identity(small) == trunk_identity(large)
    assert trunk_identity(one(monkeypatch, "seeds.init=1")) != trunk_identity(small)
    assert trunk_identity(one(monkeypatch, "schedule=cosine")) is None


def test_a_weight_of_zero_is_no_weight_and_tokenizer_domains_have_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = one(monkeypatch, "mixture.weights={a:1.0,b:0.0}", "tokenizer.domains=[b,a]")
    none = one(monkeypatch, "mixture.weights={a:1.0}", "tokenizer.domains=[a,b]")
    assert fingerprint(zero) == fingerprint(none)


@pytest.mark.parametrize(("objective", "model"), [("clm", "llama"), ("mlm", "bert")])
def test_an_objective_brings_its_usual_model(monkeypatch: pytest.MonkeyPatch, objective: str, model: str) -> None:
    assert one(monkeypatch, f"objective={objective}").model.kind == model


def test_one_seed_sets_all_seeds_that_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(monkeypatch, "seed=3").seeds.model_dump() == {"init": 3, "order": 3, "subset": 3}
    assert one(monkeypatch, "seed=3", "seeds.order=1").seeds.model_dump() == {"init": 3, "order": 1, "subset": 3}


def test_weights_that_are_not_given_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(monkeypatch, "mixture.weights=null").recipe.mixture.weights == {"a": 0.5, "b": 0.5}


def test_weights_given_inline_replace_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = sweep(monkeypatch, "mixture.weights={a:1.0},{a:0.2,b:0.8}")
    assert [spec.recipe.mixture.weights for spec in specs] == [{"a": 1.0}, {"a": 0.2, "b": 0.8}]


def test_the_languages_that_can_be_asked_for_are_those_that_lingua_knows() -> None:
    lingua = pytest.importorskip("lingua")
    assert CODES.split() == sorted(language.iso_code_639_1.name.lower() for language in lingua.Language.all())


README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


VARIED = README.split("### What can be varied")[1].split("\n## ")[0]


EXAMPLES = [
    example
    for row in re.findall(r"^\| [^|]+ \| (.+) \|$", VARIED, flags=re.MULTILINE)
    for example in re.findall(r"`([^`]*=[^`]*)`", row)
]


"""What the README's table says can follow `python -m scaling`."""


def test_the_readme_has_examples_of_every_axis() -> None:
    axes = {"mixture", "filters", "quality", "dedup", "degraders", "decontamination", "order", "budget", "batch"}
    assert {re.split(r"[.=]", word)[0] for example in EXAMPLES for word in shlex.split(example)} >= axes


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_readme_composes_as_it_stands(monkeypatch: pytest.MonkeyPatch, example: str) -> None:
    assert not re.search(r"[][{}()*?$]", re.sub(r"'[^']*'", "", example)), "a shell would read this without quotes"
    points = compose(monkeypatch, *shlex.split(example))
    assert (len(points) > 1) == example.startswith("-m ")


@pytest.mark.parametrize("command", re.findall(r"^python -m scaling (.+?) +#", VARIED, flags=re.MULTILINE))
def test_a_command_of_the_readme_composes(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    fewer = ["seed=0", "budget.num_tokens=500_000"] if "+sweeps=" in command else []
    assert len(compose(monkeypatch, *shlex.split(command), *fewer)) > 1


def test_the_help_names_every_study_that_is_shipped() -> None:
    footer = yaml.safe_load((shipped("conf") / "run.yaml").read_text(encoding="utf-8"))["hydra"]["help"]["footer"]
    assert {path.stem for path in shipped("sweeps").glob("*.yaml")} <= set(re.findall(r"\w+", footer))


def test_an_own_sweep_is_found_in_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(
        "# @package _global_\n"
        "# Does b help a?\n"
        "defaults: [{override /corpus: own}]\n"
        "study: {name: mine, question: 'Does b help a?', target: a}\n"
        "corpus: {domains: {a: {kind: local, path: a.jsonl}, b: {kind: local, path: b.jsonl}}}\n"
        "hydra:\n"
        "  mode: MULTIRUN\n"
        "  sweeper:\n"
        "    params: {mixture.weights: '{a:1.0},{a:0.5,b:0.5}', budget.num_tokens: '50_000,100_000'}\n",
        encoding="utf-8",
    )
    points = compose(monkeypatch, "+sweeps=mine")
    assert len(points) == 4
    assert points[0].runs == Path("runs/mine")


def test_a_folder_of_runs_does_not_hide_the_key_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs").mkdir()
    Path("sweeps").mkdir()
    (point,) = compose(monkeypatch, *OWN, "runs=elsewhere")
    assert point.runs == Path("elsewhere")


@pytest.mark.parametrize("study", sorted(path.stem for path in shipped("sweeps").glob("*.yaml")))
def test_a_shipped_sweep_states_its_question_and_composes(monkeypatch: pytest.MonkeyPatch, study: str) -> None:
    text = (shipped("sweeps") / f"{study}.yaml").read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith("# ")
    params = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    sizes = params["budget.num_tokens"].split(",") if "budget.num_tokens" in params else ["2_000_000"]
    ends = ",".join(dict.fromkeys([sizes[0], sizes[-1]]))
    points = compose(monkeypatch, f"+sweeps={study}", "seed=0", f"budget.num_tokens={ends}")
    if any(isinstance(point.spec, FinetuneSpec | CompressSpec) for point in points):
        points = [point for point in points if getattr(point.spec, "start", "pretrained") == "pretrained"]
    every = {fingerprint(point.spec) for point in points}  # all of the documents is one recipe, whatever scores them
    assert len(every) >= len(points) - 2 > 1 if "keep_frac" in text else len(every) == len(points) > 1
    assert {point.spec.study.name for point in points} == {study}
    if study != "lr_check" and isinstance(points[0].spec, RunSpec):  # the others ask at single sizes, or of tasks
        assert len(sizes) - points[0].spec.study.hold_out >= MIN_SIZES, "too few sizes to fit a curve"


NAME_MORE = {"blocks", "classifier", "perplexity", "stages", "transformer", "checkpoint", "infinity", "plusplus"}


"""Choices that name domains, weights, references, a model, a drive or a precision, which no default can."""


MORE = {"compress": {"none"}, "objective": {"none"}}


"""Of some groups: what does not stand alone there."""


WITH = {
    "model": ("model.kind=llama",),
    "compress": ("task=library", "seeds.finetune=[0]"),
    "method": ("task=library", "seeds.finetune=[0]"),
}


"""What the files of a group are composed with: not every model is of a family that the default objective trains."""


@pytest.mark.parametrize(
    "group",
    sorted(path.name for path in shipped("conf").iterdir() if path.is_dir() and path.name not in ("corpus", "task")),
)
def test_every_file_of_a_group_composes(monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    choices = sorted(
        path.stem for path in (shipped("conf") / group).glob("*.yaml") if path.stem not in MORE.get(group, NAME_MORE)
    )
    points = compose(monkeypatch, "-m", f"{group}={','.join(choices)}", *WITH.get(group, ()))
    assert len(points) == len(choices)


def test_choices_that_name_more_compose_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(monkeypatch, "order=blocks", "order.domains=[b,a]").recipe.order.kind == "blocks"
    quality = one(monkeypatch, "quality=perplexity", "quality.scorer.references=[a]").recipe.quality
    assert quality is not None
    assert quality.scorer.learns_from == ("a",)
    quality = one(
        monkeypatch, "quality=classifier", "quality.scorer.good=[a]", "quality.scorer.rest=[b]"
    ).recipe.quality
    assert quality is not None
    assert set(quality.scorer.learns_from) == {"a", "b"}
    assert one(monkeypatch, "model=bert_110m", "objective=mlm").num_params == 85_649_152
    drive = one(monkeypatch, "zero=infinity", "zero.offload_optimizer.nvme_path=/mnt").zero
    assert drive.offload_param.nvme_path == "/mnt"
    assert one(monkeypatch, "zero=plusplus", "precision=bf16", "placement.ranks=2").zero.zero_quantized_gradients


def test_every_key_of_a_spec_is_in_the_configuration() -> None:
    run = yaml.safe_load((shipped("conf") / "run.yaml").read_text(encoding="utf-8"))
    for part in ("study", "budget", "batch", "optimizer", "seeds", "evaluation", "placement"):
        fields = RunSpec.model_fields[part].annotation.model_fields  # type: ignore[union-attr]
        assert set(run[part]) - {"finetune"} == set(fields), part
    assert set(run["finetune"]) == set(Finetune.model_fields)
    for part in ("batch", "schedule", "optimizer", "measuring"):
        assert set(run["finetune"][part]) == set(Finetune.model_fields[part].annotation.model_fields), part  # type: ignore[union-attr]


PUBLISHED = {"c4", "fineweb", "gopher"}


def test_the_steps_in_conf_spell_out_every_threshold_and_the_published_ones_are_the_defaults() -> None:
    for kind in ("degraders", "filters"):
        for path in sorted((shipped("conf") / kind).glob("*.yaml")):
            for name, tree in yaml.safe_load(path.read_text(encoding="utf-8"))[kind].items():
                step = TypeAdapter({"degraders": Degrader, "filters": Filter}[kind]).validate_python(tree)
                fields = set(type(step).model_fields) - {"domains"}
                assert set(tree) >= fields, f"{path.stem}: {name} spells out every threshold, so that each can be swept"
                if path.stem in PUBLISHED:
                    assert step == type(step)(), f"{path.stem}: {name} has the published thresholds"
