"""Where and how a run computes: no part of its identity."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from scaling.part import Part


class OffloadOptimizer(Part):
    """Optimiser state, and its update, off the GPU; DeepSpeed's keys and defaults.

    device: host memory, or files below `nvme_path` (stage 3 only). buffer_count, pipeline_*, fast_init: of those files.
    """

    device: Literal["none", "cpu", "nvme"] = "none"
    nvme_path: str | None = None
    pin_memory: bool = True
    buffer_count: int = Field(default=4, ge=4)
    pipeline_read: bool = False
    pipeline_write: bool = False
    fast_init: bool = False


class OffloadParam(Part):
    """Weights off the GPU until they are needed (stage 3); DeepSpeed's keys and defaults.

    buffer_size, max_in_cpu: in elements, for files below `nvme_path`.
    """

    device: Literal["none", "cpu", "nvme"] = "none"
    nvme_path: str | None = None
    pin_memory: bool = True
    buffer_count: int = Field(default=5, ge=1)
    buffer_size: int = Field(default=100_000_000, ge=1)
    max_in_cpu: int = Field(default=1_000_000_000, ge=0)


class Zero(Part):
    """DeepSpeed ZeRO: what the ranks share out. 0 nothing, 1 optimiser state, 2 + gradients, 3 + weights.

    Keys and defaults are those of DeepSpeed's `zero_optimization`, which gets them as they are; sizes and thresholds
    are in elements. overlap_comm: None is DeepSpeed's choice (at stage 3 only). zero_*: ZeRO++ (Wang et al. 2023).
    """

    stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: OffloadOptimizer = OffloadOptimizer()
    offload_param: OffloadParam = OffloadParam()
    overlap_comm: bool | None = None
    reduce_bucket_size: int = Field(default=500_000_000, ge=1)
    allgather_bucket_size: int = Field(default=500_000_000, ge=2, multiple_of=2)
    sub_group_size: int = Field(default=1_000_000_000, ge=1)
    stage3_prefetch_bucket_size: int = Field(default=50_000_000, ge=0)
    stage3_param_persistence_threshold: int = Field(default=100_000, ge=0)
    stage3_max_live_parameters: int = Field(default=1_000_000_000, ge=0)
    stage3_max_reuse_distance: int = Field(default=1_000_000_000, ge=0)
    zero_hpz_partition_size: int = Field(default=1, ge=1)
    zero_quantized_weights: bool = False
    zero_quantized_gradients: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_old_key(cls, tree: Any) -> Any:
        """Runs recorded before the offloads had keys of their own say `offload: none | cpu`."""
        if isinstance(tree, dict) and tree.get("offload") in ("none", "cpu"):
            kept = {key: value for key, value in tree.items() if key != "offload"}
            return {"offload_optimizer": {"device": tree["offload"]}, **kept}
        return tree

    @model_validator(mode="after")
    def _fits_its_stage(self) -> Zero:
        for name, offload, least in (
            ("offload_optimizer", self.offload_optimizer, 3 if self.offload_optimizer.device == "nvme" else 1),
            ("offload_param", self.offload_param, 3),
        ):
            if offload.device != "none" and self.stage < least:
                stages = {1: "1, 2 or 3", 3: "3"}[least]
                raise ValueError(f"zero.{name}.device={offload.device} needs zero.stage {stages}, got {self.stage}")
            if offload.device == "nvme" and offload.nvme_path is None:
                raise ValueError(f"zero.{name}.nvme_path must name a folder on the drive, got None")
        if self.stage < 3 and (plus := sorted(self.plus_plus)):
            raise ValueError(f"zero.{plus[0]}={getattr(self, plus[0])} needs zero.stage 3, got {self.stage}")
        return self

    @property
    def plus_plus(self) -> set[str]:
        """The switches of ZeRO++ that are on."""
        switches = {
            "zero_hpz_partition_size": self.zero_hpz_partition_size > 1,
            "zero_quantized_weights": self.zero_quantized_weights,
            "zero_quantized_gradients": self.zero_quantized_gradients,
        }
        return {name for name, is_on in switches.items() if is_on}

    @property
    def quantized(self) -> list[str]:
        """Those of them that round what is sent."""
        return sorted(name for name in self.plus_plus if "quantized" in name)


Precision = Literal["fp32", "bf16", "fp16"]


class Placement(Part):
    """Where a run computes.

    ranks: processes of one run. micro_batch: sequences per rank and pass; None: what memory allows.
    runs_per_device: runs of a sweep side by side. threads: per rank; None: cores / (ranks of a node x runs).
    checkpoint_seconds: time between checkpoints, that is, the most that a crash can cost.
    engine: what takes the steps. auto: DeepSpeed where there is something to share out, to offload or to scale, and
    plain torch on one rank without any of it, whatever the stage: the same numbers, sooner. deepspeed: always that.
    compile: torch compiles the model; None: on a GPU, but not DeepSpeed's ZeRO 3, nor fine-tunings. deterministic: a
    GPU repeats its bits; slower. activation_checkpointing: compute activations twice to hold fewer. profile: leave a
    trace of a few steps.
    nodes: machines that share out the ranks of a run. hostfile: their names, a line of `host slots=4` each; None: those
    of the Slurm job. port: where the others meet the first; None: a free one.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: int = Field(default=1, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    runs_per_device: int = Field(default=1, ge=1)
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    engine: Literal["auto", "deepspeed"] = "auto"
    compile: bool | None = None
    deterministic: bool = False
    activation_checkpointing: bool = False
    profile: bool = False
    nodes: int = Field(default=1, ge=1)
    hostfile: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)

    @model_validator(mode="after")
    def _nodes_have_equal_shares(self) -> Placement:
        if self.ranks % self.nodes:
            raise ValueError(
                f"placement.ranks must be a multiple of placement.nodes, got {self.ranks} and {self.nodes}"
            )
        return self


def needs_deepspeed(zero: Zero, placement: Placement, precision: Precision) -> bool:
    """Whether there is anything to share out, to offload, to scale or to round, or DeepSpeed is asked for."""
    return (
        placement.ranks > 1
        or placement.engine == "deepspeed"
        or any(offload.device != "none" for offload in (zero.offload_optimizer, zero.offload_param))
        or precision == "fp16"
        or bool(zero.quantized)
    )


def check_placement(zero: Zero, placement: Placement, precision: Precision) -> None:
    """ValueError where precision, ZeRO and placement do not go together."""
    if precision == "bf16" and zero.stage == 0 and needs_deepspeed(zero, placement, precision):
        where = "on several ranks" if placement.ranks > 1 else "with placement.engine=deepspeed"
        raise ValueError(f"precision=bf16 {where} needs zero.stage 1, 2 or 3 to keep fp32 weights, got 0")
    if precision == "fp16" and zero.stage == 0:
        raise ValueError("precision=fp16 needs zero.stage 1, 2 or 3, which scale the loss, got 0; bf16 needs none")
    if placement.ranks % zero.zero_hpz_partition_size:
        raise ValueError(
            f"zero.zero_hpz_partition_size must divide placement.ranks={placement.ranks},"
            f" got {zero.zero_hpz_partition_size}"
        )
    if zero.quantized and placement.device == "cpu":
        raise ValueError(f"zero.{zero.quantized[0]}=True needs GPUs, got placement.device=cpu")
    if zero.quantized and precision == "fp32":
        raise ValueError(f"zero.{zero.quantized[0]}=True needs precision bf16 or fp16, got fp32")
    if placement.compile and zero.offload_param.device != "none":
        raise ValueError(
            f"placement.compile=True needs weights that stay in place: zero.offload_param.device=none,"
            f" got {zero.offload_param.device}"
        )
