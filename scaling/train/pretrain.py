"""The pretraining loop."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scaling.data.ledger import ledger
from scaling.data.prepare import open_stream, packed, prepare
from scaling.data.stream import MixtureStream
from scaling.evaluate.loss import evaluate
from scaling.identity import fingerprint
from scaling.record import EvalPoint
from scaling.spec import RunSpec
from scaling.train.checkpoint import keep_newest, save_checkpoint
from scaling.train.engine import Engine, TrainState, device_of, from_rank_0, join_ranks, leave_ranks
from scaling.train.model import build_model, export_tokenizer
from scaling.train.objective import TokenLoss, token_weight
from scaling.train.recorder import DivergedError, Recorder
from scaling.train.schedule import branch_step, learning_rate_factor
from scaling.train.start import Start, find_start
from scaling.train.trunk import leave_trunk

log = logging.getLogger(__name__)

STEPS_BETWEEN_LOOKS = 20
"""Steps between looks at the loss: a look waits for the device."""


def pretrain(spec: RunSpec, run_dir: Path, cache: Path) -> None:
    """Train one run to the end of its budget, from wherever a checkpoint or a trunk lets it begin.

    Every rank calls it. Raises DivergedError, DiskError; whatever it raises is in the run's record.
    """
    join_ranks(device_of(spec))
    try:
        start = find_start(spec, run_dir, cache)
        with Recorder(spec, run_dir, start) as recorder:
            _train(spec, run_dir, cache, start, recorder)
    finally:
        leave_ranks()


def _train(spec: RunSpec, run_dir: Path, cache: Path, begin: Start, recorder: Recorder) -> None:
    prepared = prepare(spec, cache, log.info)
    stream = open_stream(spec, prepared)
    recorder.data(prepared, stream)
    validation = {name: packed(kept, spec.batch.sequence_length) for name, kept in prepared.validation.items()}
    engine = Engine(spec, _module(spec, begin.state), begin.state)
    share = spec.batch.num_sequences // engine.num_ranks  # sequences per rank and step
    branch = branch_step(spec)

    for step in range(begin.step, spec.num_steps):
        batch = step * spec.batch.num_sequences
        first = batch + engine.rank * share
        weight = token_weight(spec.objective, _segments(spec, stream, batch, spec.batch.num_sequences))
        learning_rate = spec.optimizer.learning_rate * learning_rate_factor(spec, step)
        sum_loss = torch.zeros((), dtype=torch.float64, device=engine.device)
        for start in range(first, first + share, spec.micro_batch):
            draws = stream.uniforms(start, spec.micro_batch, engine.num_draws, "masks")
            segments = _segments(spec, stream, start, spec.micro_batch)
            nats, _ = engine.score(stream.batch(start, spec.micro_batch), draws, segments)
            loss = weight * nats.mean()  # their mean over ranks and micro-batches is that over all predicted tokens
            sum_loss += loss.detach()
            engine.backward(loss)
            grad_norm = engine.step(learning_rate)

        done, tokens = step + 1, (step + 1) * spec.batch.num_tokens
        is_last, is_look = done == spec.num_steps, done % STEPS_BETWEEN_LOOKS == 0
        if is_look or is_last:
            batch_loss = engine.sum_over_ranks(sum_loss).item() * spec.micro_batch / spec.batch.num_sequences
            if not math.isfinite(batch_loss):
                raise DivergedError(f"the loss is {batch_loss} after {tokens} tokens (step {done})")
            recorder.training(tokens, batch_loss, learning_rate, float(grad_norm))
        if is_last or _crosses(spec.evaluation.every_tokens, tokens, spec.batch.num_tokens):
            losses = evaluate(spec, engine, validation, prepared.token_bytes)
            recorder.point(EvalPoint(tokens, is_last, losses))
        is_branch = done == branch and begin.numerics is not None
        is_due = is_look and not is_last and from_rank_0(recorder.checkpoint_is_due())
        if is_branch or is_due:
            state = engine.state(done, begin.numerics)  # a collective call: every rank takes part
        if is_branch and engine.rank == 0:
            leave_trunk(spec, cache, state)
        if is_due:
            if engine.rank == 0:
                save_checkpoint(run_dir / "checkpoints", state, fingerprint(spec))
                keep_newest(run_dir / "checkpoints", 2)
            recorder.checkpoint_written()

    _export(spec, run_dir, engine, prepared.tokenizer.path)
    recorder.complete(ledger(stream, stream.max_sequences, prepared.train, spec.recipe.corpus.domains))
    if engine.rank == 0:
        shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


@torch.no_grad()
def _module(spec: RunSpec, state: TrainState | None) -> TokenLoss:
    module = TokenLoss(build_model(spec))
    if state is not None:
        for name, parameter in module.named_parameters():
            parameter.copy_(state.weights[name])
    return module


def _export(spec: RunSpec, run_dir: Path, engine: Engine, tokenizer: Path) -> None:
    """Leave the trained model as a `transformers` folder with its tokenizer."""
    state = engine.state(spec.num_steps, None)
    if engine.rank == 0:
        final, beside = run_dir / "model", run_dir / ".model.writing"
        for folder in (final, beside):
            shutil.rmtree(folder, ignore_errors=True)
        _module(spec, state).model.save_pretrained(beside)
        export_tokenizer(spec, tokenizer, beside)
        beside.rename(final)


def _segments(spec: RunSpec, stream: MixtureStream, start: int, count: int) -> NDArray[np.int64] | None:
    """The document of each token [count, T], where the model must keep documents apart."""
    return stream.segments(start, count) if spec.batch.isolate_documents else None


def _crosses(every_tokens: int | None, tokens: int, batch_tokens: int) -> bool:
    """Whether the last batch passed a multiple of `every_tokens`."""
    return every_tokens is not None and tokens // every_tokens > (tokens - batch_tokens) // every_tokens
