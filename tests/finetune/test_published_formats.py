"""Questions and texts as they are published: of files beside the repository, where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from readers import own_reader

from scaling.data.tasks.items import Question
from scaling.data.tasks.read import read_task
from scaling.finetune.kind import Encoded, kind_of
from scaling.task import Generation, LocalRows, QuestionAnswering
from scaling.train.objective import NOT_PREDICTED

TASKS = Path(__file__).parents[3] / "shared" / "data" / "tasks"
pytestmark = pytest.mark.skipif(not TASKS.is_dir(), reason="no task files beside the repository")

QUESTIONS = {
    "squad": LocalRows(
        train=str(TASKS / "squad_small" / "train.json.gz"), test=str(TASKS / "squad_small" / "validation.json.gz")
    ),
    "xquad_zh": LocalRows(train=str(TASKS / "squad_small" / "xquad_zh.json.gz")),
    "cmrc2018": LocalRows(
        train=str(TASKS / "cmrc2018" / "cmrc2018_trial.json.gz"), test=str(TASKS / "cmrc2018" / "cmrc2018_dev.json.gz")
    ),
}
TEXTS = {
    "multi30k": ("multi30k/{}.jsonl.gz", {"source": "en", "target": "de"}),
    "scitldr": ("scitldr/{}.jsonl.gz", {"source": "source", "target": "target"}),
    "csl_title": ("csl_title/{}.jsonl.gz", {"source": "document", "target": "summary", "tokenize": "zh"}),
}


def sure_of_targets(rows: Sequence[Encoded]) -> Iterator[NDArray[np.float64]]:
    """A model that knows the targets."""
    for row in rows:
        logits = np.zeros((len(row.inputs), 2))
        if row.targets[0] != NOT_PREDICTED:
            logits[row.targets[0], 0] = logits[row.targets[1], 1] = 9.0
        yield logits


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece"])
@pytest.mark.parametrize("name", list(QUESTIONS))
def test_who_knows_where_an_answer_is_says_it_in_its_own_characters(
    shared_cache: Path, tmp_path: Path, name: str, tokenizer: str
) -> None:
    """An answer is lost only where a token holds more than the answer, or no window holds all of it."""
    task = QuestionAnswering(
        name=name, rows=QUESTIONS[name], max_answer_tokens=1000, stride=48, is_by_character=name != "squad"
    )
    items: list[Question] = list(read_task(task, shared_cache).test[:250])
    texts = [item.context for item in items]
    reader = own_reader(tmp_path / "reader", tokenizer, texts, "bert", vocab_size=1500)
    kind = kind_of(task, ())
    rows = kind.encode(items, reader, 256, for_training=False)
    answers = kind.answers(sure_of_targets, rows, items, nullcontext, reader)
    held = {row.item for row in rows if row.targets[0] != NOT_PREDICTED}
    assert len(held) > 0.9 * len(items)
    assert max(np.bincount([row.item for row in rows])) > 1
    exact = kind.measure(items, answers).stats[sorted(held), 1]
    assert exact.mean() > 0.97
    for index in sorted(held):
        assert items[index].answers[0][0].strip() in answers[index]


@pytest.mark.parametrize("name", list(TEXTS))
def test_a_right_text_is_measured_as_right_and_is_read_with_its_source(
    shared_cache: Path, tmp_path: Path, name: str
) -> None:
    pattern, columns = TEXTS[name]
    folder = str(TASKS / pattern)
    changes: dict[str, Any] = {"rows": LocalRows(train=folder.format("validation"), test=folder.format("test"))}
    task = Generation(name=name, **changes, **columns)
    items = list(read_task(task, shared_cache).test[:60])
    kind = kind_of(task, ())
    found = kind.measure(items, [item.targets[-1] for item in items]).values(np.ones(len(items)))
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=0.02)
    reader = own_reader(tmp_path / "reader", "bpe", [item.source for item in items], "llama", vocab_size=600)
    rows = kind.encode(items, reader, 256, for_training=True)
    asked = kind.encode(items, reader, 256, for_training=False)
    for row, prompt, item in zip(rows, asked, items, strict=True):
        assert len(row.inputs) <= 256
        assert row.inputs[: len(prompt.inputs)].tolist() == prompt.inputs.tolist()
        told = reader.tokenizer.decode(row.targets[row.targets != NOT_PREDICTED][:-1].tolist())
        assert item.targets[0].startswith(told.rstrip("\ufffd"))
        read = reader.tokenizer.decode(prompt.inputs[1:].tolist())
        assert item.source.startswith(read.removesuffix(task.separator).rstrip("\ufffd"))
