"""Learning-rate schedules: a factor of the peak, as a function of the step alone; and their audit."""

from __future__ import annotations

import math

from scaling.spec import RunSpec, WarmupStableDecay


class ScheduleError(RuntimeError):
    """The learning rate did not end its decay where training ended. facts: what the audit found, for the record."""

    def __init__(self, reason: str, facts: dict[str, float]) -> None:
        RuntimeError.__init__(self, reason)
        self.facts = facts


def branch_step(spec: RunSpec) -> int:
    """The step at which the decay begins: up to here, runs that differ only in budget are the same run."""
    if not isinstance(spec.schedule, WarmupStableDecay):
        return 0
    return spec.num_steps - max(1, round(spec.schedule.decay_frac * spec.num_steps))


def learning_rate_factor(spec: RunSpec, step: int) -> float:
    """The factor in (0, 1] for optimiser step `step`, counted from 0.

    Warmup rises linearly to 1. Under warmup-stable-decay the decay falls linearly and would be 0 at the
    step after the last, so the schedule ends where the budget ends.
    """
    schedule, num_steps = spec.schedule, spec.num_steps
    warmup_steps = schedule.warmup_tokens // spec.batch.num_tokens
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    if isinstance(schedule, WarmupStableDecay):
        first = branch_step(spec)
        return warmup * min(1.0, (num_steps - step) / (num_steps - first))
    progress = max(0.0, (step + 1 - warmup_steps) / max(1, num_steps - warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return warmup * (schedule.final_frac + (1 - schedule.final_frac) * cosine)


def audit(spec: RunSpec, tokens: int, learning_rate: float) -> dict[str, float]:
    """Check that a run ended where its schedule ends; returns what is to be recorded of it.

    tokens: trained on in the end. learning_rate: that of the last step, as applied. What it should be is said anew
    here, and not asked of `learning_rate_factor`, by which it was set. Raises ScheduleError. A linear decay may begin
    while the warmup lasts, from what that has reached.
    """
    schedule, num_steps = spec.schedule, spec.num_steps
    ends_at, last = num_steps * spec.batch.num_tokens, learning_rate / spec.optimizer.learning_rate
    facts = {"schedule/ends_at_tokens": ends_at, "schedule/final_lr_frac": last}
    if isinstance(schedule, WarmupStableDecay):
        reached = min(1.0, num_steps / (schedule.warmup_tokens // spec.batch.num_tokens + 1))
        wanted = reached / max(1, round(schedule.decay_frac * num_steps))
    else:
        wanted = schedule.final_frac
    if tokens != ends_at:
        raise ScheduleError(f"the schedule ends at {ends_at} tokens, training ended at {tokens}", facts)
    if not math.isclose(last, wanted, rel_tol=1e-6, abs_tol=1e-9):
        raise ScheduleError(
            f"the learning rate of the last step was {last:.3g} of its peak, wanted {wanted:.3g}, the end of the"
            f" {schedule.kind} schedule",
            facts,
        )
    return facts
