"""What a run needs of its device's memory, before it has started: an estimate."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from scaling.child import FinetuneSpec
from scaling.spec import RunSpec

MASTER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one rank, by what they hold. masters: the fp32 weights beside those that are computed with."""

    weights: int
    masters: int
    moments: int
    gradients: int
    activations: int

    @property
    def total_bytes(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def memory_of(spec: RunSpec) -> Memory:
    """What one rank holds on its device.

    State (Rajbhandari et al. 2020, ZeRO, section 3): of P parameters, embeddings included, b P of weights and b P of a
    micro-batch's gradients, b = 4 bytes in fp32 and 2 otherwise; in fp32, 8 P of moments, 4 P of accumulated
    gradients, and 4 P of masters where the weights are not those. R ranks share out moments, masters and accumulated
    gradients from stage 1 on, a micro-batch's gradients from stage 2 on, weights at stage 3. What is offloaded lies
    elsewhere: masters and moments with the optimizer, weights with the parameters (but for those in use).

    Activations, see `_activations`. What CUDA and its libraries take for themselves, up to 1 GB, is not in it.
    """
    num_params = spec.num_params + spec.anatomy.embedding_params
    return replace(state_of(spec, num_params, num_params), activations=_activations(spec))


def state_of(spec: RunSpec | FinetuneSpec, num_params: int, num_learning: int) -> Memory:
    """The same without activations, of so many parameters, of which so many learn: the others are weights alone."""
    stage, ranks, width = spec.zero.stage, spec.placement.ranks, _bytes_of(spec)
    shared = num_learning // (ranks if stage >= 1 else 1)
    is_on_device = spec.zero.offload_optimizer.device == "none"
    are_weights_on_device = spec.zero.offload_param.device == "none"
    has_masters = width < MASTER_BYTES or (stage >= 1 and spec.needs_deepspeed)
    return Memory(
        weights=width * num_params // (ranks if stage == 3 else 1) if are_weights_on_device else 0,
        masters=MASTER_BYTES * shared if has_masters and is_on_device else 0,
        moments=2 * MASTER_BYTES * shared if is_on_device else 0,
        gradients=width * num_learning // (ranks if stage >= 2 else 1) + MASTER_BYTES * shared,
        activations=0,
    )


def _activations(spec: RunSpec) -> int:
    """What the forward pass of a micro-batch keeps for the backward pass, roughly.

    Korthikanti et al. 2022 ("Reducing activation recomputation", section 4.1), without dropout and, as attention never
    holds all of its scores, without those: per token and layer 8 h + 2 f numbers (two norms, queries, keys, values,
    attention's output, the inputs of both parts; the feed-forward before and after its activation), 8 h + 4 f where it
    is gated. Recomputed, a layer keeps its input, and one layer at a time the rest. Per predicted token three rows of
    the vocabulary: logits and their gradient, and float32 log-probabilities. Isolated documents: a mask of T x T.
    """
    anatomy, length, width = spec.anatomy, spec.batch.sequence_length, _bytes_of(spec)
    tokens = spec.micro_batch * length
    per_layer = 8 * anatomy.hidden_size + (4 if anatomy.is_gated else 2) * anatomy.intermediate_size
    kept = anatomy.num_layers * per_layer
    if spec.placement.activation_checkpointing:
        kept = anatomy.num_layers * anatomy.hidden_size + per_layer
    logits = round(tokens * spec.predicted_frac) * anatomy.vocab_size * (2 * width + 4)
    masks = (2 if anatomy.num_local_layers else 1) * tokens * length * width if spec.batch.isolate_documents else 0
    return tokens * kept * width + logits + masks


def _bytes_of(spec: RunSpec | FinetuneSpec) -> int:
    """Bytes of a number that is computed with."""
    return 4 if spec.precision == "fp32" else 2
