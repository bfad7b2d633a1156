"""Studies with a planted truth, as the W&B logs that real runs leave.

One genuine wandb run costs more than a second, so logs are written here in wandb's framing; that the reader reads
genuine files is tested on genuine files (test_wandb_file.py).
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from wandb.proto import wandb_internal_pb2 as pb

from analysis.laws.power import PowerLaw

SIZES = tuple(62_500 * 2**i for i in range(6))
EVAL_TOKENS = 20_000
DOMAINS = ("code", "docs")
RICH, POOR = {"docs": 0.8, "code": 0.2}, {"docs": 0.2, "code": 0.8}


def mixture_law(weights: Mapping[str, float], domain: str) -> PowerLaw:
    """A planted law: a token of a domain's own text is worth one, any other a quarter."""
    worth = 0.25 + 0.75 * weights.get(domain, 0.0)
    return PowerLaw(E=1.5, B=60.0 * worth**-0.25, beta=0.25)


def spec(num_tokens: int, seed: int, weights: Mapping[str, float] = RICH, **changes: Any) -> dict[str, Any]:
    """A RunSpec as it is logged. changes: dotted paths with __ for the dots."""
    tree: dict[str, Any] = {
        "name": "run",
        "study": {
            "name": "demo",
            "question": "Do docstrings or source code buy more per token?",
            "target": "docs",
            "match": "tokens",
            "hold_out": 1,
        },
        "recipe": {
            "corpus": {
                "domains": {d: {"kind": "embedded", "part": d} for d in DOMAINS},
                "references": {},
                "validation_frac": 0.05,
            },
            "degraders": [],
            "decontamination": {"kind": "ngram", "n": 13, "tests": [], "max_documents": 10},
            "dedup": {"kind": "exact", "scope": "domain"},
            "filters": [],
            "quality": None,
            "mixture": {"kind": "weights", "weights": dict(weights)},
            "order": {"kind": "shuffled"},
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 1024, "domains": list(DOMAINS), "num_bytes": 1_000_000},
        "model": {"kind": "llama", "hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 128},
        "objective": {"kind": "clm"},
        "budget": {"num_tokens": num_tokens, "unique_tokens": None, "repetition": None, "max_epochs": 1.0},
        "schedule": {"kind": "wsd", "warmup_tokens": 10_000, "decay_frac": 0.2},
        "optimizer": {"kind": "adamw", "learning_rate": 0.01},
        "hyperparameters": {"kind": "fixed"},
        "batch": {"num_sequences": 4, "sequence_length": 128, "isolate_documents": False},
        "precision": "fp32",
        "seeds": {"init": seed, "order": seed, "subset": 0},
        "evaluation": {"max_tokens": EVAL_TOKENS, "every_tokens": None},
        "content": {d: hashlib.sha256(d.encode()).hexdigest() for d in DOMAINS},
        "zero": {"stage": 0, "offload": "none"},  # as recorded before the offloads had keys of their own
        "placement": {"device": "auto", "ranks": 1},
        "tracking": {"mode": "offline", "project": "scaling", "entity": None},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        branch = tree
        for key in parents:
            branch = branch[key]
        branch[last] = value
    return tree


def weights_of(tree: Mapping[str, Any]) -> dict[str, float]:
    """The weights that the ledger of a run tells. Mixtures that are computed get planted ones."""
    mixture, domains = tree["recipe"]["mixture"], sorted(tree["recipe"]["corpus"]["domains"])
    if "weights" in mixture:
        return dict(mixture["weights"])
    if "stages" in mixture:
        stages = mixture["stages"]
        return {d: sum(stage["weights"].get(d, 0.0) for stage in stages) / len(stages) for d in domains}
    if mixture["kind"] == "temperature":
        sizes = np.arange(1, len(domains) + 1) ** float(mixture["exponent"])
        return dict(zip(domains, (sizes / sizes.sum()).tolist(), strict=True))
    draw = np.random.default_rng(mixture["index"]).dirichlet(np.full(len(domains), 2.0))
    return dict(zip(domains, draw.round(6).tolist(), strict=True))


def fingerprint(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def eval_row(tokens: int, losses: Mapping[str, float], at_decay_end: bool = True) -> dict[str, Any]:
    """One EvalPoint as it is logged."""
    row: dict[str, Any] = {"tokens": tokens, "eval/at_decay_end": at_decay_end}
    for domain, loss in losses.items():
        row |= {
            f"eval/{domain}/loss": round(loss, 3),  # the analysis must use the sums
            f"eval/{domain}/sum_nats": loss * EVAL_TOKENS,
            f"eval/{domain}/num_tokens": EVAL_TOKENS,
            f"eval/{domain}/num_bytes": EVAL_TOKENS * 3,
            f"eval/{domain}/bpb": 1.0,
        }
    return row


def config_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "fingerprint": fingerprint(tree),
        "results_version": 3,
        "spec": tree,
        "num_params": 100_000,
        "num_params_total": 165_000,
        "flops_per_token": 700_000.0,
        "environment": {"python": "3.11.7", "torch": "2.13.0", "device": "cpu", "cpu": "AMD EPYC", "scaling": "0.1.0"},
    }


def summary_of(tree: Mapping[str, Any], trunk_tokens: int = 0, offered: int | None = None) -> dict[str, Any]:
    """The summary of a complete run. offered: unique tokens of the whole corpus, where that is less than D."""
    tokens = tree["budget"]["num_tokens"]
    offered = tree["budget"]["unique_tokens"] or offered or tokens
    weights = weights_of(tree)
    facts: dict[str, Any] = {
        "state": "complete",
        "flops": 700_000.0 * tokens,
        "seconds": tokens / 30_000,
        "trunk/start_tokens": trunk_tokens,
        "trunk/key": "",
        "schedule/ends_at_tokens": tokens,
        "schedule/final_lr_frac": 0.01,
        "ledger/tokens": tokens,
        "ledger/unique_tokens": min(offered, tokens),
        "ledger/sequences": tokens // 128,
    }
    for domain in tree["recipe"]["corpus"]["domains"]:
        weight = weights.get(domain, 0.0)
        facts |= {
            f"ledger/{domain}/weight": weight,
            f"ledger/{domain}/realised_weight": weight,
            f"ledger/{domain}/tokens": round(tokens * weight),
            f"ledger/{domain}/unique_tokens": round(min(offered, tokens) * weight),
            f"ledger/{domain}/epochs": max(1.0, tokens / offered) if weight else 0.0,
            f"ledger/{domain}/planted_tokens": 0,
            f"ledger/{domain}/documents": 500,
            f"ledger/{domain}/dropped/duplicate": 12,
        }
    return facts


# ---- logs on disk --------------------------------------------------------------------------------


def log_bytes(payloads: Sequence[bytes]) -> bytes:
    """Records in wandb's framing: 7-byte header, 32 KiB blocks, plain CRC-32 of type and data."""
    out = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for payload in payloads:
        data, begun = payload, False
        while True:
            left = 32768 - len(out) % 32768
            if left < 7:
                out += bytes(left)
                continue
            piece, data = data[: left - 7], data[left - 7 :]
            kind = (3 if begun else 2) if data else (4 if begun else 1)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            begun = True
            if not data:
                break
    return bytes(out)


def log_records(
    name: str,
    config: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    start_seconds: int = 0,
) -> list[pb.Record]:
    """The records of one offline run; summary None: the run was killed."""
    run = pb.Record()
    run.run.run_id = hashlib.sha256(name.encode()).hexdigest()[:16]
    run.run.display_name, run.run.project, run.run.job_type = name, "scaling", "pretrain"
    run.run.start_time.seconds = start_seconds
    _items(run.run.config.update, config)
    records = [run]
    for row in history:
        record = pb.Record()
        for key, value in row.items():
            item = record.history.item.add()
            item.nested_key.append(key)
            item.value_json = json.dumps(value)
        records.append(record)
    if summary is not None:
        record = pb.Record()
        _items(record.summary.update, summary)
        end = pb.Record()
        end.exit.exit_code = 0
        records += [record, end]
    return records


def _items(update: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        item = update.add()
        item.key, item.value_json = key, json.dumps(value)


def write_log(
    folder: Path,
    tree: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    name: str | None = None,
    start_seconds: int = 0,
) -> Path:
    """Write one run's offline log where wandb would write it."""
    name = name or f"run-{fingerprint(tree)[:8]}"
    records = log_records(name, config_of(tree), history, summary, start_seconds)
    directory = fingerprint(tree)[:8]
    path = folder / directory / "wandb" / f"offline-run-{start_seconds}-x" / f"run-{records[0].run.run_id}.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log_bytes([record.SerializeToString() for record in records]))
    return path


Law = Callable[[Mapping[str, Any], str], PowerLaw]


def write_study(
    folder: Path,
    trees: Sequence[Mapping[str, Any]],
    law: Law = lambda tree, domain: mixture_law(weights_of(tree), domain),
    seed_sd: float = 0.003,
    point_sd: float = 0.002,
    loss: Callable[[Mapping[str, Any], str], float] | None = None,
    offered: Callable[[Mapping[str, Any]], int | None] = lambda tree: None,
) -> Path:
    """Write the logs of complete runs whose losses follow a law, with noise shared by the runs of one seed."""
    for tree in trees:
        tokens = tree["budget"]["num_tokens"]
        losses = {}
        for domain in tree["recipe"]["corpus"]["domains"]:
            trunk = json.dumps([tree["recipe"], tree["budget"]["unique_tokens"], tree["seeds"], domain], sort_keys=True)
            shared = _rng(trunk).normal(0, seed_sd)
            own = _rng(trunk + str(tokens)).normal(0, point_sd)
            clean = loss(tree, domain) if loss else float(law(tree, domain).loss(tokens))
            losses[domain] = clean * float(np.exp(shared + own))
        history = [
            {"tokens": tokens // 2, "train/loss": 5.0, "train/lr": 0.01},
            eval_row(tokens // 2, {d: 1.1 * value for d, value in losses.items()}, at_decay_end=False),
            eval_row(tokens, losses),
        ]
        trunk_tokens = 0 if tokens == SIZES[0] else int(tokens * 0.4)
        write_log(folder, tree, history, summary_of(tree, trunk_tokens, offered(tree)))
    return folder


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))


def demo_trees(num_seeds: int = 3, sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """Two mixtures x seeds x sizes."""
    return [spec(D, seed, weights) for weights in (RICH, POOR) for seed in range(num_seeds) for D in sizes]
