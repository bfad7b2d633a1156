"""From the command line to the specs of fine-tuning and compression, through the real Hydra."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from composing import OWN, compose

from scaling.child import AnySpec, CompressSpec, FinetuneSpec, parent_of, pretraining_of
from scaling.config_errors import ConfigError
from scaling.identity import directory_name, fingerprint
from scaling.spec import RunSpec

TASK = [
    "task=sst2",
    "task.rows={kind:local,train:task.jsonl,validation:null,test:null}",
    "task.text=text",
]


@pytest.fixture(autouse=True)
def _own_task(own_folder: None, tmp_path: Path) -> None:
    rows = [{"text": f"row number {number} of the task", "label": number % 2} for number in range(60)]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def specs(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[AnySpec]:
    multirun = [each for each in overrides if each == "-m"]
    found = compose(monkeypatch, *multirun, *OWN, *(each for each in overrides if each != "-m"))
    return [point.spec for point in found]


def tuned(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[FinetuneSpec]:
    found = specs(monkeypatch, *TASK, *overrides)
    return [spec for spec in found if isinstance(spec, FinetuneSpec)]


def test_a_task_makes_a_run_of_each_seed_that_goes_on_from_the_pretraining(monkeypatch: pytest.MonkeyPatch) -> None:
    (pretraining,) = specs(monkeypatch)
    children = tuned(monkeypatch)
    assert [child.seed for child in children] == [0, 1, 2]
    assert {fingerprint(child.parent) for child in children} == {fingerprint(pretraining)}
    assert len({fingerprint(child) for child in children}) == 3
    assert children[0].name == f"sst2-{pretraining.name}-f0"


def test_a_task_of_the_users_own_is_a_file_in_the_folder_where_they_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "conf" / "task").mkdir(parents=True)
    rows = "rows: {kind: local, train: task.jsonl}"
    (tmp_path / "conf" / "task" / "mine.yaml").write_text(f"kind: classification\nname: mine\n{rows}\n")
    found = specs(monkeypatch, "task=mine", "seeds.finetune=[0]")
    assert isinstance(found[0], FinetuneSpec)
    assert found[0].task.name == "mine"


def test_what_starts_from_random_weights_is_the_same_whatever_the_budget_of_pretraining(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budgets = "budget.num_tokens=500_000,1_000_000"
    scratch = tuned(monkeypatch, "-m", budgets, "finetune.start=initial", "seeds.finetune=[0]")
    assert len({fingerprint(child) for child in scratch}) == 1
    assert parent_of(scratch[0]) is None
    assert len({fingerprint(child) for child in tuned(monkeypatch, "-m", budgets, "seeds.finetune=[0]")}) == 2


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ("seed=1", True),
        ("model=mini", True),
        ("tokenizer.vocab_size=600", True),
        ("optimizer.learning_rate=1e-2", False),
        ("mixture.weights={a:0.1,b:0.9}", False),
        ("objective=mlm", True),
    ],
)
def test_the_first_weights_depend_on_the_model_and_its_seed_alone(
    monkeypatch: pytest.MonkeyPatch, change: str, is_other: bool
) -> None:
    asked = ("finetune.start=initial", "seeds.finetune=[0]")
    (plain,), (changed,) = tuned(monkeypatch, *asked), tuned(monkeypatch, *asked, change)
    assert (fingerprint(plain) != fingerprint(changed)) is is_other


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ("finetune.num_examples=10", True),
        ("finetune.schedule.num_epochs=4", True),
        ("finetune.batch.max_length=64", True),
        ("finetune.batch.max_length=128", False),  # the parent's own
        ("method=lora", True),
        ("placement.threads=1", False),
        ("study.name=other", False),
        ("name=mine", False),
    ],
)
def test_what_can_change_the_numbers_of_a_fine_tuning_is_its_identity(
    monkeypatch: pytest.MonkeyPatch, change: str, is_other: bool
) -> None:
    plain, changed = tuned(monkeypatch)[0], tuned(monkeypatch, change)[0]
    assert (fingerprint(plain) != fingerprint(changed)) is is_other


def test_rows_that_were_moved_are_the_same_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = tuned(monkeypatch)[0]
    shutil.move(tmp_path / "task.jsonl", tmp_path / "moved.jsonl")
    assert fingerprint(tuned(monkeypatch, "task.rows.train=moved.jsonl")[0]) == fingerprint(before)
    with (tmp_path / "moved.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "one more", "label": 1}\n')
    assert fingerprint(tuned(monkeypatch, "task.rows.train=moved.jsonl")[0]) != fingerprint(before)


def test_a_compression_goes_on_from_the_fine_tuning_of_each_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = specs(monkeypatch, *TASK, "compress=magnitude")
    assert [isinstance(spec, CompressSpec) for spec in found] == [True] * 3
    parents = [parent_of(spec) for spec in found]
    assert [fingerprint(parent) for parent in parents if parent] == [fingerprint(c) for c in tuned(monkeypatch)]
    assert isinstance(pretraining_of(found[0]), RunSpec)
    assert directory_name(found[0]).startswith("magnitude50-sst2-")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["compress=magnitude"], "compress needs a task"),
        ([*TASK, "seeds.finetune=[]"], "seeds.finetune"),
        ([*TASK, "seeds.finetune=[-1]"], "seeds.finetune"),
        ([*TASK, "finetune.num_examples=0"], "finetune.num_examples"),
        ([*TASK, "finetune.batch.max_length=4096"], "finetune.batch.max_length must be at most"),
        ([*TASK, "task.metric=rouge_l"], "task.metric must be one of"),
        ([*TASK, "task.label=nothing"], "nothing"),
        ([*TASK, "method.sampling=maybe"], "method.sampling"),
        (["task=none", "method=lora", "compress=heads"], "compress needs a task"),
        ([*TASK, "compress=distillation", "model@compress.student=tiny"], "student must be smaller than its teacher"),
    ],
)
def test_what_is_no_fine_tuning_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        specs(monkeypatch, *overrides)
    assert len(error.value.lines) == 1
    assert said in error.value.lines[0]


def test_patience_that_outlasts_all_evaluations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    early = "method.early_stopping={patience:2}"
    assert tuned(monkeypatch, early, "finetune.measuring.num_evaluations=4")[0].method.early_stopping is not None
    with pytest.raises(ConfigError, match=r"patience must be at most .*num_evaluations - 2 = 1.* got 2"):
        tuned(monkeypatch, early)


def test_more_layers_than_the_model_has_are_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tuned(monkeypatch, "method=top_layers", "method.adaptation.num_layers=2")
    with pytest.raises(ConfigError, match=r"num_layers must be at most the model's 2 layers, got 3"):
        tuned(monkeypatch, "method=top_layers", "method.adaptation.num_layers=3")


def test_runs_of_different_methods_have_different_names(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuned(
        monkeypatch,
        "-m",
        "seeds.finetune=[0]",
        "finetune.start=initial",
        "method=full,discriminative",
        "method/loss=cross_entropy,focal,balanced",
        "method.sampling=as_is,over",
        "method/augmentation=none,swap",
    )
    names = {spec.name for spec in found}
    assert len(names) == len(found) == 24
    assert {"sst2-scratch-s0-f0", "sst2-decay-focal-over-swap-scratch-s0-f0"} < names
