"""W&B, while a run is made: one W&B run per point, written by rank 0, offline by default.

The log alone must do for the analysis. Schema 1:

config    schema, fingerprint, results_version (identity.py), spec (the whole RunSpec), num_params (N),
          flops_per_token, environment (versions and hardware), data_card (schema, recipe and budget of this run, as in
          the study's data_card.json: what was read, dropped and why, kept; what the budget repeats; no document ids)
history   by `tokens`, at each look at the loss: train/loss, train/lr, train/grad_norm,
          perf/tokens_per_second (since the last look, without evaluation and checkpoints),
          perf/mfu (model FLOPs over the peak of the run's devices in its precision, where that is known),
          perf/memory_bytes (the most so far: allocated on the GPU, or resident on a CPU; of rank 0),
          phase/start, data, train, evaluate, checkpoint (seconds so far since this attempt began: until the first
          step is taken, waiting for examples, further steps, evaluating, keeping and exporting states);
          and per EvalPoint
          eval/at_decay_end, eval/<domain>/loss, sum_nats, num_tokens and, for causal LM, num_bytes, bpb
summary   state, error, ledger/..., flops (C), seconds (of all attempts), phase/..., trunk/start_tokens, trunk/key,
          schedule/ends_at_tokens, schedule/final_lr_frac (of the last step, of the peak; see train/schedule.py),
          steps_left_out (of those trained, for a loss or gradient that was no number, or overflowed fp16),
          elastic (it went on under another placement: equal to float tolerance, not in bits)

Of children, job_type finetune or compress. config: schema, fingerprint, results_version, spec (the whole, with that of
          the parent), num_params (N of the model, without embeddings), environment, task_data (TaskData.facts, and
          what was made of the training rows)
history   by `examples` (rows trained on): train/*, perf/examples_per_second, perf/memory_bytes, phase/*; and at each
          evaluation task/<task>/validation/<metric>
summary   state, error, seconds, phase/..., examples, steps, best_step, num_train_rows, steps_left_out, elastic,
          task/<task>/<metric>, with _lo and _hi (of test, 95 %), task/<task>/num_items, task/<task>/details (JSON),
          task/<task>/validation/<metric>, with _lo and _hi; baseline/<name>/<metric>, with _lo and _hi;
          parent/fingerprint, parent/tokens (0 where it starts from the parent's first weights), parent/unique_tokens,
          parent/flops, parent/loss/<domain>, parent/ledger/<domain>/{weight,realised_weight,tokens,unique_tokens};
          of a compression cost/{bytes,latency_ms_batch1,latency_ms_batch32,rows_per_second_batch1,
          rows_per_second_batch32,peak_memory_bytes,num_params,nonzero_params}, the same under cost/original/..., and
          task_original/<task>/<metric>

A restart writes a further file under the same run id and repeats the points it resumed from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wandb
import wandb.sdk.launch  # wandb.init imports it: most of a second in each run, if not done here before the fork

from scaling.child import AnySpec, CompressSpec, FinetuneSpec, job_type
from scaling.identity import COMPRESS_VERSION, FINETUNE_VERSION, RESULTS_VERSION, digest, directory_name, fingerprint
from scaling.record import EvalPoint, Measurement
from scaling.spec import RunSpec

SCHEMA = 1
VERSIONS: dict[type[AnySpec], int] = {
    RunSpec: RESULTS_VERSION,
    FinetuneSpec: FINETUNE_VERSION,
    CompressSpec: COMPRESS_VERSION,
}


class Tracker:
    """The W&B run of one training, opened and written by a thread, in order: training does not wait for it.

    What goes wrong there is raised by the next call. A killed process loses what is not yet written; the points are
    safe in `points.jsonl`, and a restart repeats them.
    """

    def __init__(self, spec: AnySpec, run_dir: Path, facts: dict[str, Any]) -> None:
        """Open the log in `run_dir/wandb`. facts: N, FLOPs per token and environment, for the config."""
        os.environ["WANDB_SILENT"] = "true"
        os.environ["WANDB_MODE"] = spec.tracking.mode  # else an offline run makes ready to send telemetry
        os.environ.pop("WANDB_SERVICE", None)  # one shared with other runs would hold the id of a killed run
        self._amount = "tokens" if isinstance(spec, RunSpec) else "examples"
        self._writer = ThreadPoolExecutor(1, "wandb")
        self._last: Future[None] = Future()
        self._last.set_result(None)
        self._later(lambda: self._open(spec, run_dir, facts))

    def _open(self, spec: AnySpec, run_dir: Path, facts: dict[str, Any]) -> None:
        identity = fingerprint(spec)
        self._run = wandb.init(
            dir=run_dir,
            project=spec.tracking.project,
            entity=spec.tracking.entity,
            mode=spec.tracking.mode,
            id=digest(spec.study.name)[:8] + identity[:16],
            name=directory_name(spec),
            group=spec.study.name,
            job_type=job_type(spec),
            resume="allow" if spec.tracking.mode == "online" else None,
            config={
                "schema": SCHEMA,
                "fingerprint": identity,
                "results_version": VERSIONS[type(spec)],
                "spec": spec.model_dump(mode="json"),
                **facts,
            },
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_save_requirements=False,  # 0.1 to 0.3 s; what counts is in the environment
            ),
        )
        self._run.define_metric(self._amount)
        for prefix in ("train", "perf", "phase", "eval", "task"):
            self._run.define_metric(f"{prefix}/*", step_metric=self._amount)

    def _later(self, write: Callable[[], object]) -> None:
        """Have it done after all before. Raises what went wrong with one of those."""
        before = self._last
        if before.done():
            before.result()

        def after() -> None:
            before.result()
            write()

        self._last = self._writer.submit(after)

    def _log(self, row: dict[str, Any]) -> None:
        row["_timestamp"] = time.time()  # of what happened, not of its writing
        self._later(lambda: self._run.log(row))

    def data_card(self, card: dict[str, Any]) -> None:
        """Add the run's data card, JSON, to the config."""
        self.config({"data_card": card})

    def config(self, facts: dict[str, Any]) -> None:
        """Add what is known by now to the config, JSON."""
        self._later(lambda: self._run.config.update(facts, allow_val_change=True))

    def training(self, amount: int, facts: dict[str, float]) -> None:
        """Log a look at the training after so many tokens, or rows, by the names of the schema."""
        self._log({self._amount: amount, **facts})

    def measurement(self, task: str, measurement: Measurement) -> None:
        """Log what validation came to."""
        metrics = {f"task/{task}/validation/{name}": value for name, value in measurement.metrics.items()}
        self._log({self._amount: measurement.examples, **metrics})

    def point(self, point: EvalPoint) -> None:
        """Log one EvalPoint with its exact sums."""
        row: dict[str, Any] = {"tokens": point.tokens, "eval/at_decay_end": point.at_decay_end}
        for domain, sums in point.domains.items():
            row[f"eval/{domain}/loss"] = sums.loss
            row[f"eval/{domain}/sum_nats"] = sums.sum_nats
            row[f"eval/{domain}/num_tokens"] = sums.num_tokens
            if sums.num_bytes is not None:
                row[f"eval/{domain}/num_bytes"] = sums.num_bytes
                row[f"eval/{domain}/bpb"] = sums.bits_per_byte
        self._log(row)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary and close the log, all written."""
        self._later(lambda: self._close(summary))
        self._writer.shutdown()
        self._last.result()

    def _close(self, summary: dict[str, Any]) -> None:
        self._run.summary.update(summary)
        self._run.finish(exit_code=0 if summary["state"] == "complete" else 1)
        wandb.teardown()  # the service may still be writing; a report right after must find the whole log
