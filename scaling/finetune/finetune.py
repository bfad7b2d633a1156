"""The fine-tuning loop."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from scaling.child import FinetuneSpec
from scaling.finetune.batches import task_batches
from scaling.finetune.begin import Begin, Whole, at_rest, begin
from scaling.finetune.export import export
from scaling.finetune.methods import after_step, groups, load_method_state, method_state
from scaling.finetune.outcome import parent_facts, task_facts, values, write_predictions
from scaling.finetune.predict import Trained, free
from scaling.finetune.recorder import Recorder
from scaling.finetune.start import BEST, METHOD, find_start, load, remembered
from scaling.finetune.trial import finetuning_trial
from scaling.identity import fingerprint
from scaling.ranks import Vote, device_of, from_rank_0, join_ranks, leave_ranks, this_rank
from scaling.record import Measurement
from scaling.task import metric_of
from scaling.train.checkpoint import keep_newest, save_checkpoint
from scaling.train.divergence import check_left_out, check_numbers
from scaling.train.engine import DTYPES, Look, open_engine
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.probe import with_micro_batch
from scaling.train.profile import profiled

log = logging.getLogger(__name__)

STEPS_BETWEEN_LOOKS = 20
"""Steps between looks at the loss: a look waits for the device."""


def finetune(spec: FinetuneSpec, run_dir: Path, cache: Path, stop: Stop) -> None:
    """Fine-tune one run to its end, from its last checkpoint if there is one.

    Every rank calls it. Raises DivergedError, PreemptedError, ValueError; whatever it raises is in the run's record.
    """
    join_ranks(spec)
    try:
        with Recorder(spec, run_dir, stop) as recorder:
            _finetune(spec, run_dir, cache, recorder, stop)
    finally:
        leave_ranks()


def _finetune(spec: FinetuneSpec, run_dir: Path, cache: Path, recorder: Recorder, stop: Stop) -> None:
    opened = begin(spec, run_dir, cache)
    spec = with_micro_batch(spec, cache, finetuning_trial(spec, opened))
    recorder.config({"task_data": opened.facts})
    trained_on = parent_facts(spec, opened.parent)
    learned = _train(spec, run_dir, opened, recorder, stop)
    free(device_of(spec))  # for the whole model
    whole = learned.whole or opened.whole(learned.weights)
    with recorder.during("evaluate"):
        facts, scores = _measure(spec, run_dir, opened, whole)
        against = opened.baseline(cache)
    with recorder.during("checkpoint"):
        export(spec, run_dir, opened, whole)
    recorder.complete({**learned.facts, **facts, **against, **trained_on}, scores)
    if this_rank() == 0:
        shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Learned:
    """The weights that are kept of a training, with what its method remembers, by name; and how it went.

    whole: the model with these weights, where it need not be built again.
    """

    weights: dict[str, Tensor]
    whole: Whole | None
    facts: Mapping[str, float]


def _train(spec: FinetuneSpec, run_dir: Path, opened: Begin, recorder: Recorder, stop: Stop) -> Learned:
    total, size = spec.num_steps(len(opened.train)), spec.batch.num_sequences
    due, metric = evaluation_steps(spec, total), metric_of(spec.task)
    start = find_start(spec, run_dir, total)
    recorder.goes_on(start.step, size)
    (model, module), state = opened.built(), start.state
    recorder.config({"num_trainable_params": sum(p.numel() for p in module.parameters() if p.requires_grad)})
    best: dict[str, Tensor] = {}
    if state is not None:
        load(module, state.weights)
        # copies, aligned as they would be had the run not been cut off: else sums may round otherwise
        best = {name: value.clone() for name, value in remembered(state.besides, BEST).items()}
    frozen = {name: weight.data for name, weight in module.named_parameters() if not weight.requires_grad}
    engine = open_engine(spec, module, state, groups(module, spec.method, spec.optimizer))
    if state is not None:
        load_method_state(module, spec.method, remembered(state.besides, METHOD))

    def of_method() -> dict[str, Tensor]:
        return {METHOD + name: value for name, value in method_state(module, spec.method).items()}

    def keep(done: int) -> None:
        """A checkpoint; every rank takes part, rank 0 writes."""
        with recorder.during("checkpoint"):
            state = engine.state(done, start.numerics)
            besides = {**of_method(), **{BEST + name: value for name, value in best.items()}}
            if this_rank() == 0:
                save_checkpoint(run_dir / "checkpoints", replace(state, besides=besides), fingerprint(spec))
                keep_newest(run_dir / "checkpoints", 2)

    done, vote = start.step, Vote()
    batches = task_batches(spec, opened.train, opened.kind.is_per_token, start.step, total, engine.device)
    for batch in recorder.steps(profiled(spec, run_dir, batches), size):
        if vote.any(stop.is_requested):
            if batch.step > start.step:
                _check(engine.look(), spec, batch.step)  # what has diverged is nothing to go on from
                keep(batch.step)
            raise PreemptedError
        learning_rate = spec.optimizer.learning_rate * learning_rate_factor(spec, batch.step, total)
        engine.train(batch, learning_rate)
        done = batch.step + 1
        after_step(module, spec.method, done, total)
        stop.raises = False  # from now on there is something to lose

        is_look, is_due = done % STEPS_BETWEEN_LOOKS == 0, done in due
        if not (is_look or is_due):
            continue
        look = engine.look()  # waits for the device
        _check(look, spec, done)
        recorder.training(done * size, look.losses[-1], learning_rate, look.grad_norms[-1])
        if is_due:
            with recorder.during("evaluate"):
                found = opened.measured(engine, opened.validation)
            recorder.measured(Measurement(done, done * size, values(found)))
            if spec.method.keep == "best" and is_best(recorder.measurements, metric):
                best = {**engine.weights(), **of_method()}
            if should_stop(spec, recorder.measurements):
                log.info("stops early, after %d of %d steps", done, total)
                break
        if is_look and done < total and from_rank_0(recorder.checkpoint_is_due()):
            keep(done)
            recorder.checkpoint_written()

    vote.close()
    num_left_out = check_left_out(spec, done, engine.num_updates())
    weights = best or {**engine.weights(), **of_method()}
    whole = None
    if not spec.needs_deepspeed:  # which leaves its own in the module
        load_method_state(module, spec.method, remembered(weights, METHOD))
        whole = Whole(model, module, {**frozen, **weights})
        at_rest(whole)
    facts = {
        "examples": done * size,
        "steps": done,
        "best_step": best_measurement(recorder.measurements, metric).step if best else done,
        "num_train_rows": len(opened.train),
        "steps_left_out": num_left_out,
        "elastic": start.numerics is None,
    }
    return Learned(weights, whole, facts)


def _measure(
    spec: FinetuneSpec, run_dir: Path, opened: Begin, whole: Whole
) -> tuple[dict[str, object], dict[str, float]]:
    """Validation and test by the weights that are kept. What is to be recorded of it, and the metrics of test."""
    model = Trained(whole.module, device_of(spec), DTYPES[spec.precision])
    validation = opened.measured(model, opened.validation)
    given = opened.answers(model, opened.test)
    test = opened.kind.measure(opened.test.items, given, chosen_on=validation)
    if this_rank() != 0:
        return {}, {}
    write_predictions(run_dir / "predictions.jsonl", opened.kind, opened.test.items, given)
    return task_facts(spec, validation, test), values(test)


# ---- how long, how fast, how good ----------------------------------------------------------------------


def evaluation_steps(spec: FinetuneSpec, num_steps: int) -> set[int]:
    """After which steps validation is measured: evenly spaced, the last among them."""
    count = spec.measuring.num_evaluations
    return {max(1, round(num_steps * number / count)) for number in range(1, count + 1)}


def learning_rate_factor(spec: FinetuneSpec, step: int, num_steps: int) -> float:
    """The factor in (0, 1] for optimiser step `step`, counted from 0: it would be 0 at the step after the last."""
    warmup = round(spec.schedule.warmup_frac * num_steps)
    return min((step + 1) / (warmup + 1), (num_steps - step) / max(1, num_steps - warmup))


def best_measurement(measurements: list[Measurement], metric: str) -> Measurement:
    """The best so far, of equals the first; what is no number is worst."""
    return max(measurements, key=lambda each: _worth(each, metric))


def is_best(measurements: list[Measurement], metric: str) -> bool:
    """Whether the last is better than all before; every rank gets the same answer."""
    return bool(from_rank_0(best_measurement(measurements, metric) is measurements[-1]))


def should_stop(spec: FinetuneSpec, measurements: list[Measurement]) -> bool:
    """Whether validation has not become better for as long as the method has patience."""
    if spec.method.early_stopping is None:
        return False
    best = best_measurement(measurements, metric_of(spec.task))
    num_since = len(measurements) - 1 - measurements.index(best)
    return bool(from_rank_0(num_since >= spec.method.early_stopping.patience))


def _worth(measurement: Measurement, metric: str) -> float:
    value = measurement.metrics[metric]
    return -math.inf if math.isnan(value) else value


def _check(look: Look, spec: FinetuneSpec, done: int) -> None:
    steps = np.arange(done - len(look.losses), done)
    check_numbers(look, spec, steps, np.zeros(len(steps), dtype=bool))
