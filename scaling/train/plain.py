"""One rank, nothing shared out: plain torch, and on a GPU the whole step as CUDA graphs.

Small models are slow because of what surrounds their arithmetic: some thousand kernel launches a step, a copy of every
parameter in Python, a wait for each loss. So all parameters lie in one buffer (their gradients, masters and moments
in others like it), clipping and update are a handful of kernels over it, losses stay on the device until
somebody looks, and a GPU replays two recorded graphs, one per micro-batch and one per update.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scaling.ranks import device_of
from scaling.spec import RunSpec
from scaling.train.batches import Batch
from scaling.train.engine import DTYPES, MOMENTS, Look, TrainState
from scaling.train.objective import Examples, TokenLoss, make_examples, num_draws

ALIGNED_TO = 64
"""Elements at whose multiples each parameter begins: matrix units and wide loads want 16 bytes and more."""

STEPS_BEFORE_CAPTURE = 2
"""Steps that run kernel by kernel, so that everything is compiled and allocated when the graphs are recorded."""

MOST_STEPS_BETWEEN_LOOKS = 1024


class PlainEngine:
    """One rank of a model in training, without DeepSpeed."""

    def __init__(self, spec: RunSpec, module: TokenLoss, state: TrainState | None) -> None:
        """An engine for `module` at its start, or, where it holds the weights of `state`, to go on from there."""
        self.device = device_of(spec)
        self.num_draws = num_draws(spec.objective, spec.batch.sequence_length)
        self._spec = spec
        self._module = module.to(self.device)
        self._flat = _FlatParameters(module, DTYPES[spec.precision])
        self._optimizer = _adamw(spec, self._flat, state)
        self._weight = torch.zeros((), device=self.device)
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self._looked_at = torch.zeros(2, MOST_STEPS_BETWEEN_LOOKS, dtype=torch.float64, device=self.device)
        self._slot = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._num_unseen = 0
        compiled = spec.placement.compile
        if compiled if compiled is not None else self.device.type == "cuda":
            self._forward = torch.compile(self._module, fullgraph=True, dynamic=False)
            self._is_to_capture = self.device.type == "cuda"
        else:
            self._forward = self._module
            self._is_to_capture = False
        self._num_taken = 0
        self._recorded: _Recorded | None = None

    def train(self, batch: Batch, learning_rate: float) -> None:
        """One optimiser step. Does not wait for the device."""
        assert self._num_unseen < MOST_STEPS_BETWEEN_LOOKS
        self._optimizer.param_groups[0]["lr"].fill_(learning_rate)
        self._weight.copy_(batch.weight)
        size = self._spec.micro_batch
        pieces = [batch.examples.rows(slice(i, i + size)) for i in range(0, self._spec.batch.num_sequences, size)]
        if self._is_to_capture and self._num_taken == STEPS_BEFORE_CAPTURE:
            self._recorded = _Recorded(self, pieces[0])
        for piece in pieces:
            if self._recorded is None:
                self.accumulate(piece)
            else:
                self._recorded.accumulate(piece)
        if self._recorded is None:
            self.update()
        else:
            self._recorded.update()
        self._num_taken += 1
        self._num_unseen += 1

    def accumulate(self, examples: Examples) -> None:
        """Add the gradient of one micro-batch."""
        num_pieces = self._spec.batch.num_sequences // self._spec.micro_batch
        with _attention(self.device):
            nats = self._forward(**examples.tensors())
            # The mean over micro-batches of the weighted mean is the mean over all predicted tokens of the batch.
            loss = self._weight * nats.mean() / num_pieces
            self._flat.add(torch.autograd.grad(loss, self._flat.parameters))
        self._loss += loss.detach()

    def update(self) -> None:
        """Clip, update, clear; keep the loss and the norm until somebody looks."""
        norm = torch.linalg.vector_norm(self._flat.grad)
        self._flat.grad.mul_((self._spec.optimizer.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        if self._spec.optimizer.nonfinite == "skip":
            # torch's fused AdamW leaves out a step of which this says 1; it is how loss scaling does it
            self._optimizer.found_inf = (~torch.isfinite(norm + self._loss)).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._flat.publish()
        self._flat.grad.zero_()
        self._looked_at.index_copy_(1, self._slot, torch.stack([self._loss, norm.double()]).unsqueeze(1))
        self._slot += 1
        self._loss.zero_()

    def look(self) -> Look:
        """What the steps since the last look came to. Waits for the device."""
        losses, norms = self._looked_at[:, : self._num_unseen].cpu().numpy()
        self._slot.zero_()
        self._num_unseen = 0
        return Look(losses, norms)

    def score(
        self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
    ) -> tuple[Tensor, Tensor]:
        """Nats [n, P] and the predicted tokens [n, P] of sequences [n, T]: 0 nats where NOT_PREDICTED."""
        examples = make_examples(
            self._spec.objective, sequences, draws, self._spec.tokenizer, segments, for_training=False
        )
        with _attention(self.device):
            return self._module(**examples.to(self.device).tensors()), examples.targets

    def state(self, step: int, numerics: str | None) -> TrainState:
        """The state after `step` steps."""
        flat, adam = self._flat, self._optimizer.state
        exp_avg, exp_avg_sq = (flat.named([adam[half][key] for half in flat.halves]) for key in MOMENTS)
        updates = int(adam[flat.halves[0]]["step"])  # fewer than steps where some were left out
        scaler: dict[str, float] = {} if updates == step else {"updates": updates}
        return TrainState(step, flat.named(flat.halves), exp_avg, exp_avg_sq, numerics, scaler)


class _FlatParameters:
    """The parameters of a module in one buffer: matrices first, which decay, then the others, which do not.

    parameters: those of the module, views of a buffer in the dtype that computes. halves: fp32 masters of the
    matrices and of the others. grad: fp32, of both halves.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        named = sorted(module.named_parameters(), key=lambda item: item[1].ndim < 2)
        self.parameters = [parameter for _, parameter in named]
        sizes = [-(-parameter.numel() // ALIGNED_TO) * ALIGNED_TO for parameter in self.parameters]
        starts = np.cumsum([0, *sizes]).tolist()
        self._places = {name: (start, parameter.shape) for start, (name, parameter) in zip(starts, named, strict=False)}
        device = self.parameters[0].device
        masters = torch.zeros(starts[-1], device=device)
        self.grad = torch.zeros_like(masters)
        num_decayed = starts[sum(parameter.ndim >= 2 for parameter in self.parameters)]
        self.halves = list(masters.split([num_decayed, starts[-1] - num_decayed]))
        for half, grad in zip(self.halves, self.grad.split([half.numel() for half in self.halves]), strict=True):
            half.grad = grad
        self._masters = masters
        self._computing = masters if dtype == torch.float32 else torch.zeros_like(masters, dtype=dtype)
        self._arriving = self.grad if dtype == torch.float32 else torch.zeros_like(self._computing)
        self._arriving_views = list(self._views(self._arriving).values())
        for parameter, own, shared in zip(
            self.parameters, self._views(masters).values(), self._views(self._computing).values(), strict=True
        ):
            own.copy_(parameter.data)
            parameter.data = shared
        self.publish()

    def add(self, gradients: tuple[Tensor, ...]) -> None:
        """Add the gradients of `parameters` to `grad`."""
        if self._arriving is self.grad:
            torch._foreach_add_(self._arriving_views, gradients)
        else:
            torch._foreach_copy_(self._arriving_views, gradients)
            self.grad.add_(self._arriving)

    def publish(self) -> None:
        """Let the module compute with what the masters are now."""
        if self._computing is not self._masters:
            self._computing.copy_(self._masters)

    def named(self, halves: list[Tensor]) -> dict[str, Tensor]:
        """Both halves of a buffer like the masters, as tensors on the CPU by parameter name."""
        return {name: view.clone() for name, view in self._views(torch.cat([half.cpu() for half in halves])).items()}

    def fill(self, halves: list[Tensor], values: dict[str, Tensor]) -> None:
        """The opposite of `named`."""
        whole = torch.zeros_like(self._masters)
        for name, view in self._views(whole).items():
            view.copy_(values[name])
        for half, part in zip(halves, whole.split([half.numel() for half in halves]), strict=True):
            half.copy_(part)

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        return {name: flat[start : start + shape.numel()].view(shape) for name, (start, shape) in self._places.items()}


class _Recorded:
    """The kernels of a micro-batch and of an update as CUDA graphs, to be replayed on other examples."""

    def __init__(self, engine: PlainEngine, like: Examples) -> None:
        self._tensors = [tensor.clone() for tensor in like.tensors().values()]
        self._examples = Examples(**dict(zip(like.tensors(), self._tensors, strict=True)))
        self._accumulate, self._update = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._accumulate):
            engine.accumulate(self._examples)
        with torch.cuda.graph(self._update, pool=self._accumulate.pool()):
            engine.update()

    def accumulate(self, examples: Examples) -> None:
        for held, given in zip(self._tensors, examples.tensors().values(), strict=True):
            held.copy_(given)
        self._accumulate.replay()

    def update(self) -> None:
        self._update.replay()


def _adamw(spec: RunSpec, flat: _FlatParameters, state: TrainState | None) -> torch.optim.AdamW:
    """AdamW over the flat buffers, with its state made now and not in the first step."""
    settings, device = spec.optimizer, flat.halves[0].device
    rate = torch.tensor(settings.learning_rate, device=device)
    decays = (settings.weight_decay, 0.0)
    optimizer = torch.optim.AdamW(
        [{"params": [half], "weight_decay": decay} for half, decay in zip(flat.halves, decays, strict=True)],
        lr=rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
        capturable=device.type == "cuda",
    )
    for group in optimizer.param_groups:
        group["lr"] = rate  # one tensor, which graphs read anew at each replay
    updates = 0 if state is None else state.scaler.get("updates", state.step)
    for half in flat.halves:
        moments = {key: torch.zeros_like(half) for key in MOMENTS}
        optimizer.state[half] = {"step": torch.tensor(float(updates), device=device), **moments}
    if state is not None:
        for key in MOMENTS:
            flat.fill([optimizer.state[half][key] for half in flat.halves], getattr(state, key))
    return optimizer


@contextmanager
def _attention(device: torch.device) -> Iterator[None]:
    """The attention kernels to choose from, the fastest first."""
    if device.type != "cuda":
        yield
        return
    fastest_first = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel([*fastest_first, SDPBackend.MATH], set_priority=True):
        yield
