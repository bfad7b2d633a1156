"""The peers of training: the same `transformers` model on random tokens that lie in memory, bf16 or fp32 as the run's.

All of them: fused AdamW, gradients clipped, the loss as `transformers` computes it, no evaluation, no saving. Each runs
on as many ranks as its spec, which share out a batch; where to meet they read, as `torchrun` does it, from the
environment.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from scaling.objective import MaskedLM
from scaling.spec import RunSpec
from scaling.train.model import build_model

MASK_ID, FIRST_WORD_ID = 1, 3
WARMUP_STEPS = 30
PACED_STEPS = 20
"""The next steps: from their pace the ranks agree on how many there will be."""

NUM_EXAMPLES = 2**13


@dataclass(frozen=True)
class Pace:
    """tokens_per_second: after compilation and warm-up. first_step_seconds: from the imports to a step taken."""

    tokens_per_second: float
    first_step_seconds: float


class Stopwatch:
    """Times the steps after the first WARMUP_STEPS; waits for the device at the ends, and once to agree on the end."""

    def __init__(self, spec: RunSpec, device: torch.device, seconds: float) -> None:
        self._batch_tokens, self._seconds, self._device = spec.batch.num_tokens, seconds, device
        self._wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        self._created = time.perf_counter()
        self._first = self._begun = 0.0
        self._steps, self._last = 0, 10**9

    def step(self) -> bool:
        """Count a step. Whether there is enough."""
        self._steps += 1
        if self._steps == 1:
            self._wait()
            self._first = time.perf_counter() - self._created
        if self._steps == WARMUP_STEPS:
            self._wait()
            self._begun = time.perf_counter()
        if self._steps == WARMUP_STEPS + PACED_STEPS:
            self._wait()
            of_a_step = (time.perf_counter() - self._begun) / PACED_STEPS
            self._last = self._steps + self._agreed(self._seconds / of_a_step)
        return self._steps >= self._last

    def _agreed(self, steps: float) -> int:
        """What rank 0 says: ranks that stop at different steps wait for each other."""
        shared = torch.tensor([steps], device=self._device)
        if distributed.is_initialized():
            distributed.broadcast(shared, src=0)
        return int(shared.item())

    def pace(self) -> Pace:
        self._wait()
        elapsed = time.perf_counter() - self._begun
        return Pace((self._steps - WARMUP_STEPS) * self._batch_tokens / elapsed, self._first)


class RandomTokens(torch.utils.data.Dataset[dict[str, Tensor]]):
    """NUM_EXAMPLES random sequences, again and again; under masked LM with masked positions."""

    def __init__(self, spec: RunSpec, length: int = 2**17) -> None:
        shape = (NUM_EXAMPLES, spec.batch.sequence_length)
        draw = torch.Generator().manual_seed(0)
        self.inputs = torch.randint(spec.tokenizer.first_word_id, spec.tokenizer.vocab_size, shape, generator=draw)
        self.labels = self.inputs.clone()
        if isinstance(spec.objective, MaskedLM):
            is_masked = torch.rand(shape, generator=draw) < spec.objective.mask_frac
            self.labels[~is_masked] = -100
            self.inputs[is_masked] = spec.tokenizer.mask_id
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.inputs[index % NUM_EXAMPLES], "labels": self.labels[index % NUM_EXAMPLES]}

    def batch(self, step: int, size: int) -> dict[str, Tensor]:
        rows = torch.arange(step * size, (step + 1) * size, device=self.inputs.device) % NUM_EXAMPLES
        return {"input_ids": self.inputs[rows], "labels": self.labels[rows]}

    def to(self, device: torch.device) -> RandomTokens:
        self.inputs, self.labels = self.inputs.to(device), self.labels.to(device)
        return self


def trainer(spec: RunSpec, device: torch.device, seconds: float) -> Pace:
    """`transformers.Trainer` alone."""
    return _trainer(spec, device, seconds, None)


def trainer_zero1(spec: RunSpec, device: torch.device, seconds: float) -> Pace:
    """`transformers.Trainer` with DeepSpeed ZeRO-1."""
    config = {
        "zero_optimization": {"stage": 1},
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    return _trainer(spec, device, seconds, config)


def _trainer(spec: RunSpec, device: torch.device, seconds: float, deepspeed: dict[str, Any] | None) -> Pace:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    watch = Stopwatch(spec, device, seconds)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> Any:
            control.should_training_stop = watch.step()
            return control

    optimizer = spec.optimizer
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=_share(spec),
            max_steps=10**9,
            learning_rate=optimizer.learning_rate,
            adam_beta1=optimizer.beta1,
            adam_beta2=optimizer.beta2,
            adam_epsilon=optimizer.epsilon,
            weight_decay=optimizer.weight_decay,
            max_grad_norm=optimizer.max_grad_norm,
            optim="adamw_torch_fused",
            bf16=spec.precision == "bf16",
            logging_steps=20,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=device.type == "cpu",
            deepspeed=deepspeed,
        )
        Trainer(build_model(spec), arguments, train_dataset=RandomTokens(spec), callbacks=[Watch()]).train()
        return watch.pace()


def plain(spec: RunSpec, device: torch.device, seconds: float) -> Pace:
    """A loop of plain PyTorch, compiled on a GPU, the data on the device; DistributedDataParallel on several ranks."""
    watch = Stopwatch(spec, device, seconds)
    model: torch.nn.Module = build_model(spec).to(device)
    if device.type == "cuda":
        model.compile()
    if spec.placement.ranks > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        model = torch.nn.parallel.DistributedDataParallel(model)
    adam = _adamw(model, spec)
    tokens = RandomTokens(spec).to(device)
    step, is_enough = 0, False
    while not is_enough:
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
            loss = model(**tokens.batch(step, _share(spec))).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.optimizer.max_grad_norm)
        adam.step()
        adam.zero_grad()
        step, is_enough = step + 1, watch.step()
    return watch.pace()


def zero1(spec: RunSpec, device: torch.device, seconds: float) -> Pace:
    """DeepSpeed ZeRO-1 without a Trainer; on a GPU the model is compiled before it, the data is on the device."""
    import deepspeed

    watch = Stopwatch(spec, device, seconds)
    model = build_model(spec).to(device)
    if device.type == "cuda":
        model.compile()
    elif isinstance(compatible := getattr(deepspeed.ops, "__compatible_ops__", None), dict):
        compatible["deepspeed_shm_comm"] = False  # else it is built, which takes a minute
    deepspeed.init_distributed("nccl" if device.type == "cuda" else "gloo")
    config = {
        "train_batch_size": spec.batch.num_sequences,
        "train_micro_batch_size_per_gpu": _share(spec),
        "zero_optimization": {"stage": 1},
        "bf16": {"enabled": spec.precision == "bf16"},
        "gradient_clipping": spec.optimizer.max_grad_norm,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=_adamw(model, spec), config=config)
    tokens = RandomTokens(spec).to(device)
    step, is_enough = 0, False
    while not is_enough:
        loss = engine(**tokens.batch(step, _share(spec))).loss
        engine.backward(loss)
        engine.step()
        step, is_enough = step + 1, watch.step()
    return watch.pace()


def _adamw(model: torch.nn.Module, spec: RunSpec) -> torch.optim.Optimizer:
    rule = spec.optimizer
    betas = (rule.beta1, rule.beta2)
    return torch.optim.AdamW(model.parameters(), rule.learning_rate, betas, rule.epsilon, rule.weight_decay, fused=True)


def _share(spec: RunSpec) -> int:
    """Sequences of a rank."""
    return spec.batch.num_sequences // spec.placement.ranks


Peer = Callable[[RunSpec, torch.device, float], Pace]
PEERS: dict[str, tuple[str, Peer]] = {
    "trainer-zero1": ("HF Trainer + DeepSpeed ZeRO-1", trainer_zero1),
    "trainer": ("HF Trainer", trainer),
    "zero1": ("DeepSpeed ZeRO-1, compiled", zero1),
    "plain": ("plain PyTorch loop, compiled", plain),
}
