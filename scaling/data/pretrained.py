"""The checkpoint that a run goes on from: where it lies, what its files say, and what they hold.

Weights are safetensors and nothing else: a pickle could run code. No code that comes with a model is run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scaling.data.hub import COMMIT
from scaling.data.rows import first_line
from scaling.files import file_sha256
from scaling.identity import digest
from scaling.model import GPT2_KEYS, Checkpoint, Model, anatomy
from scaling.tokenizer import CheckpointTokenizer

WEIGHTS = "model*.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
USUAL_SPELLINGS = {
    "eos": ("<|endoftext|>", "</s>", "[SEP]"),
    "mask": ("<|mask|>", "[MASK]", "<mask>"),
    "pad": ("<|pad|>", "[PAD]", "<pad>"),
}
"""How special tokens are spelled where no file names them, as in BERT's and GPT-2's own folders."""


def pinned(model: Checkpoint) -> tuple[Checkpoint, CheckpointTokenizer]:
    """The checkpoint with its commit, content and anatomy, and its tokenizer. ValueError for what is wrong with it."""
    if model.repo is not None:
        model = model.model_copy(update={"revision": _commit(model)})
    folder = folder_of(model)
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        pickles = [file.name for suffix in ("bin", "pt", "pth") for file in sorted(folder.glob(f"*.{suffix}"))]
        got = f"only pickles, which are never read: {pickles}" if pickles else "none"
        raise ValueError(f"{_where(model)}: wanted a folder with config.json and {WEIGHTS}, got {got}")
    config = _read_json(model, folder / "config.json")
    try:
        made_of = anatomy(config)
    except ValueError as error:
        raise ValueError(f"{_where(model)}: config.json: {error}") from None
    tokenizer = _tokenizer(model, folder, config)
    return model.model_copy(update={"content": content_of(folder), "anatomy": made_of}), tokenizer


def checked_folder(model: Checkpoint) -> Path:
    """Where the files of a pinned checkpoint are. ValueError if they are no longer those that it was pinned to."""
    folder = folder_of(model)
    if (found := content_of(folder)) != model.content:
        raise ValueError(
            f"{_where(model)} changed since this run was specified:"
            f" content {found[:8]}, wanted {str(model.content)[:8]}"
        )
    return folder


def checked_tokenizer(model: Model, tokenizer: CheckpointTokenizer) -> Path:
    """The tokenizer.json of a pinned checkpoint. ValueError if it is no longer the one that it was pinned to."""
    assert isinstance(model, Checkpoint), "a run with this tokenizer goes on from a checkpoint"
    path = folder_of(model) / "tokenizer.json"
    if not path.exists() or file_sha256(path) != tokenizer.content:
        raise ValueError(f"{_where(model)}: tokenizer.json changed since this run was specified")
    return path


def num_heads(model: Checkpoint) -> int:
    """Attention heads of each layer, those that share their keys counted once. ValueError if it cannot be read."""
    config = _read_json(model, folder_of(model) / "config.json")
    named = {GPT2_KEYS.get(key, key): value for key, value in config.items()}
    return int(named.get("num_key_value_heads") or named["num_attention_heads"])


def folder_of(model: Checkpoint) -> Path:
    """Where the files are; those of the hub are downloaded unless they are here. ValueError if there are none."""
    if model.path is not None:
        folder = Path(model.path).expanduser()
        if not folder.is_dir():
            raise ValueError(f"model.path: no such folder: {model.path!r}")
        return folder
    from huggingface_hub import snapshot_download

    wanted = ["config.json", WEIGHTS, "model.safetensors.index.json", *TOKENIZER_FILES]
    try:
        return Path(
            snapshot_download(str(model.repo), revision=model.revision, allow_patterns=wanted, ignore_patterns=["*/*"])
        )
    except Exception as error:  # the hub has no error of its own for "cannot be reached"
        raise ValueError(f"{_where(model)} cannot be read: {first_line(error)}") from error


def content_of(folder: Path) -> str:
    """A digest of config.json and the weights, wherever they lie."""
    files = [folder / "config.json", *sorted(folder.glob(WEIGHTS))]
    try:
        return digest({file.name: file_sha256(file) for file in files})
    except OSError as error:
        raise ValueError(f"model: {os.fspath(folder)!r} cannot be read: {first_line(error)}") from None


def _commit(model: Checkpoint) -> str:
    if model.revision is not None and COMMIT.fullmatch(model.revision):
        return model.revision
    from huggingface_hub import HfApi

    wanted = model.revision or "main"
    try:
        return str(HfApi().model_info(str(model.repo), revision=wanted).sha)
    except Exception as error:
        raise ValueError(
            f"model.repo={model.repo!r} revision={wanted!r} cannot be resolved ({first_line(error)}): "
            "give a revision of 40 hex digits, or a network"
        ) from error


def _tokenizer(model: Checkpoint, folder: Path, config: dict[str, Any]) -> CheckpointTokenizer:
    """What tokenizer.json holds; the ids of special tokens as the files name them, else by their usual spelling."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{_where(model)}: wanted a tokenizer.json beside the model, there is none")
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    named = _read_json(model, folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}

    def special(role: str) -> int | None:
        token = named.get(f"{role}_token")
        spelled = token.get("content") if isinstance(token, dict) else token
        given = config.get(f"{role}_token_id")
        number = given[0] if isinstance(given, list) else given
        if spelled in vocabulary:
            return int(vocabulary[spelled])
        if number is not None and number in vocabulary.values():
            return int(number)
        return next((vocabulary[usual] for usual in USUAL_SPELLINGS[role] if usual in vocabulary), None)

    end_of_text = special("eos")
    if end_of_text is None:
        raise ValueError(f"{_where(model)}: its tokenizer names no token for the end of a text (eos_token)")
    return CheckpointTokenizer(
        content=file_sha256(path),
        vocab_size=max(vocabulary.values()) + 1,
        end_of_text_id=end_of_text,
        mask_id=special("mask"),
        pad_id=special("pad"),
    )


def _read_json(model: Checkpoint, path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{_where(model)}: {path.name} cannot be read: {first_line(error)}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{_where(model)}: {path.name} must hold an object, got {type(tree).__name__}")
    return tree


def _where(model: Checkpoint) -> str:
    return f"model.path={model.path!r}" if model.path is not None else f"model.repo={model.repo!r}"
