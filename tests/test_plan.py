"""What a plan says before anything is trained: sizes, memory, and why no trunk is shared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lab import SpecMaker, tuned_on
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from scaling.child import ChildSpec, CompressSpec, FinetuneSpec
from scaling.compression import Distillation, Magnitude
from scaling.gates import TaskRows
from scaling.memory import memory_of
from scaling.plan import plan_table, whys_no_trunk
from scaling.plan_children import TIMED_ROWS, children_table, cost_of
from scaling.spec import RunSpec
from scaling.status import Status, duration
from scaling.train.model import build_model


def sizes(spec: SpecMaker, *budgets: int, **changes: Any) -> list[RunSpec]:
    plain = {name.replace("__", "."): value for name, value in changes.items()}
    return [spec({"budget.num_tokens": num_tokens, **plain}) for num_tokens in budgets]


@pytest.mark.parametrize(
    ("kind", "objective"),
    [("llama", "clm"), ("gpt2", "clm"), ("bert", "mlm"), ("modernbert", "mlm"), ("bert", "mlm_nsp")],
)
def test_the_memory_of_weights_and_moments_is_that_of_the_tensors(spec: SpecMaker, kind: str, objective: str) -> None:
    run = spec({"model.kind": kind, "objective.kind": objective})
    model = build_model(run)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    estimate = memory_of(run)
    assert estimate.weights == sum(parameter.nbytes for parameter in model.parameters())
    assert estimate.moments == sum(moment.nbytes for moment in moments)
    assert estimate.masters == 0


def test_ranks_share_out_what_their_stage_says(spec: SpecMaker) -> None:
    def memory(stage: int, ranks: int, precision: str = "bf16", offload: str = "none") -> dict[str, float]:
        zero = {"stage": stage, "offload_optimizer": {"device": offload}}
        run = spec({"zero": zero, "placement.ranks": ranks, "precision": precision})
        num_params, held = run.num_params + run.anatomy.embedding_params, memory_of(run)
        return {name: getattr(held, name) / num_params for name in ("weights", "masters", "moments", "gradients")}

    approximately = pytest.approx
    assert memory(0, 1, "fp32") == approximately({"weights": 4, "masters": 0, "moments": 8, "gradients": 8})
    assert memory(1, 1) == approximately({"weights": 2, "masters": 4, "moments": 8, "gradients": 6})
    assert memory(1, 2) == approximately({"weights": 2, "masters": 2, "moments": 4, "gradients": 4}, rel=1e-3)
    assert memory(2, 2) == approximately({"weights": 2, "masters": 2, "moments": 4, "gradients": 3}, rel=1e-3)
    assert memory(3, 2) == approximately({"weights": 1, "masters": 2, "moments": 4, "gradients": 3}, rel=1e-3)
    assert memory(2, 2, offload="cpu")["moments"] == 0


def test_the_memory_of_activations_is_near_what_autograd_keeps(spec: SpecMaker) -> None:
    """The estimate leaves out what a compiler would fuse; eager torch keeps some more."""
    from scaling.train.objective import TokenLoss

    for kind, objective in (("llama", "clm"), ("gpt2", "clm"), ("bert", "mlm")):
        run = spec({"model.kind": kind, "objective.kind": objective, "model.num_layers": 3, "model.hidden_size": 64})
        module, kept = TokenLoss(build_model(run)), {}
        weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept, weights: set[int] = weights) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        tokens = torch.randint(3, 320, (4, 32))
        predicted = torch.arange(5).expand(4, 5) if objective == "mlm" else None
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            nats = module(tokens, tokens[:, :5] if objective == "mlm" else tokens[:, 1:], predicted)
        assert nats.requires_grad
        assert memory_of(run).activations == pytest.approx(sum(kept.values()), rel=0.35)


def test_recomputing_activations_takes_less_and_more_layers_take_more(spec: SpecMaker) -> None:
    deep = {"model.num_layers": 12}
    whole = memory_of(spec(deep)).activations
    assert memory_of(spec({**deep, "placement.activation_checkpointing": True})).activations < 0.5 * whole
    assert memory_of(spec({"model.num_layers": 6})).activations < whole
    assert memory_of(spec({**deep, "placement.micro_batch": 2})).activations == pytest.approx(whole / 2, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schedule": {"kind": "cosine", "warmup_tokens": 512}}, "the schedule is cosine, not wsd"),
        ({"recipe__order": {"kind": "length"}}, "the order is length: a smaller budget is no prefix of a larger one"),
        ({"budget__repetition": {"kind": "epochs", "domains": {"beta": 2}}}, "budget.repetition depends on D"),
    ],
)
def test_a_run_that_can_share_no_trunk_says_why(spec: SpecMaker, changes: dict[str, Any], why: str) -> None:
    assert whys_no_trunk(sizes(spec, 4096, 8192, **changes)) == {why: 2}


def test_a_learning_rate_that_follows_d_is_why_no_trunk_is_shared(spec: SpecMaker) -> None:
    assert whys_no_trunk(sizes(spec, 4096, 8192)) == {}
    tuned = [
        *sizes(spec, 4096, optimizer__learning_rate=2e-2, schedule__warmup_tokens=256),
        *sizes(spec, 8192, optimizer__learning_rate=1e-2, schedule__warmup_tokens=512),
    ]
    assert whys_no_trunk(tuned) == {"learning rate and warmup differ with D": 2}
    batches = [*sizes(spec, 4096, batch__num_sequences=2), *sizes(spec, 8192)]
    assert whys_no_trunk(batches) == {"batch differs with D": 2}


def test_a_sweep_of_the_learning_rate_at_each_size_shares_trunks(spec: SpecMaker) -> None:
    runs = [run for rate in (1e-2, 2e-2) for run in sizes(spec, 4096, 8192, optimizer__learning_rate=rate)]
    assert whys_no_trunk(runs) == {}
    one_size = [run for rate in (1e-2, 2e-2) for run in sizes(spec, 4096, optimizer__learning_rate=rate)]
    assert whys_no_trunk(one_size) == {}


def test_a_plan_is_readable_at_160_columns(spec: SpecMaker) -> None:
    runs = sizes(spec, 4096, 8192, schedule={"kind": "cosine", "warmup_tokens": 512})
    console = Console(width=160, record=True)
    console.print(plan_table([(run, Status(state="planned")) for run in runs], [None, None]))
    lines = console.export_text().splitlines()
    (first,) = [line for line in lines if " 4k " in line or "4.1k" in line]
    for column in ("D", "N", "FLOPs/token", "memory", "time"):
        assert column in lines[0]
    assert "GB" in first
    said = " ".join(" ".join(lines).split())
    assert "No trunk for 2 runs: the schedule is cosine, not wsd." in said
    assert f"{sum(run.flops_per_token * run.budget.num_tokens for run in runs):.1e} FLOPs left to train" in said


# ---- children ------------------------------------------------------------------------------------------


def child(spec: SpecMaker, kind: str = "bert", **changes: Any) -> FinetuneSpec:
    return tuned_on(spec({"model.kind": kind, "objective.kind": "mlm" if kind == "bert" else "clm"}), **changes)


def smaller(parent: FinetuneSpec, compress: Distillation | Magnitude) -> CompressSpec:
    return CompressSpec(name="smaller", study=parent.study, parent=parent, compress=compress)


def distillation(parent: FinetuneSpec, num_epochs: float = 3.0, **changes: Any) -> Distillation:
    student = parent.parent.model.model_copy(update={"hidden_size": 16, **changes})
    return Distillation.model_validate({"student": student, "num_epochs": num_epochs})


def rows_of(num: int, mean_tokens: float = 20.0, **changes: Any) -> TaskRows:
    return TaskRows(
        **{"train": num, "validation": 0, "test": 0, "mean_tokens": mean_tokens, "is_tokenized": True} | changes
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_a_row_costs_what_torch_counts(spec: SpecMaker, kind: str) -> None:
    """Biases and norms, which torch does not count, are up to 4 % of so small a model."""
    from scaling.finetune.heads import TargetLoss, TextModel
    from scaling.method import CrossEntropy

    tuned = child(spec, kind)
    module = TextModel(build_model(tuned.parent), 2, 0.0, TargetLoss(CrossEntropy(), None))
    inputs = torch.randint(3, 320, (8, 20))
    with FlopCounterMode(display=False) as counted, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        module(inputs, targets=torch.zeros(8, 1, dtype=torch.int64)).mean().backward()
    once = child(spec, kind, schedule={"num_epochs": 1.0})
    assert cost_of(once, rows_of(8)).flops == pytest.approx(counted.get_total_flops(), rel=0.05)


def test_a_fine_tuning_costs_its_epochs_in_whole_batches_and_no_fewer_steps_than_asked_for(spec: SpecMaker) -> None:
    tuned = child(spec)
    cost = cost_of(tuned, rows_of(101, 20.0))
    assert (cost.num_rows, cost.num_tokens) == (304, 304 * 20)  # 3 x 101 rows, 8 a step
    assert cost.flops == 3 * tuned.forward_flops_per_token(20) * 304 * 20
    assert cost_of(child(spec, schedule={"num_epochs": 3.0, "min_steps": 50}), rows_of(101)).num_rows == 400


def test_measuring_costs_a_forward_pass_of_each_row_that_is_measured(spec: SpecMaker) -> None:
    tuned = child(spec, measuring={"num_evaluations": 2, "max_rows": 50})
    learned, whole = cost_of(tuned, rows_of(8)), cost_of(tuned, rows_of(8, validation=40, test=100))
    answered = 3 * 40 + 50
    assert whole.flops - learned.flops == pytest.approx(answered * 20 * tuned.forward_flops_per_token(20))


def test_what_is_frozen_costs_less(spec: SpecMaker) -> None:
    """Of a forward pass: twice as much back where all learns, half of that for one layer of two, and so on."""

    def passes(adaptation: dict[str, Any]) -> float:
        tuned = tuned_on(spec({"model.num_layers": 2}), method={"adaptation": adaptation})
        cost = cost_of(tuned, rows_of(80))
        return cost.flops / cost.num_tokens / tuned.forward_flops_per_token(20)

    assert [passes({"kind": kind}) for kind in ("full", "top_layers", "lora", "head")] == pytest.approx([3, 2, 2, 1])


def test_a_compression_costs_what_it_measures_and_a_distillation_its_student_and_what_its_teacher_answers(
    spec: SpecMaker,
) -> None:
    tuned = child(spec)
    row = 20 * tuned.forward_flops_per_token(20)
    measured = cost_of(smaller(tuned, Magnitude()), rows_of(100, validation=10, test=20)).flops
    assert measured == pytest.approx(row * (2 * 30 + TIMED_ROWS))
    plain, taught = (cost_of(smaller(tuned, how), rows_of(100)) for how in (Magnitude(), distillation(tuned)))
    learned = cost_of(tuned, rows_of(100)).flops
    assert 0 < taught.flops - plain.flops - learned / 3 < learned / 2
    assert plain.num_rows == 0
    assert cost_of(smaller(tuned, distillation(tuned, num_epochs=6)), rows_of(100)).num_rows == 600


def children_said(rows: list[tuple[ChildSpec, Status]], *changes: Any, **told: Any) -> str:
    console = Console(width=200, record=True)
    counted = [rows_of(num) for num in changes] or [rows_of(100)] * len(rows)
    console.print(children_table(rows, counted, **told))
    return " ".join(console.export_text().split())


def test_a_plan_of_children_adds_up_what_is_left_by_kind(spec: SpecMaker) -> None:
    tuned = child(spec, placement={"threads": 2})
    done, left = Status(state="complete"), Status()
    magnitude = smaller(tuned, Magnitude())
    said = children_said([(tuned, done), (tuned, left), (tuned, left), (magnitude, left)], 100, 100, 200, 100)
    assert "Fine-tunings and compressions: 4, from 1 pretrained models." in said
    assert "Fine-tuning: 2 of 3 runs left, 904 rows, 18.1k tokens to learn from" in said
    flops = cost_of(tuned, rows_of(100)).flops + cost_of(tuned, rows_of(200)).flops
    assert f"{flops:.1e} FLOPs to learn and measure, about {duration(flops / 4e10)}." in said
    assert "Compression: 1 of 1 runs left, 0 rows, 0 tokens to learn from, " in said
    assert "a rough guess until a run has been timed" in said


def test_the_time_of_children_is_that_of_their_like_that_are_complete(spec: SpecMaker) -> None:
    tuned = child(spec)
    twice = cost_of(tuned, rows_of(200)).flops / cost_of(tuned, rows_of(100)).flops
    timed = (tuned, Status(state="complete", seconds=1000.0))
    said = children_said([timed, (tuned, Status())], 100, 200)
    assert f"about {duration(1000 * twice)}. " in said
    assert "Time: timed on runs that are complete." in said
    pace = cost_of(tuned, rows_of(100)).flops / 500
    said = children_said([(tuned, Status())], 100, pretraining_pace=pace)
    assert "about 0:08:20." in said
    assert "at the pace of the pretraining that is complete" in said


def test_what_an_estimate_does_not_know_is_said(spec: SpecMaker) -> None:
    tuned = child(spec)
    assert "Tokens per row are from bytes" not in children_said([(tuned, Status())])
    console = Console(width=200, record=True)
    console.print(children_table([(tuned, Status())], [rows_of(100, is_tokenized=False)]))
    said = " ".join(console.export_text().split())
    assert "~20" in said
    assert "Tokens per row are from bytes, 4 each, until the tokenizer is prepared." in said


def test_one_run_takes_its_own_time_however_many_fit_on_a_device(spec: SpecMaker) -> None:
    (run,) = sizes(spec, 64 * 128, placement__runs_per_device=2, schedule={"kind": "cosine", "warmup_tokens": 512})
    timed = (run, Status(state="complete", tokens_per_second=1.0))
    alone, both = (
        str(plan_table([(run, Status())] * count + [timed], [None] * (count + 1)).caption) for count in (1, 2)
    )
    assert "about 2:16:32 (timed" in alone  # 8192 tokens at one per second
    assert "about 2:16:32, 2 at a time (timed" in both
