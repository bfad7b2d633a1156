"""How a language model in training is scored on validation text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scaling.spec import RunSpec
from scaling.train.engine import Engine
from scaling.train.objective import make_examples, num_draws


class Scores:
    """What `evaluate` asks of a model."""

    def __init__(self, spec: RunSpec, engine: Engine) -> None:
        self.device = engine.device
        self.num_draws = num_draws(spec.objective, spec.batch.sequence_length)
        self._spec, self._engine = spec, engine

    def score(
        self, sequences: NDArray[np.int64], draws: NDArray[np.float64], segments: NDArray[np.int64] | None
    ) -> tuple[Tensor, Tensor]:
        """Nats [n, P] and the predicted tokens [n, P] of sequences [n, T]: 0 nats where NOT_PREDICTED.

        draws [n, num_draws] place the masks; segments [n, T], if any, keep the documents apart.
        """
        spec = self._spec
        examples = make_examples(spec.objective, sequences, draws, spec.tokenizer, segments, for_training=False)
        return self._engine.predict(examples), examples.targets
