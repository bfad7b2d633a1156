"""From the command line to checked specs, through the real Hydra."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from pydantic import TypeAdapter

from analysis.contrasts.fit import MIN_SIZES
from scaling import __main__ as command_line
from scaling.__main__ import compose_points, shipped
from scaling.child import CompressSpec, FinetuneSpec
from scaling.config import Point
from scaling.config_children import Finetune
from scaling.config_errors import WANTED, ConfigError, no_such_key
from scaling.data.filters.language import CODES
from scaling.identity import directory_name, fingerprint, trunk_identity
from scaling.recipe import Degrader, Filter
from scaling.spec import RunSpec

OWN = ["corpus=own", *(f"+corpus.domains.{d}={{kind:local,path:{d}.jsonl}}" for d in "ab")]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    for domain in "ab":
        (tmp_path / f"{domain}.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")


def compose(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Point]:
    monkeypatch.setattr(sys, "argv", ["scaling"])
    return compose_points(list(arguments))


def one(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> RunSpec:
    (point,) = compose(monkeypatch, *OWN, *overrides)
    return point.spec


def sweep(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[RunSpec]:
    return [point.spec for point in compose(monkeypatch, "-m", *OWN, *overrides)]


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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mixture.weights={a:0.9,b:0.4}", "mixture.weights must sum to 1, got 1.3"),
        ("mixture.weights={a:0.5,c:0.5}", "mixture.weights names ['c'], but corpus.domains has ['a', 'b']"),
        ("budget.num_tokens=abc", "budget.num_tokens: Input should be a valid integer"),
        ("budget.num_tokens=0", "budget.num_tokens: Input should be greater than or equal to 1, got 0"),
        ("budget.num_tokens=100", "budget.num_tokens must hold one batch of 512 tokens, got 100"),
        (
            "+budget.epochs=3",
            "budget.epochs: unknown key, got 3; there are num_tokens, unique_tokens, repetition, max_e",
        ),
        ("+mixture._target_=os.system", "mixture._target_: a config cannot name Python code to run, got 'os.system'"),
        ("study.target=zzz", "study.target must be one of the domains ['a', 'b'], got 'zzz'"),
        ("study.name=../../etc", "study.name: String should match pattern"),
        ("name=a/b", "name: String should match pattern"),
        ("model.num_heads=5", "model.hidden_size must be a multiple of 2 x num_heads, got 64 and 5"),
        (
            "placement.ranks=3",
            "batch.num_sequences must be a multiple of placement.ranks x micro_batch, got 4 and 3 x 1",
        ),
        ("zero.stage=4", "zero.stage: Input should be 0, 1, 2 or 3, got 4"),
        (
            "+zero.offload_optimizer.device=cpu",
            "zero.offload_optimizer.device=cpu needs zero.stage 1, 2 or 3, got 0",
        ),
        ("precision=fp16", "precision=fp16 needs zero.stage 1, 2 or 3"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: Input should be greater than 0, got -1"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate: Input should be a finite number, got nan"),
        ("action=fly", "action: Input should be 'run', 'plan' or 'prepare', got 'fly'"),
        ("runs=[1]", "runs: Input should be a valid string, got [1]"),
        ("~mixture", "mixture: wanted a section with keys, got None"),
        ("~budget", "budget: wanted a section with keys, got None"),
        ("corpus.domains.a.path=nowhere", "corpus.domains.a: path='nowhere' does not exist"),
        ("corpus.domains.a.kind=ftp", "corpus.domains.a.kind: wanted one of 'embedded', 'local', 'hub', got 'ftp'"),
        ("dedup.kind=magic", "dedup.kind: wanted one of 'none', 'exact', 'near', got 'magic'"),
    ],
)
def test_bad_input_names_field_value_and_what_was_wanted(
    monkeypatch: pytest.MonkeyPatch, override: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        one(monkeypatch, override)
    assert any(expected in line for line in caught.value.lines), caught.value.lines
    assert all("\n" not in line for line in caught.value.lines)


STAGES = "mixture.stages=[{weights:{a:1.0},until_tokens:%s},{weights:{b:%s}}]"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["prepare.shards=0"], "prepare.shards: Input should be greater than or equal to 1, got 0"),
        (["prepare.shards=2", "action=prepare"], "prepare.shards=2 needs launch=slurm or launch=ray, or prepare.shard"),
        (["prepare.shards=2", "prepare.shard=2"], "prepare.shard must be below prepare.shards, got 2 of 2"),
        (
            ["launch=slurm", "launch.timeout_min=0"],
            "launch.timeout_min: Input should be greater than or equal to 1, got 0",
        ),
        (["launch=joblib", "launch.n_jobs=0"], "launch.n_jobs: wanted a number of jobs, or -1 for all cores, got 0"),
        (["launch=slurm", "launch.cluster=pbs"], "launch.cluster: Input should be 'slurm' or 'local', got 'pbs'"),
        (
            ["placement.nodes=2", "placement.ranks=3"],
            "placement.ranks must be a multiple of placement.nodes, got 3 and 2",
        ),
        (["mixture.weights={a:8,b:2}"], "mixture.weights must sum to 1, got 10: {'a': 8.0, 'b': 2.0}"),
        (["seed=-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (
            ["+corpus.domains.a.foo=1"],
            "corpus.domains.a.foo: unknown key, got 1; there are kind, path, unit, text, id,",
        ),
        (
            ["+corpus.domains.text={kind:hub,repo:a/b,foo:1}"],
            "corpus.domains.text.foo: unknown key, got 1; there are kind, repo, config, split,",
        ),
        (["+launch.foo=1"], "launch.foo: unknown key, got 1; there are kind"),
        (
            ["filters=length", "+filters.length.foo=1"],
            "filters.length.foo: unknown key, got 1; there are domains, kind",
        ),
        (["sweeps=mine"], "sweeps=mine: did you mean +sweeps=mine?"),
        (["+sweep=mine"], "+sweep=mine: did you mean +sweeps=mine?"),
        (["mixture.weights=3"], "mixture.weights: Input should be a valid dictionary, got 3"),
        (
            ["+mixture.kind=tune"],
            "mixture.kind: wanted one of 'weights', 'temperature', 'swarm', 'grid', 'stages', got",
        ),
        (["+mixture.kind=temperature", "mixture.weights={a:1.0}"], "mixture.weights: unknown key, got {'a': 1.0}"),
        (["mixture=stages"], "mixture.stages: missing: give weights and ends, such as [{weights:"),
        (["mixture=stages", STAGES % (512, 0.5)], "mixture.stages.1.weights must sum to 1, got 0.5: {'b': 0.5}"),
        (["mixture=stages", STAGES % (512, "x")], "mixture.stages.1.weights.b: Input should be a valid number"),
        (["mixture=stages", STAGES % ("null", 1)], "mixture.stages must have increasing until_tokens, and none on the"),
        (["mixture=grid", "mixture.index=5"], "mixture.index must be below 5, the points of this grid over 2 domains"),
        (["mixture=grid", "+mixture.lower={a:0.6,b:0.6}"], "mixture: no weights meet the bounds, whose sums are 1.5"),
        (
            ["mixture=swarm", "+mixture.upper={a:0.2,b:0.2}"],
            "mixture: no weights meet the bounds, whose sums are 0 and",
        ),
        (["mixture=swarm", "+mixture.upper={c:0.2}"], "mixture.upper names ['c'], but mixture.domains has ['a', 'b']"),
        (["order=blocks"], "order.domains: missing: name every domain that is trained on, in their order, such as ["),
        (
            ["order=blocks", "order.domains=[a]"],
            "order.domains must name every domain that is trained on, but lacks ['b",
        ),
        (["order=blocks", "order.domains=[a,b,a]"], "order.domains must name each domain once, got ['a', 'b', 'a']"),
        (["quality=perplexity"], "quality.scorer.references: missing: name texts of corpus.domains or"),
        (["quality=heuristic", "quality.domains=[nope]"], "quality.domains names ['nope'], but corpus.domains has ["),
        (
            ["quality=classifier", "quality.scorer.good=[a]", "quality.scorer.rest=[a]"],
            "quality.scorer.good and rest must name different texts, got ['a'] in both",
        ),
        (["quality=transformer"], "quality.scorer.path or repo: wanted one of the two, got path=None, repo=None"),
        (
            ["quality=transformer", "quality.scorer.path=no"],
            "quality.scorer.path: wanted a folder with *.safetensors, got 'no'",
        ),
        (
            ["filters=length", "filters.length.min_words=5", "filters.length.max_words=3"],
            "filters.length.min_words must not be above max_words, got 5 and 3",
        ),
        (["filters=length", "filters.length.min_words=x"], "filters.length.min_words: Input should be a valid integer"),
        (["filters=length", "+filters.length.domains=[c]"], "filters.length.domains names ['c'], but corpus.domains"),
        (
            ["filters=language", "filters.language.languages=[english]"],
            "filters.language.languages must be of af ar az",
        ),
        (["filters=language", "filters.language.among=[en,xx]"], "filters.language.among must be of af ar az be bg bn"),
        (
            ["+filters.mine.min_words=1"],
            "filters.mine.kind: wanted one of 'gopher_quality', 'gopher_repetition', 'c4',",
        ),
        (["+degraders.mine.seed=1"], "degraders.mine.kind: wanted one of 'ocr_noise', 'shuffle_words', 'truncate',"),
        (["+corpus.domains.c={path:a.jsonl}"], "corpus.domains.c.kind: missing: wanted one of 'embedded', 'local', 'h"),
        (["filters=[{kind:length,min_words:1}]"], "filters: wanted a name ("),
        (
            ["mixture={kind:grid}"],
            "mixture: wanted a name (docs20, docs80, even, grid, stages, swarm, temperature), with",
        ),
        (["filters=3"], "filters: wanted a name ("),
        (["budget.num_tokens=${nope}"], "budget.num_tokens: Interpolation key 'nope' not found"),
    ],
)
def test_one_mistake_is_one_line_that_begins_with_its_field(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        one(monkeypatch, *overrides)
    (line,) = caught.value.lines
    assert line.startswith(expected), line
    assert "\n" not in line


def test_every_key_that_conf_leaves_open_says_what_it_wants() -> None:
    for path in shipped("conf").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        package = [] if "@package _global_" in text else path.parent.relative_to(shipped("conf")).parts
        for keys in _left_open(yaml.safe_load(text)):
            assert ".".join([*package, *keys]).endswith(tuple(WANTED)), f"{path.stem}: {keys}"


def _left_open(tree: object) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from [(key,)] if value == "???" else ((key, *rest) for rest in _left_open(value))


def test_a_study_that_sweeps_over_what_is_no_name_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {filters: '[{kind:length}],none'}}}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match="hydra cannot compose what the command line or the study says"):
        compose(monkeypatch, *OWN, "+sweeps=mine")


STUDY = """# @package _global_
# Does b help a?
hydra: {mode: MULTIRUN, sweeper: {params: {budget.num_tokens: '50_000,100_000'}}}
"""


def test_a_study_that_cannot_be_composed_is_a_multirun_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(STUDY, encoding="utf-8")
    chosen = "filters=none,length"
    assert len(compose(monkeypatch, *OWN, "+sweeps=mine", chosen)) == 4
    with pytest.raises(ConfigError) as caught:
        compose(monkeypatch, *OWN, "+sweeps=mine", chosen, "filters.length.min_words=5")
    (line,) = caught.value.lines
    assert line.startswith("filters.length.min_words: the choice made has no such key; filters=length has; with")
    assert f"with {chosen} all must have it, and it is swept, too" in line
    with pytest.raises(HydraException, match="To sweep over it, add --multirun"):
        compose(monkeypatch, *OWN, chosen)


def test_a_list_of_choices_is_no_sweep_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        one(monkeypatch, "filters=[gopher,c4]", "filters.length.min_words=5")
    assert caught.value.lines == ["filters.length.min_words: the choice made has no such key; filters=length has"]


@pytest.mark.parametrize("header", ["", "# Does b help a?\n# @package _global_\n", "# @package sweeps\n"])
def test_a_study_whose_first_line_is_another_is_told_which_it_is(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_text(STUDY.replace("# @package _global_\n", header), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        compose(monkeypatch, *OWN, "+sweeps=mine", "filters=none,length")
    assert caught.value.lines == ["sweeps/mine.yaml: its first line is missing: wanted `# @package _global_`"]


def test_a_fault_of_our_own_is_not_taken_for_a_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Point:
        raise TypeError("a fault")

    monkeypatch.setattr(command_line, "read_points", broken)
    with pytest.raises(TypeError, match="a fault"):
        one(monkeypatch)


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


def test_every_point_of_a_sweep_is_checked_before_any_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(monkeypatch, "budget.num_tokens=1_000_000,0", "seeds.init=0,-1")
    (budget,) = (line for line in caught.value.lines if line.startswith("budget.num_tokens"))
    assert "(at 2 of 4 points, first: " in budget
    assert any("seeds.init" in line for line in caught.value.lines)


def test_a_mistake_that_is_at_all_points_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(monkeypatch, "budget.num_tokens=1_000_000,2_000_000", "corpus.domains.a.path=nowhere")
    (line,) = caught.value.lines
    assert line.endswith("(at all 2 points)")


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


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("budget.num_token", "did you mean budget.num_tokens"),
        ("filter", "did you mean filters"),
        ("dedup.threshold", "the choice made has no such key; dedup=near has"),
        ("method.droput", "no such key; did you mean method.dropout?"),
        ("task.splitting.seed", "task.splitting.seed: the choice made has no such key"),
        ("budget.zebra", "there are budget.max_epochs, budget.num_tokens, budget.repetition, budget.unique_tokens"),
        ("zebra.stripes", "there are action, batch, budget"),
        (
            "corpus.domains.docs.max_documents",
            "wanted +corpus.domains.docs.max_documents=..., which domains of kind hub",
        ),
        ("corpus.references.text.unit", "wanted +corpus.references.text.unit=..., which domains of kind local have"),
        (
            "corpus.domains.docs.foo",
            "no such key; domains of kind embedded have kind, part; of kind local have kind, path",
        ),
        ("task.stride", "the task does not set it: wanted +task.stride=..., which tasks of kind qa have"),
        ("task.labels", "wanted +task.labels=..., which tasks of kind classification and kind tokens have"),
        ("task.rows.encoding", "wanted +task.rows.encoding=..., which tasks of kind local have"),
        ("task.zebra", "there are task.alert, task.answers, task.context, task.is_bio"),
    ],
)
def test_a_key_that_is_not_there_brings_up_those_that_are(key: str, answer: str) -> None:
    assert answer in no_such_key(key, shipped("conf"))
