"""Fine-tuning on labelled texts against `transformers.Trainer`, and how soon many small fine-tunings begin.

    python -m benchmarks.finetune --train sst2/train.jsonl.gz --validation sst2/validation.jsonl.gz \\
        --test sst2/test.jsonl.gz --text sentence

One epoch of BERT base (110 M parameters, or `--model tiny` for a look on a CPU), 32 rows a step, AdamW with linear
warmup and decay, dropout 0.1, from the same weights (random, or `--checkpoint FOLDER`), rows cut to 128 tokens by the
same tokenizer before the clock starts. Each side is a process of its own. Ours runs as a sweep starts it; the Trainer
computes in bf16 where we do, with fused AdamW, and pads each batch to its longest row; `grouped` is
`train_sampling_strategy=group_by_length`. Its time is its `train_runtime`, ours that of steps and batches in the log,
recording of graphs included, the first step aside.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.runs.wandb_file import read_log_file
from scaling.child import FinetuneSpec
from scaling.data.documents import content_fingerprint
from scaling.data.prepare import prepare_tokenizer
from scaling.data.pretrained import pinned
from scaling.data.tasks.read import read_task, resolve_task
from scaling.launch import launch, modules_of, start_server
from scaling.model import Checkpoint
from scaling.source import Local
from scaling.spec import RunSpec
from scaling.status import read_status
from scaling.task import Classification, LocalRows

MODELS = {
    "base": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072},
    "small": {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024},
    "tiny": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 256},
}
MAX_LENGTH, ROWS_PER_STEP, VOCABULARY = 128, 32, 30_522
PHASES = ("start", "train", "data", "evaluate", "checkpoint")
RATES = {"base": 3e-5, "small": 3e-4, "tiny": 1e-3}
"""3e-5 is what a pretrained BERT base is fine-tuned with; from random weights it learns too, if less."""


@dataclass(frozen=True)
class Result:
    """examples_per_second: while steps are taken. accuracy: on validation. seconds: of the whole process."""

    examples_per_second: float
    accuracy: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune", description=__doc__)
    for split in ("train", "validation", "test"):
        parser.add_argument(f"--{split}", type=Path, required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--checkpoint", type=Path, help="a transformers folder to start from, in place of --model")
    parser.add_argument("--rows", type=int, help="training rows; all by default")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--small-runs", type=int, default=8, help="of 500 rows each, one after another")
    parser.add_argument("--folder", type=Path, help="of runs and cache; a temporary one by default")
    parser.add_argument("--only", choices=["ours", "trainer", "grouped", "small"], nargs="*")
    arguments = parser.parse_args()
    wanted = arguments.only or ["ours", "trainer", "grouped", "small"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        spec = finetune_spec(arguments, folder)
        results: dict[str, Result] = {}
        for side in ("ours", "trainer", "grouped"):
            if side in wanted:
                results[side] = ours(spec, folder) if side == "ours" else theirs(spec, folder, side == "grouped")
                print(f"{side:10}", results[side], flush=True)
        for side in results.keys() & {"trainer", "grouped"}:
            if "ours" in results:
                ratio = results["ours"].examples_per_second / results[side].examples_per_second
                print(f"ours / {side}: {ratio:.2f} times the examples per second")
        if "small" in wanted:
            small_runs(arguments, folder)


def finetune_spec(arguments: argparse.Namespace, folder: Path, changes: dict[str, Any] | None = None) -> FinetuneSpec:
    """A fine-tuning from first weights, with a tokenizer of the task's own training texts."""
    cache = folder / "cache"
    texts = folder / "texts.jsonl"
    given = LocalRows(train=str(arguments.train), validation=str(arguments.validation), test=str(arguments.test))
    asked = Classification(name="task", rows=given, text=arguments.text, label=arguments.label)
    task, content = resolve_task(asked, cache)
    if not texts.exists():
        with texts.open("w", encoding="utf-8") as file:
            for item in read_task(task, cache).train:
                file.write(json.dumps({"id": item.id, "text": item.text}) + "\n")
    source = Local(path=str(texts), id="id")
    model: dict[str, Any] = {"kind": "bert", **MODELS[arguments.model]}
    tokenizer: dict[str, Any] = {
        "kind": "wordpiece",
        "vocab_size": VOCABULARY,
        "domains": ["texts"],
        "num_bytes": 100_000_000,
    }
    if arguments.checkpoint is not None:
        checkpoint, own = pinned(Checkpoint(path=str(arguments.checkpoint)))
        model, tokenizer = checkpoint.model_dump(mode="json"), own.model_dump(mode="json")
    study = {"name": "benchmark", "question": "How fast is it?", "target": "texts"}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parent = RunSpec.model_validate(
        {
            "name": "parent",
            "study": study,
            "recipe": {"corpus": {"domains": {"texts": source.model_dump()}}, "mixture": {"weights": {"texts": 1.0}}},
            "tokenizer": tokenizer,
            "model": model,
            "objective": {"kind": "mlm"},
            "budget": {"num_tokens": 10 * 8 * MAX_LENGTH},
            "schedule": {"kind": "wsd", "warmup_tokens": 8 * MAX_LENGTH, "decay_frac": 0.2},
            "optimizer": {"learning_rate": 1e-4},
            "batch": {"num_sequences": 8, "sequence_length": MAX_LENGTH},
            "content": {"texts": content_fingerprint(source, cache)},
        }
    )
    tree = {
        "name": "child",
        "study": study,
        "parent": parent.model_dump(mode="json"),
        "start": "initial",
        "task": task.model_dump(mode="json"),
        "content": content,
        "num_examples": arguments.rows,
        "batch": {"num_sequences": ROWS_PER_STEP, "max_length": MAX_LENGTH},
        "schedule": {"num_epochs": 1.0},
        "optimizer": {"learning_rate": RATES[arguments.model], "beta2": 0.999, "weight_decay": 0.01},
        "measuring": {"num_evaluations": 1},
        "precision": arguments.precision,
        "placement": {"device": device},
    }
    return FinetuneSpec.model_validate(tree | (changes or {}))


# ---- ours ----------------------------------------------------------------------------------------------


def launched(context: Any, spec: FinetuneSpec, folder: Path) -> tuple[Mapping[str, Any], float]:
    """The summary of a run in a process of its own, and how long that took in seconds."""
    began = time.perf_counter()
    process = launch(context, spec, folder, folder.parent / "cache")
    process.join()
    seconds = time.perf_counter() - began
    if read_status(folder).state != "complete":
        raise SystemExit((folder / "log.txt").read_text(encoding="utf-8")[-4000:])
    (log,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return read_log_file(log).summary, seconds


def ours(spec: FinetuneSpec, folder: Path) -> Result:
    """A run as a sweep starts it."""
    prepare_tokenizer(spec.parent, folder / "cache", print)
    context = start_server(modules_of([spec]))
    found, seconds = launched(context, spec, folder / "ours")
    stepping = found["phase/train"] + found["phase/data"]
    return Result(found["examples"] / stepping, found["task/task/validation/accuracy"], seconds)


def small_runs(arguments: argparse.Namespace, folder: Path) -> None:
    """How long runs of 500 rows take, in parts that add up: phases of the log, and what is outside of them.

    The start ends when the first step is taken; outside are the fork, and the end of W&B and of the process.
    """
    context = start_server(modules_of([finetune_spec(arguments, folder)]))
    for number in range(arguments.small_runs):
        changes = {"seed": number, "num_examples": 500, "schedule": {"num_epochs": 3.0}}
        spec = finetune_spec(arguments, folder, changes)
        found, seconds = launched(context, spec, folder / f"small-{number}")
        start, train, data, evaluate, checkpoint = (found[f"phase/{phase}"] for phase in PHASES)
        outside = seconds - start - train - data - evaluate - checkpoint
        print(
            f"small run {number}: {seconds:.2f} s = {start:.2f} to the end of the first step + {train + data:.2f} of"
            f" further steps + {evaluate:.2f} measuring + {checkpoint:.2f} keeping + {outside:.2f} outside of its log",
            flush=True,
        )


# ---- theirs --------------------------------------------------------------------------------------------


def theirs(spec: FinetuneSpec, folder: Path, is_grouped: bool) -> Result:
    """`transformers.Trainer`, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    began = time.perf_counter()
    process = context.Process(target=_train, args=(spec, folder, is_grouped, sender))
    process.start()
    sender.close()
    pace, accuracy = receiver.recv()
    process.join()
    return Result(pace, accuracy, time.perf_counter() - began)


def _train(spec: FinetuneSpec, folder: Path, is_grouped: bool, sender: Connection) -> None:
    from transformers import BertForSequenceClassification, Trainer, TrainingArguments

    from scaling.finetune.begin import begin
    from scaling.train.model import build_model

    opened = begin(spec, folder / "theirs", folder / "cache")
    body = build_model(spec.parent).base_model
    config = body.config
    config._attn_implementation = "sdpa"
    config.num_labels = len(opened.data.labels)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = spec.method.dropout
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    model.base_model.load_state_dict(body.state_dict(), strict=False)

    def rows(encoded: Any) -> list[dict[str, Any]]:
        return [{"input_ids": row.inputs, "labels": int(row.targets[0])} for row in encoded]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        length = -(-max(len(row["input_ids"]) for row in batch) // 8) * 8
        inputs = np.zeros((len(batch), length), dtype=np.int64)
        mask = np.zeros_like(inputs)
        for place, row in enumerate(batch):
            inputs[place, : len(row["input_ids"])] = row["input_ids"]
            mask[place, : len(row["input_ids"])] = 1
        labels = torch.tensor([row["labels"] for row in batch])
        return {"input_ids": torch.from_numpy(inputs), "attention_mask": torch.from_numpy(mask), "labels": labels}

    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=ROWS_PER_STEP,
            per_device_eval_batch_size=256,
            num_train_epochs=1,
            learning_rate=spec.optimizer.learning_rate,
            adam_beta2=spec.optimizer.beta2,
            weight_decay=spec.optimizer.weight_decay,
            max_grad_norm=spec.optimizer.max_grad_norm,
            warmup_steps=spec.schedule.warmup_frac,
            lr_scheduler_type="linear",
            bf16=spec.precision == "bf16",
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length" if is_grouped else "random",
            remove_unused_columns=False,
            logging_steps=500,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows(opened.train),
            data_collator=collate,
            compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
        )
        found = trainer.train().metrics
        accuracy = trainer.evaluate(rows(opened.validation.rows))["eval_accuracy"]
    sender.send((len(opened.train) / found["train_runtime"], accuracy))
    sender.close()


if __name__ == "__main__":
    main()
