"""Labels of texts, scores of pairs, labels of words: what is learned, what is answered, what padding changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from lab import SpecMaker
from tokenizers import Tokenizer as Trained
from torch import Tensor, nn

from scaling.data.tasks.items import LabelledText, LabelledTokens, ScoredPair
from scaling.data.tokenizer import _train
from scaling.evaluate.metrics import scores
from scaling.finetune.kind import Encoded, Kind, Predict, Reader, kind_of
from scaling.method import CrossEntropy, Focal
from scaling.task import Alert, Classification, LocalRows, Similarity, TokenClassification
from scaling.tokenizer import Tokenizer
from scaling.train.model import build_model
from scaling.train.objective import NOT_PREDICTED

ROWS = LocalRows(train="train.jsonl")
FAMILIES = [("llama", "clm"), ("gpt2", "clm"), ("bert", "mlm"), ("bert", "mlm_nsp"), ("modernbert", "mlm")]
LABELS = ("cold", "warm")
TAGS = ("O", "B-X", "I-X")
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For models so small, threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reader() -> Reader:
    tokenizer: Trained = _train(Tokenizer(vocab_size=320, domains=("a",)), iter([" ".join(WORDS)] * 9))
    return Reader(tokenizer, 0, 0, 0, True)


def texts(num: int, seed: int = 0, paired: bool = False, max_words: int = 180) -> list[LabelledText]:
    """Texts of 1 to `max_words` words; those with `zeta` in them are warm."""
    generator = np.random.default_rng(seed)
    items = []
    for i in range(num):
        words = generator.choice(WORDS, size=generator.integers(1, max_words)).tolist()
        second = " ".join(generator.choice(WORDS, size=5)) if paired else None
        items.append(LabelledText(str(i), " ".join(words), second, int("zeta" in words)))
    return items


def padded(rows: Sequence[Encoded], length: int, is_per_token: bool) -> dict[str, Tensor]:
    """As the loop pads: with whatever token on the right."""
    inputs = np.full((len(rows), length), 5)
    mask, types = np.zeros((2, len(rows), length), dtype=np.int64)
    targets = [row.targets for row in rows]
    if is_per_token:
        targets = [np.pad(row.targets, (0, length - len(row.inputs)), constant_values=NOT_PREDICTED) for row in rows]
    for i, row in enumerate(rows):
        inputs[i, : len(row.inputs)], mask[i, : len(row.inputs)] = row.inputs, 1
        types[i, : len(row.inputs)] = 0 if row.types is None else row.types
    found = {"inputs": inputs, "mask": mask, "targets": np.stack(targets)}
    if any(row.types is not None for row in rows):
        found["types"] = types
    return {name: torch.from_numpy(array) for name, array in found.items()}


def predictor(module: nn.Module, is_per_token: bool) -> Predict:
    """One by one, without padding."""

    def predict(rows: Sequence[Encoded]) -> Iterator[np.ndarray]:
        for row in rows:
            tensors = padded([row], len(row.inputs), is_per_token)
            with torch.no_grad():
                yield module(tensors["inputs"], tensors["mask"], types=tensors.get("types"))[0].numpy()

    return predict


def answers(kind: Kind, module: nn.Module, rows: Sequence[Encoded], items: Sequence[Any], reader: Reader) -> list[Any]:
    return kind.answers(predictor(module.eval(), kind.is_per_token), rows, items, lambda: nullcontext(module), reader)


CLASSIFICATION = kind_of(Classification(name="heat", rows=ROWS), LABELS)
SIMILARITY = kind_of(Similarity(name="alike", rows=ROWS), ())
TOKENS = kind_of(TokenClassification(name="tags", rows=ROWS), TAGS)


def rows_of(kind: Kind, reader: Reader, paired: bool, max_length: int = 200) -> tuple[list[Any], list[Encoded]]:
    made = texts(7, paired=paired or kind is SIMILARITY)
    items: list[Any] = list(made)
    if kind is SIMILARITY:
        items = [ScoredPair(item.id, item.text, str(item.second), len(item.text) / 100) for item in made]
    if kind is TOKENS:
        items = [
            LabelledTokens(item.id, tuple(item.text.split()), tuple(len(word) % 3 for word in item.text.split()))
            for item in made
        ]
    return items, kind.encode(items, reader, max_length, True)


@pytest.mark.parametrize("attention", ["unmasked_sdpa", "eager"])
@pytest.mark.parametrize(("kind", "paired"), [(CLASSIFICATION, False), (CLASSIFICATION, True), (TOKENS, False)])
@pytest.mark.parametrize(("family", "objective"), FAMILIES)
def test_padding_changes_neither_logits_nor_losses_nor_gradients(
    spec: SpecMaker, reader: Reader, family: str, objective: str, kind: Kind, paired: bool, attention: str
) -> None:
    """200 tokens: more than the 129 that a local layer of ModernBERT sees; its second layer is such a one."""
    shape = {"model.kind": family, "model.num_layers": 2, "batch.sequence_length": 200, "objective.kind": objective}
    model = build_model(spec(shape))
    model.set_attn_implementation(attention)
    torch.manual_seed(0)
    module = kind.module(model, 0.0, CrossEntropy(), None)
    _, rows = rows_of(kind, reader, paired)
    if family != "bert":
        rows = [Encoded(row.item, row.inputs, row.targets, None, row.num_cut) for row in rows]
    assert max(len(row.inputs) for row in rows) > 129

    together = padded(rows, 200, kind.is_per_token)
    targets = together.pop("targets")
    logits = module(**together)
    losses = module(**together, targets=targets)
    losses.sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad()
    for i, row in enumerate(rows):
        alone = padded([row], len(row.inputs), kind.is_per_token)
        target = alone.pop("targets")
        own = slice(0, len(row.inputs)) if kind.is_per_token else slice(None)
        torch.testing.assert_close(module(**alone)[0], logits[i][own], rtol=1e-4, atol=1e-5)
        without_mask = {name: tensor for name, tensor in alone.items() if name != "mask"}
        torch.testing.assert_close(module(**without_mask)[0], logits[i][own], rtol=1e-4, atol=1e-5)
        loss = module(**alone, targets=target)
        torch.testing.assert_close(loss.sum(), losses[i].sum(), rtol=1e-4, atol=1e-5)
        loss.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} learns nothing"
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("family", "objective"), FAMILIES)
def test_a_row_of_padding_alone_is_a_number_and_harms_no_other(
    spec: SpecMaker, reader: Reader, family: str, objective: str
) -> None:
    shape = {"model.kind": family, "model.num_layers": 2, "batch.sequence_length": 200, "objective.kind": objective}
    module = CLASSIFICATION.module(build_model(spec(shape)), 0.0, CrossEntropy(), None)
    _, rows = rows_of(CLASSIFICATION, reader, False)
    batch = padded(rows, 200, False)
    del batch["targets"]
    before = module(**batch)[1:]
    batch["mask"][0] = 0
    with torch.autocast("cpu", torch.bfloat16):
        assert module(**batch).isfinite().all()
    after = module(**batch)
    assert after.isfinite().all()
    torch.testing.assert_close(after[1:], before)


def test_the_second_text_is_marked_for_bert(spec: SpecMaker, reader: Reader) -> None:
    module = CLASSIFICATION.module(
        build_model(spec({"objective.kind": "mlm", "batch.sequence_length": 200})), 0.0, CrossEntropy(), None
    )
    _, rows = rows_of(CLASSIFICATION, reader, True)
    batch = padded(rows, 200, False)
    marked = module(**batch)
    del batch["types"]
    assert not torch.allclose(marked, module(**batch))


@pytest.mark.parametrize("rule", [CrossEntropy(), CrossEntropy(label_smoothing=0.1), Focal()])
def test_the_loss_goes_by_the_rule_and_by_the_class_weights(spec: SpecMaker, reader: Reader, rule: Any) -> None:
    model = build_model(spec({"objective.kind": "mlm", "batch.sequence_length": 200}))
    _, rows = rows_of(CLASSIFICATION, reader, False)
    batch = padded(rows, 200, False)
    torch.manual_seed(1)
    plain = CLASSIFICATION.module(model, 0.0, rule, None)(**batch)
    torch.manual_seed(1)
    weighed = CLASSIFICATION.module(model, 0.0, rule, torch.tensor([3.0, 3.0]))(**batch)
    assert plain.shape == (7, 1)
    torch.testing.assert_close(weighed, 3 * plain)


@pytest.mark.parametrize(("family", "objective"), [("llama", "clm"), ("bert", "mlm")])
def test_a_label_that_hangs_on_one_word_is_learned(
    spec: SpecMaker, reader: Reader, family: str, objective: str
) -> None:
    shape = {"model.kind": family, "batch.sequence_length": 200, "objective.kind": objective}
    torch.manual_seed(0)
    module = CLASSIFICATION.module(build_model(spec(shape)), 0.0, CrossEntropy(), None)
    items = texts(1000, seed=1, max_words=10)
    rows = CLASSIFICATION.encode(items, reader, 64, True)
    batch = padded(rows, 64, False)
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for step in range(100):
        chosen = torch.arange(step * 32, step * 32 + 32) % len(rows)
        loss = module(**{name: tensor[chosen] for name, tensor in batch.items()}).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh = texts(400, seed=2, max_words=10)
    encoded = CLASSIFICATION.encode(fresh, reader, 64, False)
    measured = CLASSIFICATION.measure(fresh, answers(CLASSIFICATION, module, encoded, fresh, reader))
    most_frequent = np.bincount([item.label for item in fresh]).max() / len(fresh)
    found = scores(measured, 200, 0)["accuracy"]
    assert found.value > 0.95 > most_frequent
    assert found.lo > most_frequent


def test_answers_are_probabilities_and_shown_with_the_right_one(spec: SpecMaker, reader: Reader) -> None:
    module = CLASSIFICATION.module(
        build_model(spec({"objective.kind": "mlm", "batch.sequence_length": 200})), 0.5, CrossEntropy(), None
    )
    items, rows = rows_of(CLASSIFICATION, reader, False)
    found = answers(CLASSIFICATION, module, rows, items, reader)
    assert np.stack(found).sum(1) == pytest.approx(np.ones(7))
    shown = CLASSIFICATION.shown(items[0], found[0])
    assert shown["right"] == LABELS[items[0].label]
    assert shown["answer"] == LABELS[int(found[0].argmax())]
    json.dumps(shown)


def test_an_alert_is_measured_at_the_threshold_of_validation() -> None:
    kind = kind_of(Classification(name="heat", rows=ROWS, alert=Alert(label="warm", min_precision=0.6)), LABELS)
    items = texts(300)
    generator = np.random.default_rng(0)

    def drawn(of: list[LabelledText]) -> list[np.ndarray]:
        warm = [0.2 + 0.4 * item.label + 0.4 * generator.random() for item in of]
        return [np.array([1 - value, value]) for value in warm]

    validation = kind.measure(items[:150], drawn(items[:150]))
    given = drawn(items[150:])
    test = kind.measure(items[150:], given, validation)
    threshold = validation.details["alert"]["threshold"]
    assert test.details["alert"]["threshold"] == threshold
    assert test.details["alert"]["num_alerts"] == sum(answer[1] >= threshold for answer in given)


def test_scores_are_learned_by_squared_error_and_measured_by_correlation(spec: SpecMaker, reader: Reader) -> None:
    module = SIMILARITY.module(
        build_model(spec({"objective.kind": "mlm", "batch.sequence_length": 200})), 0.0, CrossEntropy(), None
    )
    items, rows = rows_of(SIMILARITY, reader, True)
    batch = padded(rows, 200, False)
    losses = module(**batch)
    given = answers(SIMILARITY, module, rows, items, reader)
    expected = (np.array(given) - [item.score for item in items]) ** 2
    assert losses.squeeze(1).tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    measured = SIMILARITY.measure(items, [2 * item.score - 1 for item in items])
    assert {name: score.value for name, score in scores(measured, 100, 0).items()} == pytest.approx(
        {"pearson": 1.0, "spearman": 1.0}
    )


def test_a_word_is_labelled_at_its_first_token_and_nowhere_else(reader: Reader) -> None:
    items, rows = rows_of(TOKENS, reader, False)
    for item, row in zip(items, rows, strict=True):
        labelled = np.flatnonzero(row.targets != NOT_PREDICTED)
        assert row.targets[labelled].tolist() == list(item.tags)
        pieces = np.split(row.inputs[:-1], labelled)[1:]
        assert [reader.tokenizer.decode(piece.tolist()).strip() for piece in pieces] == list(item.tokens)


def test_words_beyond_the_context_are_outside_of_everything_and_counted(spec: SpecMaker, reader: Reader) -> None:
    items, rows = rows_of(TOKENS, reader, False, max_length=16)
    module = TOKENS.module(build_model(spec({"objective.kind": "mlm"})), 0.0, CrossEntropy(), None)
    assert all(len(row.inputs) <= 16 for row in rows)
    given = answers(TOKENS, module, rows, items, reader)
    unseen = 0
    for item, row, answer in zip(items, rows, given, strict=True):
        seen = int((row.targets != NOT_PREDICTED).sum())
        assert len(answer.tags) == len(item.tokens)
        assert answer.tags[seen:].tolist() == [0] * (len(item.tokens) - seen)
        assert (row.num_cut > 0) or seen == len(item.tokens)
        unseen += len(item.tokens) - seen
    details = TOKENS.measure(items, given).details
    assert details["words_unseen"] == unseen > 0
    json.dumps(TOKENS.shown(items[0], given[0]))


def test_a_word_beyond_the_context_has_no_answer_where_all_labels_stand_alone(spec: SpecMaker, reader: Reader) -> None:
    kind = kind_of(TokenClassification(name="tags", rows=ROWS, is_bio=False), ("x", "y", "z"))
    items, _ = rows_of(TOKENS, reader, False)
    rows = kind.encode(items, reader, 16, False)
    module = kind.module(build_model(spec({"objective.kind": "mlm"})), 0.0, CrossEntropy(), None)
    given = answers(kind, module, rows, items, reader)
    assert kind.shown(items[0], given[0])["answer"][-1] is None
    right = sum((answer.tags == np.array(item.tags)).sum() for item, answer in zip(items, given, strict=True))
    num_words = sum(len(item.tokens) for item in items)
    assert scores(kind.measure(items, given), 100, 0)["accuracy"].value == pytest.approx(right / num_words)


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (Classification(name="heat", rows=ROWS), ("cold",), "at least 2 labels"),
        (TokenClassification(name="tags", rows=ROWS), ("O",), "at least 2 labels"),
        (TokenClassification(name="tags", rows=ROWS), ("O", "NAME"), r"must be in BIO .* got \['NAME'\]"),
        (TokenClassification(name="tags", rows=ROWS), ("B-X", "I-X"), "must be in BIO"),
        (
            Classification.model_validate(
                {"name": "heat", "rows": ROWS, "alert": {"label": "hot", "min_precision": 0.9}}
            ),
            LABELS,
            "task.alert.label must be one of .* got 'hot'",
        ),
    ],
)
def test_labels_that_no_model_could_learn_are_refused(task: Any, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind_of(task, labels)
