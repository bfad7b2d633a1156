from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lab import SpecMaker
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scaling.model import Bert, Gpt2, Llama, ModernBert, anatomy_of
from scaling.train.model import build_model, read_model
from scaling.train.objective import TokenLoss, make_examples, num_draws

BASE = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072}

SIZES = [
    {"model.hidden_size": 32, "model.num_layers": 1, "model.num_heads": 2, "model.intermediate_size": 72},
    {"model.hidden_size": 48, "model.num_layers": 3, "model.num_heads": 3, "model.intermediate_size": 100},
]


FAMILIES = [("llama", "clm"), ("gpt2", "clm"), ("bert", "mlm"), ("modernbert", "mlm"), ("bert", "mlm_nsp")]
families = pytest.mark.parametrize(("kind", "objective"), FAMILIES)


@pytest.mark.parametrize("size", SIZES)
@families
def test_the_counted_parameters_are_those_of_the_built_model_without_embeddings(
    spec: SpecMaker, kind: str, objective: str, size: dict[str, int]
) -> None:
    """N leaves out all embeddings (token, position, type) and so the tied head; BERT's head transform is in it."""
    run = spec({"model.kind": kind, "objective.kind": objective, **size})
    model = build_model(run)
    embeddings = sum(p.numel() for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters())
    assert run.num_params == sum(parameter.numel() for parameter in model.parameters()) - embeddings
    assert run.anatomy.embedding_params == embeddings


@pytest.mark.parametrize(
    ("model", "vocab_size", "length", "published"),
    [
        (Gpt2(**BASE), 50257, 1024, 124_439_808),
        (Bert(**BASE), 30522, 512, 109_514_298),
        (ModernBert(**BASE | {"num_layers": 22, "intermediate_size": 1152}), 50368, 8192, 149_655_232),
        (
            Llama(hidden_size=4096, num_layers=32, num_heads=32, intermediate_size=11008),
            32000,
            4096,
            6_738_415_616 - 32000 * 4096,  # Llama 2 7B, whose head is not tied
        ),
    ],
)
def test_published_shapes_have_their_published_sizes(
    model: Gpt2 | Bert | ModernBert | Llama, vocab_size: int, length: int, published: int
) -> None:
    """The weights of gpt2, bert-base-uncased (as a masked LM), ModernBERT-base and Llama 2 7B."""
    counted = anatomy_of(model, vocab_size, length)
    assert counted.num_params + counted.embedding_params == published


@families
def test_flops_are_those_that_torch_counts(spec: SpecMaker, kind: str, objective: str) -> None:
    """Forward and backward of one batch; torch counts causal attention in whole, as we do.

    By hand: a ModernBERT's local layers, of which torch multiplies all pairs and masks most of them.
    """
    run = spec(
        {
            "model.kind": kind,
            "objective.kind": objective,
            "model.num_layers": 4,
            "model.hidden_size": 64,
            "model.intermediate_size": 128,
            "batch.sequence_length": 256,
        }
    )
    module = TokenLoss(build_model(run))
    module.model.set_attn_implementation("eager")
    sequences = np.random.default_rng(0).integers(3, 320, (4, 256))
    uniforms = np.random.default_rng(0).random((4, num_draws(run.objective, 256)))
    examples = make_examples(run.objective, sequences, uniforms, run.tokenizer)
    with FlopCounterMode(display=False) as counter:
        module(**examples.tensors()).mean().backward()
    counted = counter.get_total_flops() / sequences.size
    anatomy = run.anatomy
    masked = anatomy.num_local_layers * (256 - anatomy.local_window) * 12 * anatomy.attention_width
    assert anatomy.num_local_layers == (2 if kind == "modernbert" else 0)
    # What is not in a matrix (norms, biases) is counted here alone.
    assert run.flops_per_token + masked == pytest.approx(counted, rel=0.02)


@families
def test_activations_keep_their_size_whatever_the_width(spec: SpecMaker, kind: str, objective: str) -> None:
    """Weights as wide as 0.02 at width 768; 12 % less where a family cuts its normal draws off at two deviations."""
    for width, expected in ((64, 0.0693), (256, 0.0346)):
        model = build_model(spec({"model.kind": kind, "objective.kind": objective, "model.hidden_size": width}))
        cut = 0.88 if kind == "modernbert" else 1
        spread = model.get_input_embeddings().weight[3:].std().item()
        assert spread == pytest.approx(expected * cut, rel=0.02)


@pytest.mark.parametrize(
    ("objective", "kind", "trained"),
    [
        ("clm", "bert", "['llama', 'gpt2']"),
        ("mlm", "gpt2", "['bert', 'modernbert']"),
        ("mlm_nsp", "modernbert", "['bert']"),
    ],
)
def test_a_family_that_an_objective_does_not_train_is_refused(
    spec: SpecMaker, objective: str, kind: str, trained: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(f"model.kind={kind}, but one of {trained}")):
        spec({"objective.kind": objective, "model.kind": kind})


def test_the_ladder_has_the_sizes_that_its_names_say() -> None:
    """Of the Llama family; heads are of 64, and each rung is larger than the one before."""
    found = {}
    for path in sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml")):
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if named := re.fullmatch(r"(?:\w+_)?(\d+)([mb])", path.stem):
            kind = {"gpt2": Gpt2, "bert": Bert}.get(tree.pop("kind"), Llama)
            counted = anatomy_of(kind.model_validate(tree), 50257 if kind is Gpt2 else 30522, 1024)
            size = int(named[1]) * {"m": 1_000_000, "b": 1_000_000_000}[named[2]]
            embedded = 0 if kind is Llama else counted.embedding_params
            assert counted.num_params + embedded == pytest.approx(size, rel=0.13), path.stem
            assert tree["hidden_size"] == 64 * tree["num_heads"], path.stem
            found[path.stem] = size
    assert {"2m", "10m", "50m", "150m", "300m", "600m", "1b", "gpt2_124m", "bert_110m"} <= set(found)


@families
def test_the_weights_depend_on_the_init_seed_alone(spec: SpecMaker, kind: str, objective: str) -> None:
    def weights(seed: int, order: int) -> torch.Tensor:
        torch.rand(order)  # whatever was drawn before
        model = build_model(
            spec({"model.kind": kind, "objective.kind": objective, "seeds.init": seed, "seeds.order": order})
        )
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(0, 0), weights(0, 5))
    assert not torch.equal(weights(0, 0), weights(1, 0))


@families
def test_the_head_is_the_embedding(spec: SpecMaker, kind: str, objective: str) -> None:
    model = build_model(spec({"model.kind": kind, "objective.kind": objective}))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_model_is_written_and_read_without_bars_of_progress(
    spec: SpecMaker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build_model(spec()).save_pretrained(tmp_path)
    read_model(spec(), tmp_path)
    assert capfd.readouterr().err == ""  # DeepSpeed greets on the other
