"""Learning rate, batch and warmup of one point of a sweep, as the rules in N and D give them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, ValidationError

from scaling.budget import Budget
from scaling.hyperparameters import Hyperparameters, Scaled, scaled_batch, value_of
from scaling.model import Model, anatomy_of
from scaling.objective import Objective, pair_params
from scaling.part import Part
from scaling.placement import Placement
from scaling.spec import AdamW, Batch, Schedule
from scaling.tokenizer import AnyTokenizer


class _Ruled(Part):
    """Of a run, what rules in N and D read and what they set."""

    model_config = ConfigDict(extra="ignore")

    tokenizer: AnyTokenizer
    model: Model
    objective: Objective
    budget: Budget
    schedule: Schedule
    optimizer: AdamW
    batch: Batch
    hyperparameters: Hyperparameters
    placement: Placement


def as_ruled(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a run with the learning rate, batch and warmup that its rules give at its N and D, rounded once.

    Before the run is checked as a whole: what is written is for the reference point, and need not fit this run. As it
    is where a part is wrong in itself, which that check says together with all else.
    """
    try:
        run = _Ruled.model_validate(tree)
    except ValidationError:
        return tree
    point, placement = run.hyperparameters, run.placement
    if not isinstance(point, Scaled):
        return tree
    multiple = point.batch_tokens.multiple_of
    if multiple % (at_once := placement.ranks * (placement.micro_batch or 1)):
        raise ValueError(
            "hyperparameters.batch_tokens.multiple_of must be a multiple of placement.ranks x micro_batch,"
            f" got {multiple} and {at_once}"
        )
    written = {
        "learning_rate": run.optimizer.learning_rate,
        "batch_tokens": run.batch.num_tokens,
        "warmup_tokens": run.schedule.warmup_tokens,
    }
    rules = {name: getattr(point, name) for name in written}
    told = {
        name: rule if rule.reference is not None else rule.model_copy(update={"reference": float(written[name])})
        for name, rule in rules.items()
    }
    point = point.model_copy(update=told)
    anatomy = anatomy_of(run.model, run.tokenizer.vocab_size, run.batch.sequence_length)
    num_params = anatomy.num_params + pair_params(run.objective, anatomy.hidden_size)
    num_sequences, num_tokens = scaled_batch(point, num_params, run.budget.num_tokens, run.batch.sequence_length)
    learning_rate = value_of(point.learning_rate, point, num_params, num_tokens)
    warmup_tokens = round(value_of(point.warmup_tokens, point, num_params, num_tokens))
    return {
        **tree,
        "hyperparameters": point.model_dump(),
        "batch": {**tree["batch"], "num_sequences": num_sequences},
        "optimizer": {**tree["optimizer"], "learning_rate": learning_rate},
        "schedule": {**tree["schedule"], "warmup_tokens": warmup_tokens},
    }
