"""What the micro-batch of a fine-tuning is found with: its model, and the longest of its rows as often as it takes."""

from __future__ import annotations

import numpy as np
import torch

from scaling.child import FinetuneSpec
from scaling.finetune.batches import RowTable, TaskRows, pad_id, padded_length
from scaling.finetune.begin import Begin
from scaling.finetune.encoded import EncodedRows
from scaling.finetune.predict import TOKENS_PER_PASS
from scaling.train.probe import Trial


def finetuning_trial(spec: FinetuneSpec, opened: Begin) -> Trial:
    """Of a fine-tuning.

    Batches are of rows of like length, so that of the longest is one of the first to come, and has none shorter in it.
    """
    longest = int(np.argmax(opened.train.lengths))
    length = padded_length(int(opened.train.lengths[longest]), spec.max_length)
    row = EncodedRows.packed([opened.train[longest]])

    def rows(size: int, is_learned: bool) -> TaskRows:
        table = RowTable(row, pad_id(spec), torch.device("cpu"), opened.kind.is_per_token if is_learned else None)
        return table.tensors(torch.zeros(size, dtype=torch.int64), length)

    parent = spec.parent
    return Trial(
        length=length,
        together=1,
        identity={
            "model": parent.model.model_dump(mode="json"),
            "vocab_size": parent.tokenizer.vocab_size,
            "task": spec.task.kind,
            "num_written": getattr(spec.task, "max_target_tokens", None),  # each is told from all of the vocabulary
            "num_labels": len(opened.data.labels),
            "method": spec.method.model_dump(mode="json", include={"adaptation", "dropout", "loss"}),
            "num_sequences": spec.batch.num_sequences,
            "length": length,
        },
        module=opened.module,
        rows=rows,
        evaluated=max(1, TOKENS_PER_PASS["cuda"] // length),
    )
