"""One rank, nothing shared out: plain torch, and on a GPU the whole step as CUDA graphs.

Small models are slow because of what surrounds their arithmetic: some thousand kernel launches a step, a copy of every
parameter in Python, a wait for each loss. So all parameters lie in one buffer (their gradients, masters and moments
in others like it), clipping and update are a handful of kernels over it, losses stay on the device until
somebody looks, and a GPU replays recorded graphs: one per update, and one per micro-batch, of each shape that comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scaling.child import FinetuneSpec
from scaling.ranks import device_of
from scaling.spec import RunSpec
from scaling.train.batches import Batch
from scaling.train.compiled import Compiled, usual
from scaling.train.engine import DTYPES, MOMENTS, Group, Look, TrainState, mean_loss, seed_dropout
from scaling.train.objective import TokenLoss
from scaling.train.tensors import RowTensors
from scaling.train.trunk import numerics

ALIGNED_TO = 64
"""Elements at whose multiples each parameter begins: matrix units and wide loads want 16 bytes and more."""

STEPS_BEFORE_CAPTURE = 2
"""Steps of each shape that run kernel by kernel, so that everything is compiled and allocated when it is recorded."""

MOST_STEPS_BETWEEN_LOOKS = 1024


class PlainEngine:
    """One rank of a model in training, without DeepSpeed."""

    def __init__(
        self,
        spec: RunSpec | FinetuneSpec,
        module: nn.Module,
        state: TrainState | None,
        groups: Sequence[Group],
        cache: Path | None = None,
    ) -> None:
        """An engine for `module` at its start, or, where it holds the weights of `state`, to go on from there.

        cache: keeps what of pretraining is compiled; None: each process compiles by itself.
        """
        self.device = device_of(spec)
        self._spec = spec
        self._module = module.to(self.device)
        self._flat = _FlatParameters(module, DTYPES[spec.precision], groups)
        self._rates = {
            group.rate_factor: torch.tensor(spec.optimizer.learning_rate * group.rate_factor, device=self.device)
            for group in groups
        }
        self._optimizer = _adamw(spec, self._flat, state, [self._rates[group.rate_factor] for group in groups])
        self._weight = torch.zeros((), device=self.device)
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self._looked_at = torch.zeros(2, MOST_STEPS_BETWEEN_LOOKS, dtype=torch.float64, device=self.device)
        self._slot = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._num_unseen = 0
        is_compiled, self._is_to_capture = _ways(spec, self.device)
        self._forward: Callable[..., Tensor] = module
        if is_compiled and isinstance(module, TokenLoss) and cache is not None:
            self._forward = Compiled(module, numerics(spec), cache)
        elif is_compiled:
            self._forward = usual(module)
        self._num_taken: Counter[_Shape] = Counter()
        self._recorded: _Recorded | None = None

    def train(self, batch: Batch, learning_rate: float) -> None:
        """One optimiser step. Does not wait for the device."""
        assert self._num_unseen < MOST_STEPS_BETWEEN_LOOKS
        if not self._module.training:
            self._module.train()
        for factor, rate in self._rates.items():
            rate.fill_(learning_rate * factor)
        self._weight.copy_(batch.weight)
        seed_dropout(self._spec, batch.step)
        size = self._spec.micro_batch
        pieces = [batch.examples.rows(slice(i, i + size)) for i in range(0, self._spec.batch.num_sequences, size)]
        shape = _shape(pieces[0])
        if self._is_to_capture and self._num_taken[shape] == STEPS_BEFORE_CAPTURE:
            if self._recorded is None:
                self._recorded = _Recorded(self)
            self._recorded.add(pieces[0])
        for piece in pieces:
            if self._recorded is None or shape not in self._recorded:
                self.accumulate(piece)
            else:
                self._recorded.accumulate(piece)
        if self._recorded is None:
            self.update()
        else:
            self._recorded.update()
        self._num_taken[shape] += 1
        self._num_unseen += 1

    def accumulate(self, examples: RowTensors) -> None:
        """Add the gradient of one micro-batch."""
        num_pieces = self._spec.batch.num_sequences // self._spec.micro_batch
        with attention_kernels(self.device):
            nats = self._forward(**examples.tensors())
            # The mean over micro-batches of the weighted mean is the mean over all predicted tokens of the batch.
            loss = self._weight * mean_loss(self._spec, nats) / num_pieces
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

    @torch.no_grad()
    def predict(self, examples: RowTensors) -> Tensor:
        """What the module says of examples, wherever they are, without dropout or gradients."""
        with attention_kernels(self.device), self.whole() as module:
            return module(**examples.to(self.device).tensors())

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """The module, in evaluation mode."""
        if self._module.training:
            self._module.eval()
        yield self._module

    def weights(self) -> dict[str, Tensor]:
        """What learns, as it is now: fp32 tensors on the CPU by name."""
        return self._flat.named(self._flat.parts)

    def num_updates(self) -> int:
        """Steps that were taken and not left out."""
        return int(self._optimizer.state[self._flat.parts[0]]["step"])

    def state(self, step: int, numerics: str | None) -> TrainState:
        """The state after `step` steps."""
        flat, adam = self._flat, self._optimizer.state
        exp_avg, exp_avg_sq = (flat.named([adam[part][key] for part in flat.parts]) for key in MOMENTS)
        updates = self.num_updates()  # fewer than steps where some were left out
        scaler: dict[str, float] = {} if updates == step else {"updates": updates}
        return TrainState(step, self.weights(), exp_avg, exp_avg_sq, numerics, scaler)


class _FlatParameters:
    """The parameters of a module that learn in one buffer, group after group; the others in the dtype that computes.

    parameters: those that learn, views of a buffer in the dtype that computes. decays: of each group. parts: fp32
    masters of each group. grad: fp32, of all parts.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, groups: Sequence[Group]) -> None:
        all_named = dict(module.named_parameters())
        named = [(name, all_named.pop(name)) for group in groups for name in group.names]
        for frozen in all_named.values():
            frozen.data = frozen.data.to(dtype)
        self.parameters = [parameter for _, parameter in named]
        self.decays = [group.weight_decay for group in groups]
        sizes = [-(-parameter.numel() // ALIGNED_TO) * ALIGNED_TO for parameter in self.parameters]
        starts = np.cumsum([0, *sizes]).tolist()
        self._places = {name: (start, parameter.shape) for start, (name, parameter) in zip(starts, named, strict=False)}
        device = self.parameters[0].device
        masters = torch.zeros(starts[-1], device=device)
        self.grad = torch.zeros_like(masters)
        ends = np.cumsum([len(group.names) for group in groups])
        self._part_sizes = np.diff([0, *(starts[end] for end in ends)]).tolist()
        self.parts = list(masters.split(self._part_sizes))
        for part, grad in zip(self.parts, self.grad.split(self._part_sizes), strict=True):
            part.grad = grad
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

    def named(self, parts: list[Tensor]) -> dict[str, Tensor]:
        """The parts of a buffer like the masters, as tensors on the CPU by parameter name."""
        return {name: view.clone() for name, view in self._views(torch.cat([part.cpu() for part in parts])).items()}

    def fill(self, parts: list[Tensor], values: dict[str, Tensor]) -> None:
        """The opposite of `named`."""
        whole = torch.zeros_like(self._masters)
        for name, view in self._views(whole).items():
            view.copy_(values[name])
        for part, filled in zip(parts, whole.split(self._part_sizes), strict=True):
            part.copy_(filled)

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        return {name: flat[start : start + shape.numel()].view(shape) for name, (start, shape) in self._places.items()}


_Shape = tuple[torch.Size, ...]


def _shape(examples: RowTensors) -> _Shape:
    return tuple(tensor.shape for tensor in examples.tensors().values())


def _ways(spec: RunSpec | FinetuneSpec, device: torch.device) -> tuple[bool, bool]:
    """Whether torch compiles the module, and whether its kernels are recorded.

    Compilation takes longer than most fine-tunings, and each length of their rows would be compiled anew: they are
    recorded as they are.
    """
    is_far, wish = device.type == "cuda", spec.placement.compile
    if isinstance(spec, FinetuneSpec):
        # what is computed twice saves the state of its dropout, which cannot be recorded
        return wish is True, is_far and wish is not False and not spec.placement.activation_checkpointing
    is_compiled = is_far if wish is None else wish
    return is_compiled, is_compiled and is_far


class _Recorded:
    """The kernels of micro-batches, by their shape, and of an update as CUDA graphs, to be replayed on others."""

    def __init__(self, engine: PlainEngine) -> None:
        self._engine = engine
        self._update: torch.cuda.CUDAGraph | None = None
        self._held: dict[_Shape, tuple[RowTensors, torch.cuda.CUDAGraph]] = {}

    def __contains__(self, shape: _Shape) -> bool:
        return shape in self._held

    def add(self, like: RowTensors) -> None:
        """Record a micro-batch of a new shape. All share one memory: none leaves anything there for another."""
        held, graph = like.copies(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=None if self._update is None else self._update.pool()):
            self._engine.accumulate(held)
        self._held[_shape(like)] = held, graph
        if self._update is None:
            self._update = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._update, pool=graph.pool()):
                self._engine.update()

    def accumulate(self, examples: RowTensors) -> None:
        held, graph = self._held[_shape(examples)]
        for own, given in zip(held.tensors().values(), examples.tensors().values(), strict=True):
            own.copy_(given)
        graph.replay()

    def update(self) -> None:
        assert self._update is not None
        self._update.replay()


def _adamw(
    spec: RunSpec | FinetuneSpec, flat: _FlatParameters, state: TrainState | None, rates: Sequence[Tensor]
) -> torch.optim.AdamW:
    """AdamW over the flat buffers, with its state made now and not in the first step. rates: of each part."""
    settings, device = spec.optimizer, flat.parts[0].device
    optimizer = torch.optim.AdamW(
        [{"params": [part], "weight_decay": decay} for part, decay in zip(flat.parts, flat.decays, strict=True)],
        lr=rates[0],
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
        capturable=device.type == "cuda",
    )
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # a tensor, which graphs read anew at each replay
    updates = 0 if state is None else state.scaler.get("updates", state.step)
    for part in flat.parts:
        moments = {key: torch.zeros_like(part) for key in MOMENTS}
        optimizer.state[part] = {"step": torch.tensor(float(updates), device=device), **moments}
    if state is not None:
        for key in MOMENTS:
            flat.fill([optimizer.state[part][key] for part in flat.parts], getattr(state, key))
    return optimizer


@contextmanager
def attention_kernels(device: torch.device) -> Iterator[None]:
    """The attention kernels to choose from, the fastest first."""
    if device.type != "cuda":
        yield
        return
    fastest_first = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    with sdpa_kernel([*fastest_first, SDPBackend.MATH], set_priority=True):
        yield
