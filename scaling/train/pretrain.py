"""The pretraining loop."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import numpy as np
import torch

from scaling.data.ledger import ledger
from scaling.data.prepare import open_stream, packed, prepare
from scaling.evaluate.loss import evaluate
from scaling.identity import fingerprint
from scaling.ranks import Vote, from_rank_0, join_ranks, leave_ranks, this_rank
from scaling.record import EvalPoint
from scaling.spec import RunSpec, check_pretrains
from scaling.train.batches import batches
from scaling.train.checkpoint import keep_newest, save_checkpoint
from scaling.train.divergence import check_left_out, check_numbers
from scaling.train.engine import Look, TrainState, open_engine
from scaling.train.model import build_model, export_tokenizer, leaving_model
from scaling.train.objective import TokenLoss
from scaling.train.preemption import PreemptedError, Stop
from scaling.train.probe import pretraining_trial, with_micro_batch
from scaling.train.profile import profiled
from scaling.train.recorder import Recorder
from scaling.train.schedule import learning_rate_factor
from scaling.train.scoring import Scores
from scaling.train.start import Start, find_start
from scaling.train.trunk import Trunk

log = logging.getLogger(__name__)

STEPS_BETWEEN_LOOKS = 20
"""Steps between looks at the loss: a look waits for the device."""


def pretrain(spec: RunSpec, run_dir: Path, cache: Path, stop: Stop) -> None:
    """Train one run to the end of its budget, from wherever a checkpoint or a trunk lets it begin.

    Every rank calls it. Raises DivergedError, PreemptedError; whatever it raises is in the run's record.
    """
    check_pretrains(spec)
    join_ranks(spec)
    try:
        spec = with_micro_batch(spec, cache, pretraining_trial(spec))
        trunk = Trunk(spec, cache)
        start = find_start(spec, run_dir, trunk, stop)
        with Recorder(spec, run_dir, start, stop) as recorder:
            _train(spec, run_dir, cache, start, trunk, recorder, stop)
    finally:
        leave_ranks()


def _train(
    spec: RunSpec, run_dir: Path, cache: Path, begin: Start, trunk: Trunk, recorder: Recorder, stop: Stop
) -> None:
    prepared = prepare(spec, cache, log.info)
    stream = open_stream(spec, prepared)
    recorder.data(prepared, stream)
    validation = {name: packed(kept, spec.batch.sequence_length) for name, kept in prepared.validation.items()}
    engine = open_engine(spec, _module(spec, begin.state), begin.state, cache=cache)
    scores, rate = Scores(spec, engine), spec.optimizer.learning_rate
    vote = Vote()

    for batch in recorder.steps(profiled(spec, run_dir, batches(spec, stream, begin.step))):
        if vote.any(stop.is_requested):
            if batch.step > begin.step:
                check(engine.look(), spec, batch.step)  # what has diverged is nothing to go on from
                _checkpoint(spec, run_dir, engine.state(batch.step, begin.numerics))
                recorder.reached(batch.step * spec.batch.num_tokens)
            raise PreemptedError
        learning_rate = rate * learning_rate_factor(spec, batch.step)
        engine.train(batch, learning_rate)
        stop.raises = False  # from now on there is something to lose

        done, tokens = batch.step + 1, (batch.step + 1) * spec.batch.num_tokens
        is_last, is_look = done == spec.num_steps, done % STEPS_BETWEEN_LOOKS == 0
        is_left = trunk.is_due(done)
        is_point = is_last or _crosses(spec.evaluation.every_tokens, tokens, spec.batch.num_tokens)
        if not (is_look or is_left or is_point):
            continue

        look = engine.look()  # waits for the device
        check(look, spec, done)
        if is_look or is_last:
            recorder.training(tokens, look.losses[-1], learning_rate, look.grad_norms[-1])
        if is_point:
            with recorder.during("evaluate"):
                losses = evaluate(spec, scores, validation, prepared.token_bytes)
            recorder.point(EvalPoint(tokens, is_last, losses))
        if is_look:
            trunk.look(done)
        is_due = is_look and not is_last and from_rank_0(recorder.checkpoint_is_due())
        if is_left or is_due:
            with recorder.during("checkpoint"):
                state = engine.state(done, begin.numerics)  # a collective call: every rank takes part
                if is_left:
                    recorder.reached(tokens)
                    trunk.leave(state)
                if is_due:
                    _checkpoint(spec, run_dir, state)
                    recorder.checkpoint_written()

    vote.close()
    with recorder.during("checkpoint"):
        state = engine.state(spec.num_steps, None)
        _export(spec, run_dir, state, prepared.tokenizer.path)
    num_left_out = check_left_out(spec, state.step, engine.num_updates())
    recorder.complete(ledger(stream, stream.max_sequences, prepared.train, spec.recipe.corpus.domains), num_left_out)
    if this_rank() == 0:
        shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


def check(look: Look, spec: RunSpec, done: int) -> None:
    """DivergedError, with the step and its sequences, if the loss or gradient of a step up to `done` makes no sense.

    Neither may be anything but a number; and after the warmup, a loss of twice what guessing costs, ln V nats, says
    that the model gets worse by what it learns. Where steps without a number are left out, each is warned of.
    """
    steps = np.arange(done - len(look.losses), done)
    is_far = (look.losses > 2 * math.log(spec.tokenizer.vocab_size)) & (
        steps >= spec.schedule.warmup_tokens // spec.batch.num_tokens
    )
    check_numbers(look, spec, steps, is_far)


def _checkpoint(spec: RunSpec, run_dir: Path, state: TrainState) -> None:
    """Keep the state to resume from; rank 0 writes."""
    if this_rank() == 0:
        save_checkpoint(run_dir / "checkpoints", state, fingerprint(spec))
        keep_newest(run_dir / "checkpoints", 2)


@torch.no_grad()
def _module(spec: RunSpec, state: TrainState | None) -> TokenLoss:
    module = TokenLoss(build_model(spec))
    if state is not None:
        for name, parameter in module.named_parameters():
            parameter.copy_(state.weights[name])
    return module


def _export(spec: RunSpec, run_dir: Path, state: TrainState, tokenizer: Path) -> None:
    """Leave the trained model as a `transformers` folder with its tokenizer; rank 0 writes."""
    if this_rank() == 0:
        with leaving_model(run_dir) as folder:
            _module(spec, state).model.save_pretrained(folder)
            export_tokenizer(spec, tokenizer, folder)


def _crosses(every_tokens: int | None, tokens: int, batch_tokens: int) -> bool:
    """Whether the last batch passed a multiple of `every_tokens`."""
    return every_tokens is not None and tokens // every_tokens > (tokens - batch_tokens) // every_tokens
