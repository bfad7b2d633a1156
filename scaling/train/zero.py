"""DeepSpeed, and all that the rest of the project needs to know of it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaling.child import FinetuneSpec
from scaling.identity import fingerprint
from scaling.ranks import device_of, join_alone, num_ranks, sum_over_ranks, this_rank
from scaling.spec import AdamW, RunSpec
from scaling.train.batches import Batch
from scaling.train.engine import MOMENTS, Group, Look, TrainState, mean_loss, seed_dropout
from scaling.train.recorder import DivergedError
from scaling.train.tensors import RowTensors
from scaling.train.zero_step import lighten

# DeepSpeed looks for a device when it is imported, and warns if it has to guess.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed
from deepspeed.accelerator import get_accelerator, set_accelerator
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
"""What DeepSpeed's dynamic loss scaling remembers from step to step."""


class ZeroEngine:
    """One rank of a DeepSpeed engine: forward, backward, step, and the state of training."""

    def __init__(
        self, spec: RunSpec | FinetuneSpec, module: nn.Module, state: TrainState | None, groups: Sequence[Group]
    ) -> None:
        """An engine for `module` at its start, or, where it holds the weights of `state`, to go on from there.

        ValueError if this machine cannot do what the spec asks of it.
        """
        self.device = device_of(spec)
        _join_deepspeed(self.device)
        _check_machine(spec, self.device)
        self._num_ranks = num_ranks()
        self._rank = this_rank()
        self._spec = spec
        self._stage = spec.zero.stage
        self._factors = [group.rate_factor for group in groups]
        self._optimizer = _adamw(spec.optimizer, module, groups)
        # DeepSpeed rounds these to the precision that computes before it copies them.
        weights = {name: parameter.detach().clone() for name, parameter in _learning(module).items()}
        self._is_compiled = _is_compiled(spec, self.device)
        if self._is_compiled:  # the method: hooks stay outside, names stay what they are
            module.forward = torch.compile(module.forward, dynamic=False)
        self._engine, _, _, _ = deepspeed.initialize(
            model=module, optimizer=self._optimizer, config=deepspeed_config(spec, module, self._num_ranks)
        )
        self._zero = self._engine.optimizer
        if isinstance(self._zero, DeepSpeedZeroOptimizer) and not self._zero.cpu_offload:
            lighten(self._zero)
        self._losses: list[Tensor] = []
        self._grad_norms: list[Tensor] = []
        self._start_optimizer_at(0 if state is None else int(state.scaler.get("updates", state.step)))
        self._load_weights(weights)
        if state:
            self._load_moments(state)
        if spec.precision == "fp16":
            self._zero.loss_scaler.raise_error_at_min_scale = False  # it is told as other divergence is
            if state:
                for key in SCALER:
                    setattr(self._zero.loss_scaler, key, type(getattr(self._zero.loss_scaler, key))(state.scaler[key]))

    def train(self, batch: Batch, learning_rate: float) -> None:
        """One optimiser step. DivergedError if an unscaled gradient overflows fp16."""
        if not self._engine.module.training:
            self._engine.train()
        for group, factor in zip(self._optimizer.param_groups, self._factors, strict=True):
            group["lr"] = learning_rate * factor
        seed_dropout(self._spec, batch.step)
        share, size = self._spec.batch.num_sequences // self._num_ranks, self._spec.micro_batch
        sum_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for start in range(0, share, size):
            nats = self._engine(**batch.examples.rows(slice(start, start + size)).tensors())
            # Their mean over ranks and micro-batches is that over all predicted tokens.
            loss = batch.weight * mean_loss(self._spec, nats)
            sum_loss += loss.detach()
            self._engine.backward(loss)
            if start + size < share:
                self._engine.step()
        self._losses.append(sum_loss * size / share)
        self._grad_norms.append(self._step(batch))

    def _step(self, batch: Batch) -> Tensor:
        """Clip, update, clear. Returns the norm of the gradient before clipping, inf where loss scaling left it out."""
        if self._stage == 0:
            # DeepSpeed clips at stage 0 too, but keeps the norm to itself.
            norm = nn.utils.clip_grad_norm_(self._engine.module.parameters(), self._spec.optimizer.max_grad_norm)
            if self._spec.optimizer.nonfinite == "skip":  # the other stages always leave such a step out
                self._optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
            self._engine.step()
            return norm.detach()
        is_unscaled = self._spec.precision == "fp16" and self._zero.loss_scale <= self._zero.loss_scaler.min_scale
        self._engine.step()
        if is_unscaled and self._zero.overflow and self._spec.optimizer.nonfinite == "stop":
            first = batch.first_sequence
            raise DivergedError(
                f"step {batch.step + 1}, sequences {first} to {first + self._spec.batch.num_sequences - 1}:"
                " the gradient overflows fp16, and the loss is scaled down as far as it goes"
            )
        return torch.as_tensor(self._engine.get_global_grad_norm()).detach()

    def look(self) -> Look:
        """What the steps since the last look came to, over all ranks. Waits for the device."""
        if not self._losses:
            return Look(np.empty(0), np.empty(0))
        losses = sum_over_ranks(torch.stack(self._losses).cpu()) / self._num_ranks
        norms = torch.stack([norm.to(self.device, torch.float64) for norm in self._grad_norms]).cpu()
        self._losses, self._grad_norms = [], []
        return Look(losses.numpy(), norms.numpy())

    @torch.no_grad()
    def predict(self, examples: RowTensors) -> Tensor:
        """What the module says of examples, wherever they are, without dropout or gradients."""
        if self._engine.module.training:
            self._engine.eval()
        # Compiled for training alone: each other shape, and its last batch, would be compiled anew.
        eager = torch.compiler.set_stance("force_eager") if self._is_compiled else nullcontext()
        with eager:
            return self._engine(**examples.to(self.device).tensors())

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """The module with all of its weights on this rank, in evaluation mode."""
        if self._engine.module.training:
            self._engine.eval()
        held = list(self._engine.module.parameters()) if self._stage == 3 else []
        with deepspeed.zero.GatheredParameters(held, modifier_rank=None):
            yield self._engine.module

    def weights(self) -> dict[str, Tensor]:
        """What learns, as it is now: fp32 tensors on the CPU by name. Every rank must call it; each gets the whole."""
        parameters = self._parameters()
        if self._stage == 0:
            return _on_cpu(parameters)
        return _on_cpu({name: safe_get_full_fp32_param(parameter) for name, parameter in parameters.items()})

    def num_updates(self) -> int:
        """Steps that were taken and not left out."""
        return int(next(iter(self._optimizer.state.values()))["step"].item())

    def state(self, step: int, numerics: str | None) -> TrainState:
        """The state after `step` steps. Every rank must call it; each gets the whole."""
        parameters = self._parameters()
        exp_avg, exp_avg_sq = (
            _on_cpu({name: self._moment(parameter, key) for name, parameter in parameters.items()}) for key in MOMENTS
        )
        return TrainState(step, self.weights(), exp_avg, exp_avg_sq, numerics, self._scaler(step))

    def _scaler(self, step: int) -> dict[str, float]:
        """The numbers of loss scaling; and Adam's count of updates, where steps were left out."""
        scaling = {key: float(getattr(self._zero.loss_scaler, key)) for key in SCALER if self._spec.precision == "fp16"}
        updates = self.num_updates()
        return scaling if updates == step else {**scaling, "updates": updates}

    def _moment(self, parameter: nn.Parameter, key: str) -> Any:
        """One of Adam's moments of a parameter, whole."""
        if self._stage == 0:
            return self._optimizer.state[parameter][key]
        return safe_get_full_optimizer_state(parameter, key)

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the fp32 masters to what the module held before it was rounded."""
        if self._stage == 0:
            return
        for name, parameter in self._parameters().items():
            if self._stage == 3:
                # DeepSpeed's setter of full values fails where a parameter does not divide evenly.
                safe_set_local_fp32_param(parameter, self._own_part(parameter, weights[name]))
            else:
                safe_set_full_fp32_param(parameter, weights[name].to(self.device))

    def _load_moments(self, state: TrainState) -> None:
        for name, parameter in self._parameters().items():
            for key in MOMENTS:
                value = getattr(state, key)[name].to(self.device)
                if self._stage == 0:
                    self._optimizer.state[parameter][key].copy_(value)
                elif self._stage == 3:
                    safe_set_local_optimizer_state(parameter, self._own_part(parameter, value), key)
                else:
                    safe_set_full_optimizer_state(parameter, value, key)

    def _start_optimizer_at(self, num_updates: int) -> None:
        """Give Adam its state now, with the count of its updates.

        Torch makes it in the first step. By then DeepSpeed has linked the moments of ZeRO 1 and 2 to their
        parameters, and with two parameter groups it links those of the first alone (0.19.8).
        """
        zero = self._zero
        if self._stage == 0:
            held = list(self._parameters().values())
        elif self._stage == 3:
            held = zero.fp32_partitioned_groups_flat
        elif isinstance(zero, BF16_Optimizer):  # stage 1, where bf16 gradients are summed up in fp32
            held, computing = zero.fp32_groups_flat_partition, zero.bf16_groups
        else:
            held, computing = zero.single_partition_of_fp32_groups, zero.bit16_groups
        for index, tensor in enumerate(held):
            is_on_drive = self._stage == 3 and zero._swappable_optimizer_subgroup(index)
            if is_on_drive:
                zero._optimizer_states_and_gradient_swap_in(index)
            self._optimizer.state[tensor] = {
                "step": torch.tensor(float(num_updates), device=tensor.device),
                **{key: torch.zeros_like(tensor) for key in MOMENTS},
            }
            if is_on_drive:
                zero._optimizer_states_and_gradient_swap_out(index)
        if self._stage in (1, 2):
            for group, partition in zip(computing, held, strict=True):
                lazy_init_hp_params_optimizer_state(group, partition, self._optimizer.state)

    def _own_part(self, parameter: nn.Parameter, value: Tensor) -> Tensor:
        """This rank's piece of a full tensor, zero-padded as ZeRO-3 pads."""
        size = parameter.ds_tensor.ds_numel  # type: ignore[attr-defined]
        flat = nn.functional.pad(value.flatten(), (0, size * self._num_ranks - value.numel()))
        return flat[self._rank * size : (self._rank + 1) * size].to(self.device)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return _learning(self._engine.module)


def _learning(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def deepspeed_config(spec: RunSpec | FinetuneSpec, module: nn.Module, num_ranks: int) -> dict[str, Any]:
    """The only place where DeepSpeed's own keys are written, but for those of `Zero`."""
    zero = spec.zero.model_dump(mode="json", exclude_none=True)
    for key in ("offload_optimizer", "offload_param"):
        if zero[key]["device"] == "none":
            del zero[key]
        elif zero[key]["device"] == "nvme":
            zero[key]["nvme_path"] = str(_drive_folder(spec, zero[key]["nvme_path"]))
    # A bucket is allocated whole: by default 2 GB of fp32, for the smallest model, too.
    zero["reduce_bucket_size"] = min(zero["reduce_bucket_size"], sum(weight.numel() for weight in module.parameters()))
    num_passes = spec.batch.num_sequences // (spec.micro_batch * num_ranks)
    config = {
        "train_batch_size": spec.batch.num_sequences,
        "train_micro_batch_size_per_gpu": spec.micro_batch,
        "gradient_accumulation_steps": num_passes,
        "gradient_clipping": 0.0 if spec.zero.stage == 0 else spec.optimizer.max_grad_norm,
        # The look at the losses finds what is no number, and no step need wait for it; but to leave one out.
        "bf16": {"enabled": spec.precision == "bf16", "check_grad_overflow": spec.optimizer.nonfinite == "skip"},
        "fp16": {"enabled": spec.precision == "fp16"},
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeedCPUAdam wants a C++ compiler
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "timers": {"throughput": {"enabled": False}},  # it waits for the device twice a step
    }
    if num_passes > 1 and spec.precision != "fp32":
        config["data_types"] = {"grad_accum_dtype": "fp32"}  # else gradients are summed up in 16 bits
    return config


def _drive_folder(spec: RunSpec | FinetuneSpec, nvme_path: str) -> Path:
    """Where a run keeps what it moves to a drive: DeepSpeed's names for it are those of all runs."""
    return Path(nvme_path) / f"swapped-{fingerprint(spec)[:16]}"


def _check_machine(spec: RunSpec | FinetuneSpec, device: torch.device) -> None:
    """ValueError, naming the field, for what only the machine itself can tell to be impossible."""
    if spec.zero.quantized and device.type == "cpu":
        raise ValueError(f"zero.{spec.zero.quantized[0]}=True needs GPUs, and this machine has none")
    if spec.precision == "fp16" and not get_accelerator().is_fp16_supported():
        raise ValueError("precision=fp16 needs a GPU, or a CPU that computes in fp16; here bf16 or fp32")
    for key in ("offload_optimizer", "offload_param"):
        offload = getattr(spec.zero, key)
        if offload.device != "nvme":
            continue
        folder = _drive_folder(spec, offload.nvme_path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"zero.{key}.nvme_path must be a folder that can be written, got {offload.nvme_path!r}: {error}"
            ) from error
        Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)
        if not get_accelerator().create_op_builder("AsyncIOBuilder").is_compatible():
            raise ValueError(
                f"zero.{key}.device=nvme needs DeepSpeed's async_io, which is built with a C++ compiler and libaio"
                " (package libaio-dev); got no such library"
            )


def _is_compiled(spec: RunSpec | FinetuneSpec, device: torch.device) -> bool:
    """Whether torch compiles the model: by itself not at stage 3.

    There the hooks of every module break the graph, and torch gives up on them after 8 recompilations, of a model of
    one layer already (torch 2.13, DeepSpeed 0.19.8).
    """
    if spec.placement.compile is None:
        return isinstance(spec, RunSpec) and device.type == "cuda" and spec.zero.stage < 3
    return spec.placement.compile


def _join_deepspeed(device: torch.device) -> None:
    """Let DeepSpeed use the process group that this rank is in."""
    if device.type == "cpu":
        set_accelerator(CPU_Accelerator())
    _forbid_compiled_communication()
    join_alone(device)
    deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo", verbose=False)


def _forbid_compiled_communication() -> None:
    """Keep DeepSpeed from compiling its shared-memory operator, which takes a C++ compiler and a minute."""
    compatible = getattr(deepspeed.ops, "__compatible_ops__", None)
    if isinstance(compatible, dict):
        compatible["deepspeed_shm_comm"] = False


def _adamw(spec: AdamW, module: nn.Module, groups: Sequence[Group]) -> torch.optim.AdamW:
    named = dict(module.named_parameters())
    parts = [{"params": [named[name] for name in group.names], "weight_decay": group.weight_decay} for group in groups]
    return torch.optim.AdamW(parts, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.epsilon, fused=True)


def _on_cpu(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in tensors.items()}
