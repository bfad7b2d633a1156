"""The checkpoint that a run goes on from: what is read of it, without torch, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from scaling.data import pretrained
from scaling.data.pretrained import checked_folder, pinned
from scaling.data.tokenizer import checkpoint_token_bytes
from scaling.model import Checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_inner": None, "eos_token_id": 0},
    "llama": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
    },
    "bert": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "type_vocab_size": 3,
    },
    "modernbert": {
        "hidden_size": 64,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "global_attn_every_n_layers": 2,
        "local_attention": 32,
        "norm_bias": True,
        "classifier_bias": True,
        "attention_bias": True,
        "mlp_bias": True,
        "decoder_bias": False,
        "pad_token_id": 2,
    },
}


def byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog"] * 20, trainer)
    return tokenizer


def checkpoint(folder: Path, family: str = "gpt2", **files: Any) -> Checkpoint:
    """A folder as transformers leaves it; its weights are of no model."""
    folder.mkdir()
    tokenizer = byte_level(["<|endoftext|>", "[MASK]"])
    config = {"model_type": family, "vocab_size": 320, **CONFIGS[family]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"weight": np.zeros(3, dtype=np.float32)}, folder / "model.safetensors")
    for name, tree in files.items():
        (folder / f"{name}.json").write_text(json.dumps(tree), encoding="utf-8")
    return Checkpoint(path=str(folder))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_config_is_counted_as_transformers_builds_it(tmp_path: Path, family: str) -> None:
    """With every switch of the family turned away from its default."""
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    model, _ = pinned(checkpoint(tmp_path / "model", family))
    assert model.anatomy is not None
    build = AutoModelForCausalLM if family in ("gpt2", "llama") else AutoModelForMaskedLM
    built = build.from_config(AutoConfig.from_pretrained(tmp_path / "model"))
    embeddings = sum(p.numel() for m in built.modules() if isinstance(m, nn.Embedding) for p in m.parameters())
    if not built.config.tie_word_embeddings:
        embeddings += built.get_output_embeddings().weight.numel()
    total = sum(parameter.numel() for parameter in built.parameters())
    assert (model.anatomy.num_params, model.anatomy.embedding_params) == (total - embeddings, embeddings)
    if family == "modernbert":
        assert (model.anatomy.num_local_layers, model.anatomy.local_window) == (2, 33)


def test_a_checkpoint_is_the_same_wherever_it_lies_and_another_when_its_weights_change(tmp_path: Path) -> None:
    first, _ = pinned(checkpoint(tmp_path / "model"))
    (tmp_path / "model").rename(tmp_path / "moved")
    moved, _ = pinned(Checkpoint(path=str(tmp_path / "moved")))
    assert moved.content == first.content
    assert checked_folder(moved) == tmp_path / "moved"
    save_file({"weight": np.ones(3, dtype=np.float32)}, tmp_path / "moved" / "model.safetensors")
    assert pinned(Checkpoint(path=str(tmp_path / "moved")))[0].content != first.content
    with pytest.raises(ValueError, match="changed since this run was specified"):
        checked_folder(moved)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model\*\.safetensors, got only pickles, .*: \['pytorch_model\.bin'\]"):
        pinned(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "opt"}, r"config\.json: model_type must be one of .*, got 'opt'"),
        ({"n_layer": None}, "num_hidden_layers is missing"),
        ({"model_type": None}, "got None"),
    ],
)
def test_a_config_that_is_no_model_of_ours_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    model = checkpoint(tmp_path / "model")
    config = {"vocab_size": 320, "model_type": "gpt2", **CONFIGS["gpt2"], **change}
    config = {key: value for key, value in config.items() if value is not None}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        pinned(model)


def test_a_folder_that_is_not_there_or_lacks_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.path: no such folder: 'nowhere'"):
        pinned(Checkpoint(path="nowhere"))
    model = checkpoint(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"wanted a tokenizer\.json beside the model"):
        pinned(model)


def test_special_tokens_are_those_that_the_files_name_else_those_that_are_usual(tmp_path: Path) -> None:
    _, usual = pinned(checkpoint(tmp_path / "usual"))
    assert (usual.end_of_text_id, usual.mask_id, usual.pad_id) == (0, 1, None)
    named = {"eos_token": "[MASK]", "mask_token": {"content": "<|endoftext|>"}, "pad_token": "a"}
    _, other = pinned(checkpoint(tmp_path / "named", tokenizer_config=named))
    assert (other.end_of_text_id, other.mask_id) == (1, 0)
    assert other.pad_id == byte_level(["<|endoftext|>", "[MASK]"]).token_to_id("a")
    assert usual.first_word_id == 0  # any id, as the special tokens are not the first three


def test_the_bytes_of_a_byte_level_tokenizer_add_up(tmp_path: Path) -> None:
    tokenizer = byte_level(["<|endoftext|>"])
    tokenizer.add_tokens(["中文"])
    lengths = checkpoint_token_bytes(json.loads(tokenizer.to_str()), tokenizer.get_vocab_size())
    assert lengths is not None
    for text in ("the cat, 中文诗句", " spaces  and\ttabs\n", "naïve"):
        assert lengths[tokenizer.encode(text, add_special_tokens=False).ids].sum() == len(text.encode())
    assert lengths[tokenizer.token_to_id("<|endoftext|>")] == 0


def test_a_tokenizer_whose_tokens_are_not_the_bytes_of_a_text_has_none() -> None:
    changing, spaced, pieces = byte_level([]), byte_level([]), Tokenizer(models.WordPiece())
    changing.normalizer = normalizers.Lowercase()
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for tokenizer in (changing, spaced, pieces):
        assert checkpoint_token_bytes(json.loads(tokenizer.to_str()), 300) is None


def test_a_model_of_the_hub_is_pinned_to_a_commit_and_read_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    checkpoint(tmp_path / "model")
    asked: list[dict[str, Any]] = []

    class Info:
        sha = COMMIT

    def download(repo: str, **options: Any) -> str:
        asked.append({"repo": repo, **options})
        return str(tmp_path / "model")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, repo, revision: Info())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model, _ = pinned(Checkpoint(repo="someone/model"))
    assert model.revision == COMMIT
    assert asked[0]["repo"] == "someone/model"
    assert asked[0]["revision"] == COMMIT
    assert not [name for name in asked[0]["allow_patterns"] if name.endswith((".py", ".bin", "*"))]
    assert pinned(Checkpoint(path=str(tmp_path / "model")))[0].content == model.content


def test_a_hub_that_cannot_be_reached_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ValueError, match=r"revision='main' cannot be resolved \(no route\)"):
        pinned(Checkpoint(repo="someone/model"))
    with pytest.raises(ValueError, match=r"model\.repo='someone/model' cannot be read: no route$"):
        pretrained.folder_of(Checkpoint(repo="someone/model", revision=COMMIT))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "path or repo: wanted one of the two"),
        ({"path": "a", "repo": "b/c"}, "path or repo: wanted one of the two"),
        ({"path": "a", "revision": COMMIT}, "revision goes with repo"),
    ],
)
def test_a_checkpoint_lies_in_one_place(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoint(**fields)


def test_a_checkpoint_is_looked_at_without_torch(tmp_path: Path) -> None:
    checkpoint(tmp_path / "model")
    code = (
        "import sys; from scaling.data.pretrained import pinned; from scaling.model import Checkpoint;"
        f"print(pinned(Checkpoint(path={str(tmp_path / 'model')!r}))[0].anatomy.num_params,"
        " [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.split(maxsplit=1)[1].strip() == "[]"
