"""Rules in N and D: what they give, what they leave alone, and what can no longer be shared under them."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest

from scaling.__main__ import compose_points
from scaling.config_errors import ConfigError
from scaling.hyperparameters import BatchRule, PowerRule, Scaled, scaled_batch, value_of
from scaling.identity import fingerprint, trunk_identity
from scaling.plan import tokens_from_trunks
from scaling.spec import RunSpec

RULES = {"learning_rate": 0.307, "batch_tokens": 0.571, "warmup_tokens": 0.571}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["scaling"])
    Path("a.jsonl").write_text('{"text": "some words of a document"}\n', encoding="utf-8")


def sweep(*overrides: str) -> list[RunSpec]:
    points = compose_points(["-m", "corpus=own", "+corpus.domains.a={kind:local,path:a.jsonl}", *overrides])
    return [point.spec for point in points]


def scaled(*overrides: str) -> list[RunSpec]:
    return sweep("hyperparameters=scaled", *overrides)


def test_at_the_reference_point_the_rules_give_what_is_written_and_the_same_run() -> None:
    """Which also holds the reference point of conf/hyperparameters/scaled.yaml to the defaults of conf/run.yaml."""
    (with_rules,), (without,) = scaled(), sweep()
    assert fingerprint(with_rules) == fingerprint(without)
    assert with_rules.hyperparameters.kind == "scaled"
    assert Scaled.model_validate({"kind": "scaled"}).num_params == without.num_params
    assert Scaled().num_tokens == without.num_steps * without.batch.num_tokens


def test_the_choice_spells_out_the_defaults_of_the_rules() -> None:
    (spec,) = scaled()
    point = spec.hyperparameters
    assert isinstance(point, Scaled)
    assert {name: getattr(point, name).reference for name in RULES} == {
        "learning_rate": 4e-3,
        "batch_tokens": 512,
        "warmup_tokens": 20_000,
    }
    bare = {name: getattr(point, name).model_copy(update={"reference": None}) for name in RULES}
    assert point.model_copy(update=bare) == Scaled()


def test_learning_rate_batch_and_warmup_follow_their_rules_at_the_tokens_trained_on() -> None:
    (spec,) = scaled("budget.num_tokens=16_000_100", "model=mini")
    tokens = spec.num_steps * spec.batch.num_tokens
    assert tokens < 16_000_100
    more, larger = tokens / 499_712, spec.num_params / 106_816
    assert spec.optimizer.learning_rate == pytest.approx(4e-3 * more**0.307 * larger**-0.713, rel=1e-9)
    assert spec.schedule.warmup_tokens == pytest.approx(20_000 * more**0.571, abs=1)
    assert spec.batch.num_tokens == pytest.approx(512 * more**0.571, abs=128)  # to the nearest two sequences
    assert spec.batch.num_sequences == 28
    assert spec.batch.sequence_length == 128


def test_a_learning_rate_or_an_exponent_of_ones_own_is_taken() -> None:
    given = scaled(
        "optimizer.learning_rate=2e-3,4e-3",
        "hyperparameters.learning_rate={reference:null,params:0,tokens:0.5}",
        "hyperparameters.num_tokens=124928",
    )
    assert [spec.optimizer.learning_rate for spec in given] == pytest.approx([4e-3, 8e-3])
    (own,) = scaled("hyperparameters.learning_rate.reference=0.1")
    assert own.optimizer.learning_rate == pytest.approx(0.1)


def test_no_warmup_is_none_at_any_size() -> None:
    (spec,) = scaled("schedule.warmup_tokens=0", "budget.num_tokens=4_000_000")
    assert spec.schedule.warmup_tokens == 0


def test_a_budget_that_holds_the_scaled_batch_is_taken_though_it_holds_no_unscaled_one() -> None:
    (spec,) = scaled("batch.num_sequences=64", "budget.num_tokens=8_000", "schedule.warmup_tokens=50_000")
    assert spec.batch.num_tokens <= 8_000 < 64 * 128
    assert spec.batch.num_tokens == pytest.approx(64 * 128 * (8_000 / 499_712) ** 0.571, abs=128)
    assert spec.schedule.warmup_tokens < 8_000
    with pytest.raises(ConfigError, match=r"budget\.num_tokens must hold one batch of 256 tokens, got 200"):
        scaled("batch.num_sequences=64", "budget.num_tokens=200")


def test_under_rules_that_depend_on_d_no_trunk_is_shared_and_without_them_all_is() -> None:
    sizes = "budget.num_tokens=250_000,500_000,1_000_000"
    flat = [f"hyperparameters.{name}.tokens=0" for name in RULES]
    ours, free = scaled(sizes), scaled(sizes, *flat)
    assert len({trunk_identity(spec) for spec in ours}) == 3
    assert sum(tokens_from_trunks(ours)) == 0
    assert len({trunk_identity(spec) for spec in free}) == 1
    assert sum(tokens_from_trunks(free)) > 0
    assert [fingerprint(spec) for spec in free] == [fingerprint(spec) for spec in sweep(sizes)]


@pytest.mark.parametrize("name", RULES)
def test_one_rule_in_d_is_enough_to_share_no_trunk(name: str) -> None:
    flat = [f"hyperparameters.{other}.tokens=0" for other in RULES if other != name]
    specs = scaled("budget.num_tokens=250_000,4_000_000", *flat)
    assert trunk_identity(specs[0]) != trunk_identity(specs[1])


def test_where_a_run_computes_does_not_change_what_the_rules_give() -> None:
    assert len({fingerprint(spec) for spec in scaled("placement.ranks=1,2", "budget.num_tokens=4_000_000")}) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "placement.ranks=3 batch.num_sequences=6",
            "hyperparameters.batch_tokens.multiple_of must be a multiple of .* got 2 and 3",
        ),
        ("hyperparameters.learning_rate.params=x", "hyperparameters.learning_rate.params: .* got 'x'"),
        ("hyperparameters.batch_tokens.multiple_of=0", "hyperparameters.batch_tokens.multiple_of: .* got 0"),
        ("hyperparameters.learning_rate.reference=0", "hyperparameters.learning_rate.reference: .* got 0"),
        ("hyperparameters.batch_tokens.reference=-1", "hyperparameters.batch_tokens.reference: .* got -1"),
        ("hyperparameters.batch_tokens.tokens=1e9", "hyperparameters.batch_tokens.tokens: .* got 1000000000"),
        ("hyperparameters.learning_rate.params=-5000", "hyperparameters.learning_rate.params: .* got -5000"),
        ("hyperparameters.batch_tokens.reference=1e9", "budget.num_tokens must hold one batch of .*, got 500000"),
        ("hyperparameters.kind=guessed", "hyperparameters.kind: wanted one of 'fixed', 'scaled', got 'guessed'"),
    ],
)
def test_what_cannot_be_ruled_is_said_with_its_field(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scaled(*override.split())


@pytest.mark.parametrize("exponent", [0.3, 0.571, 1.0, 2.0])
def test_the_batch_is_the_rules_own_at_the_tokens_that_it_leaves(exponent: float) -> None:
    """Or the smaller one of two batches next to each other that call for each other."""
    point = Scaled(batch_tokens=BatchRule(reference=512.0, tokens=exponent))
    for budget, length in product(range(40_000, 2_000_000, 39_989), (32, 128)):
        sequences, tokens = scaled_batch(point, 106_816, budget, length)
        batch = sequences * length
        assert sequences % 2 == 0
        assert tokens in (budget // batch * batch, budget)
        called_for = max(2 * length, value_of(point.batch_tokens, point, 106_816, tokens))
        assert abs(called_for - batch) <= 2 * length


def test_a_rule_is_a_power_of_n_and_of_d() -> None:
    point = Scaled(num_params=100, num_tokens=1000)
    assert value_of(PowerRule(reference=3.0, params=-0.5, tokens=2.0), point, 400, 3000) == pytest.approx(3 / 2 * 9)
