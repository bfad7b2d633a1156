"""What a user is told of a mistake on the command line or in a study: one line, with the field and what was wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from composing import OWN, compose, one, sweep
from hydra.errors import HydraException

from scaling import __main__ as command_line
from scaling.__main__ import shipped
from scaling.config import Point
from scaling.config_errors import WANTED, ConfigError, no_such_key

pytestmark = pytest.mark.usefixtures("own_folder")


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
