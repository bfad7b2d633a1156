"""Questions: windows, targets that map back to the characters of the answer, and the best span of all windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from readers import own_reader
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from scaling.data.tasks.items import Question
from scaling.finetune.kind import Encoded, Reader, kind_of
from scaling.finetune.kinds.qa import best_span
from scaling.method import CrossEntropy
from scaling.task import LocalRows, QuestionAnswering
from scaling.train.objective import NOT_PREDICTED

ENGLISH = (
    "The Panthers' defence gave up just 308 points, while Kawann Short led the team in sacks with 11. Café owners"
    " in Nürnberg — some 2,000 of them — were naïve; the  defence wasn't."
)
CHINESE = "《战国无双3》是由光荣和ω-force开发的战国无双系列的正统第三续作。😀本作以三大故事为主轴,织田信长等人为主。"
LONG = " ".join(f"w{number}" for number in range(80))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of models as small as these, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def task(**changes: Any) -> QuestionAnswering:
    return QuestionAnswering(name="asked", rows=LocalRows(train="-"), **changes)


@pytest.fixture(scope="module", params=["bpe", "wordpiece"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    # WordPiece learns single characters of Chinese, byte-level BPE parts of them.
    return own_reader(tmp_path_factory.mktemp("reader"), request.param, [ENGLISH, CHINESE, LONG, "who which"], "bert")


def question(context: str, answer: str | None, id: str = "q") -> Question:
    answers = () if answer is None else ((answer, context.index(answer)),)
    return Question(id, "who?", context, answers)


def spelled(item: Question, row: Encoded) -> str:
    """The characters between the two targets."""
    assert row.spans is not None
    first, last = row.targets
    return item.context[row.spans[first, 0] : row.spans[last, 1]].strip()


def told(logits: Sequence[NDArray[np.float64]]) -> Any:
    """A model that says this."""

    def predict(rows: Sequence[Encoded]) -> Iterator[NDArray[np.float64]]:
        return iter(logits)

    return predict


def sure_of_targets(rows: Sequence[Encoded]) -> list[NDArray[np.float64]]:
    """Logits of a model that knows the targets."""
    found = []
    for row in rows:
        logits = np.zeros((len(row.inputs) + 5, 2))  # with what fills up the batch
        logits[-5:] = 100.0
        if row.targets[0] != NOT_PREDICTED:
            logits[row.targets[0], 0] = logits[row.targets[1], 1] = 9.0
        found.append(logits)
    return found


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        (ENGLISH, "308"),
        (ENGLISH, "Kawann Short"),
        (ENGLISH, "Nürnberg"),
        (ENGLISH, "2,000"),
        (ENGLISH, "naïve"),
        (ENGLISH, "The Panthers"),
        (CHINESE, "光荣和ω-force"),
        (CHINESE, "战国无双3"),
        (CHINESE, "三大故事"),
        (CHINESE, "织田信长"),
    ],
)
def test_an_answer_goes_to_tokens_and_back_to_its_exact_characters(reader: Reader, context: str, answer: str) -> None:
    item = question(context, answer)
    kind = kind_of(task(max_answer_tokens=60), ())
    (row,) = kind.encode([item], reader, 512, for_training=True)
    assert row.targets[0] > 0
    if reader.has_types and row.types is not None:
        assert set(row.types[row.targets[0] : row.targets[1] + 1]) == {1}
    assert spelled(item, row) == answer
    asked = kind.encode([item], reader, 512, for_training=False)
    (found,) = kind.answers(told(sure_of_targets(asked)), asked, [item], nullcontext, reader)
    assert found == answer


def test_windows_overlap_by_the_stride_and_miss_no_token(reader: Reader) -> None:
    item = question(LONG, "w40")
    rows = kind_of(task(stride=10), ()).encode([item], reader, 48, for_training=False)
    (context,) = reader.encode([LONG])
    (asked,) = reader.encode([item.question])
    room = 48 - 3 - len(asked)
    read: list[int] = []
    for row in rows:
        assert row.spans is not None
        assert len(row.inputs) <= 48
        kept = row.inputs[row.spans[:, 0] >= 0].tolist()
        overlap = 10 if read else 0
        assert kept[:overlap] == read[len(read) - overlap :]
        read += kept[overlap:]
    assert read == context.tolist()
    assert [len(row.inputs) for row in rows[:-1]] == [48] * (len(rows) - 1)
    assert len(rows) == 1 + -(-(len(context) - room) // (room - 10))


def test_a_window_without_the_answer_is_not_trained_on(reader: Reader) -> None:
    items = [question(LONG, "w3"), question(LONG, "w70"), question(LONG, "w3 w4 w5")]
    kind = kind_of(task(stride=10), ())
    rows = kind.encode(items, reader, 48, for_training=True)
    assert {spelled(items[row.item], row) for row in rows} == {"w3", "w70", "w3 w4 w5"}
    asked = kind.encode(items, reader, 48, for_training=False)
    assert len(asked) > len(rows)
    assert [spelled(items[row.item], row) for row in asked if row.targets[0] != NOT_PREDICTED] == [
        spelled(items[row.item], row) for row in rows
    ]


def test_an_answer_cut_by_every_window_leaves_nothing_to_learn(reader: Reader) -> None:
    with pytest.raises(ValueError, match="no answer lies within a window of 24 tokens"):
        kind_of(task(), ()).encode([question(LONG, LONG)], reader, 24, for_training=True)


def test_the_best_span_of_all_windows_answers(reader: Reader) -> None:
    item = question(LONG, "w40")
    kind = kind_of(task(stride=10), ())
    rows = kind.encode([item], reader, 48, for_training=False)
    logits = [np.zeros((len(row.inputs), 2)) for row in rows]
    logits[0][10] = 3.0  # one token, both ends: 6
    logits[2][12, 0], logits[2][14, 1] = 5.0, 4.0  # 9
    logits[1][40, 0], logits[1][8, 1] = 50.0, 50.0  # ends before it begins
    logits[1][0] = logits[1][1] = 50.0  # the start and the question are no context
    spans = rows[2].spans
    assert spans is not None
    right = LONG[spans[12, 0] : spans[14, 1]].strip()
    # What was said 50 of is not to be had as a span but beside a 0: 50.
    logits[1][40, 0] = logits[1][8, 1] = 4.0
    assert kind.answers(told(logits), rows, [item], nullcontext, reader) == [right]


def test_a_span_is_the_best_of_all_that_are_allowed() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ends, is_context = rng.normal(size=(12, 2)), rng.random(12) < 0.7
        allowed = [
            (ends[first, 0] + ends[last, 1], first, last)
            for first, last in combinations_with_replacement(range(12), 2)
            if is_context[first] and is_context[last] and last - first < 4
        ]
        found = best_span(ends, is_context, max_tokens=4)
        assert found == pytest.approx(max(allowed, key=lambda span: (span[0], -span[1]), default=None))


def test_no_span_is_found_where_nothing_is_context() -> None:
    assert best_span(np.zeros((4, 2)), np.zeros(4, dtype=bool), 4) is None


def test_a_question_without_answer_is_refused_unless_the_task_has_such(reader: Reader) -> None:
    items = [question(ENGLISH, "308", "first"), question(ENGLISH, None, "second")]
    with pytest.raises(ValueError, match=r"has_unanswerable of 'asked' must be true .* question 'second'"):
        kind_of(task(), ()).encode(items, reader, 512, for_training=False)


def test_where_questions_may_have_no_answer_windows_without_one_point_to_the_start(reader: Reader) -> None:
    items = [question(LONG, "w3"), question(LONG, None)]
    kind = kind_of(task(stride=10, has_unanswerable=True), ())
    rows = kind.encode(items, reader, 48, for_training=True)
    per_item = [[tuple(row.targets.tolist()) for row in rows if row.item == index] for index in (0, 1)]
    assert per_item[0][0] != (0, 0)
    assert set(per_item[0][1:]) == {(0, 0)}
    assert set(per_item[1]) == {(0, 0)}
    asked = kind.encode(items, reader, 48, for_training=False)
    answers = kind.answers(told(sure_of_targets(asked)), asked, items, nullcontext, reader)
    assert answers == ["w3", ""]
    assert kind.measure(items, answers).values(np.ones(2))["exact_match"] == 1.0


def test_the_first_token_of_a_context_is_an_answer_and_not_none(reader: Reader) -> None:
    item = question(LONG, "w0")
    (row, *_) = kind_of(task(has_unanswerable=True), ()).encode([item], reader, 48, for_training=True)
    assert row.targets[0] > 0
    assert spelled(item, row) == "w0"


def test_a_long_question_is_cut_to_half_a_window_and_an_empty_context_answers_nothing(reader: Reader) -> None:
    kind = kind_of(task(), ())
    long = Question("q", LONG, ENGLISH, (("308", ENGLISH.index("308")),))
    rows = kind.encode([long], reader, 64, for_training=False)
    assert all(len(row.inputs) <= 64 and row.num_cut > 0 for row in rows)
    empty = Question("q", "who?", "", (("x", 0),))
    rows = kind.encode([empty], reader, 64, for_training=False)
    assert kind.answers(told([np.zeros((64, 2))]), rows, [empty], nullcontext, reader) == [""]


def module(reader: Reader) -> nn.Module:
    torch.manual_seed(0)
    size = reader.tokenizer.get_vocab_size()
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return kind_of(task(), ()).module(BertForMaskedLM(config), 0.0, CrossEntropy(), None)


def batch(rows: Sequence[Encoded], length: int) -> dict[str, torch.Tensor]:
    def filled(arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.pad(array, (0, length - len(array))) for array in arrays]))

    given = {
        "inputs": filled([row.inputs for row in rows]),
        "mask": filled([np.ones_like(row.inputs) for row in rows]),
        "targets": torch.from_numpy(np.stack([row.targets for row in rows])),
    }
    types = [row.types for row in rows if row.types is not None]
    return given | ({"types": filled(types)} if types else {})


def test_what_fills_up_a_batch_changes_no_loss(reader: Reader) -> None:
    rows = kind_of(task(), ()).encode([question("The Panthers gave up 308 points", "308")], reader, 64, True)
    model = module(reader)
    with torch.no_grad():
        tight, loose = (model(**batch(rows[:1], length)) for length in (len(rows[0].inputs), 64))
    assert tight.shape == (1, 1)
    assert len(rows[0].inputs) < 64
    assert torch.allclose(tight, loose, atol=1e-5)


def test_a_small_model_learns_where_the_answer_is(reader: Reader) -> None:
    """The answer is the word after `which`: contexts differ, and it stands in any place."""
    rng = np.random.default_rng(0)

    def made(number: int) -> Question:
        words = [f"w{value}" for value in rng.integers(0, 20, 8)]
        place = int(rng.integers(0, 7))
        words[place] = "which"
        before = " ".join(words[: place + 1]) + " "
        return Question(str(number), "who?", " ".join(words), ((words[place + 1], len(before)),))

    items = [made(number) for number in range(300)]
    kind, model = kind_of(task(max_answer_tokens=4), ()), module(reader)
    train = kind.encode(items[:250], reader, 64, for_training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        rows = [train[index] for index in rng.integers(0, len(train), 32)]
        loss = model(**batch(rows, max(len(row.inputs) for row in rows))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 0:
            first = loss.item()
    assert loss.item() < first / 2

    def predict(rows: Sequence[Encoded]) -> Iterator[NDArray[np.float32]]:
        for row in rows:
            given = batch([row], len(row.inputs))
            del given["targets"]
            yield model(**given)[0].detach().numpy()

    held_out = items[250:]
    asked = kind.encode(held_out, reader, 64, for_training=False)
    answers = kind.answers(predict, asked, held_out, nullcontext, reader)
    assert kind.measure(held_out, answers).values(np.ones(50))["exact_match"] > 0.6
