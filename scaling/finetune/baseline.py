"""What the rows of a task are worth without a language model: the least that a fine-tuned one must beat.

tfidf_logreg    words and pairs of words (characters, where a script has no spaces) by TF-IDF, logistic regression
tfidf_ridge     the same features of two texts, ridge regression of their score
window_logreg   for each word: itself, its ends and its shape, and the words around it; logistic regression
copy, lead_1    for texts made from others: the source itself, or its first sentence, as validation prefers

Of questions there is none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.cache import build_once, read_manifest
from scaling.data.ngrams import SOLO_RANGES
from scaling.data.tasks.items import LabelledText, LabelledTokens, ScoredPair, TaskData
from scaling.data.tasks.stored import as_text
from scaling.evaluate.metrics import Score, scores
from scaling.finetune.kind import kind_of
from scaling.finetune.outcome import replicates_fact
from scaling.identity import digest
from scaling.task import AnyTask, metric_of

BASELINE_VERSION = 3
"""Raised when a change of code changes a baseline."""

REGULARISATION = 10.0
"""Scikit-learn's C: of 0.1, 1, 10 and 100 the best on validation, or within 0.6 points of it, on sentiment and topics,
English and Chinese. One label against the rest, by liblinear: 2 s where lbfgs over all labels takes 45, and the same
accuracy within 0.6 points, mostly above."""

MAX_SAMPLE = 1000
"""Texts that are looked at to tell whether their script has spaces."""

SOLO = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in SOLO_RANGES) + "]")
LETTER = re.compile(r"[^\W\d_]")
SENTENCE = re.compile(r".+?(?:[.!?](?=\s)|[。！？]|$)", re.DOTALL)

Answers = tuple[str, list[Any], list[Any]]
"""The name of the baseline, and its answers to the rows of validation and of test."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the rows are worth without a language model. replicates: see `replicates_fact`."""

    name: str
    scores: dict[str, Score]
    replicates: str


def baseline(
    task: AnyTask,
    data: TaskData[Any],
    items: Sequence[Any],
    cache: Path,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Baseline | None:
    """What a baseline learns from `items` and is worth on the test rows of `data`; None if a kind has none.

    The order of items does not matter. Kept in `cache/baselines/` by all that it depends on.
    num_resamples, seed: of the intervals.
    """
    if task.kind not in ANSWERS:
        return None
    items = sorted(items, key=lambda item: item.id)  # seeds of fine-tuning order the same rows in their own way
    held = {"train": items, "validation": data.validation, "test": data.test}
    address = digest(
        {
            "version": [BASELINE_VERSION, num_resamples, seed],
            "task": task.model_dump(mode="json", exclude={"rows", "splitting", "labels"}),
            "labels": list(data.labels),
            "rows": {name: hashlib.sha256(as_text(rows).encode()).hexdigest() for name, rows in held.items()},
        }
    )

    def build(folder: Path) -> dict[str, Any]:
        kind = kind_of(task, data.labels)
        name, validation, test = ANSWERS[task.kind](task, data, items)
        measured = kind.measure(data.test, test, kind.measure(data.validation, validation))
        found = scores(measured, num_resamples, seed)
        return {
            "name": name,
            "replicates": replicates_fact(task, measured),
            "scores": {metric: [score.value, score.lo, score.hi] for metric, score in found.items()},
        }

    manifest = read_manifest(build_once(cache / "baselines", address, build))
    found = {metric: Score(*values) for metric, values in manifest["scores"].items()}
    return Baseline(manifest["name"], found, manifest["replicates"])


# ---- texts -----------------------------------------------------------------------------------------


def _text_answers(task: AnyTask, data: TaskData[LabelledText], items: Sequence[LabelledText]) -> Answers:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    features = _fitted(items)
    one = LogisticRegression(C=REGULARISATION, solver="liblinear", dual=True, max_iter=300, random_state=0)
    fit = OneVsRestClassifier(one).fit(features(items), np.array([item.label for item in items]))

    def probabilities(rows: Sequence[LabelledText]) -> list[Any]:
        """Of all labels [rows, L]; one without a training row has none."""
        found = np.zeros((len(rows), len(data.labels)))
        found[:, fit.classes_] = fit.predict_proba(features(rows))
        return list(found)

    return "tfidf_logreg", probabilities(data.validation), probabilities(data.test)


def _score_answers(task: AnyTask, data: TaskData[ScoredPair], items: Sequence[ScoredPair]) -> Answers:
    from sklearn.linear_model import Ridge

    features = _fitted(items)
    fit = Ridge(alpha=1.0).fit(features(items), np.array([item.score for item in items]))
    validation, test = (fit.predict(features(rows)).tolist() for rows in (data.validation, data.test))
    return "tfidf_ridge", validation, test


def _fitted(items: Sequence[LabelledText] | Sequence[ScoredPair]) -> Callable[[Sequence[Any]], Any]:
    """From rows to features [rows, f]: those of the text, of the second one, and of what both have."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    has_second = items[0].second is not None
    texts = [item.text for item in items]
    seconds = [item.second or "" for item in items] if has_second else []
    how: dict[str, Any] = (
        {"analyzer": "char", "ngram_range": (1, 3)}
        if has_no_spaces(texts)
        else {"ngram_range": (1, 2), "token_pattern": r"\S+"}
    )
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2 if len(texts) >= 1000 else 1, **how)
    vectorizer.fit([*texts, *seconds])

    def features(rows: Sequence[Any]) -> Any:
        first = vectorizer.transform([item.text for item in rows])
        if not has_second:
            return first
        second = vectorizer.transform([item.second or "" for item in rows])
        both = first.multiply(second)
        return hstack([first, second, both, both.sum(axis=1)]).tocsr()

    return features


def has_no_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters are of scripts written without spaces: Chinese, Japanese, Thai."""
    sample = "".join(texts[:: max(len(texts) // MAX_SAMPLE, 1)])
    return 2 * len(SOLO.findall(sample)) > len(LETTER.findall(sample))


# ---- words -----------------------------------------------------------------------------------------


def _word_answers(task: AnyTask, data: TaskData[LabelledTokens], items: Sequence[LabelledTokens]) -> Answers:
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    from scaling.finetune.kinds.tokens import TagAnswer

    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False)
    train = hasher.transform(features for item in items for features in window_features(item.tokens))
    tags = np.array([tag for item in items for tag in item.tags])
    # Averaged: F1 0.38 on Weibo NER, 0.34 without. liblinear finds 0.39, and takes longer the more words there are.
    fit = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=8, tol=None, average=True, random_state=0)
    fit.fit(train, tags)

    def answers(rows: Sequence[LabelledTokens]) -> list[TagAnswer]:
        held = hasher.transform(features for item in rows for features in window_features(item.tokens))
        ends = np.cumsum([len(item.tokens) for item in rows])[:-1]
        return [TagAnswer(tags.astype(np.int64), 0) for tags in np.split(fit.predict(held), ends)]

    return "window_logreg", answers(data.validation), answers(data.test)


def window_features(tokens: Sequence[str]) -> Iterator[list[str]]:
    """What is known of each word: itself, its ends, its shape, and the two words on either side."""
    padded = ["<", "<", *tokens, ">", ">"]
    lower = [word.lower() for word in padded]
    shapes = [_shape(word) for word in padded]
    for at in range(2, len(tokens) + 2):
        word = lower[at]
        yield [
            f"0={word}",
            f"0^{padded[at]}",
            *(f"<{size}{word[:size]}" for size in (1, 2, 3)),
            *(f">{size}{word[-size:]}" for size in (1, 2, 3)),
            *(f"{by}={lower[at + by]}" for by in (-2, -1, 1, 2)),
            *(f"{by}s{shapes[at + by]}" for by in (-1, 0, 1)),
            f"-1,0={lower[at - 1]} {word}",
            f"0,1={word} {lower[at + 1]}",
            f"s{shapes[at - 1]} {shapes[at]} {shapes[at + 1]}",
        ]


def _shape(word: str) -> str:
    """`Aa`, `AA`, `0-0`: the kinds of its characters, no more than two of a kind in a row, eight in all."""
    kinds = "".join(
        "A" if letter.isupper() else "a" if letter.isalpha() else "0" if letter.isdigit() else letter for letter in word
    )
    return re.sub(r"(.)\1{2,}", r"\1\1", kinds)[:8]


# ---- texts made from texts -------------------------------------------------------------------------


def _written_answers(task: AnyTask, data: TaskData[Any], items: Sequence[Any]) -> Answers:
    kind, metric = kind_of(task, data.labels), metric_of(task)
    rules: dict[str, Callable[[str], str]] = {"copy": str, "lead_1": first_sentence}
    worth: dict[str, float] = {}
    for name, rule in rules.items():
        measured = kind.measure(data.validation, [rule(item.source) for item in data.validation])
        worth[name] = float(measured.values(np.ones(len(measured.stats)))[metric])
    best = max(worth, key=worth.__getitem__)
    validation, test = ([rules[best](item.source) for item in rows] for rows in (data.validation, data.test))
    return best, validation, test


def first_sentence(text: str) -> str:
    """Up to the first mark that ends a sentence."""
    found = SENTENCE.match(text)
    return found.group().strip() if found else text


ANSWERS: dict[str, Callable[[Any, TaskData[Any], Sequence[Any]], Answers]] = {
    "classification": _text_answers,
    "similarity": _score_answers,
    "tokens": _word_answers,
    "generation": _written_answers,
}
