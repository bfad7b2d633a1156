"""Labels of words: entities, as `seqeval` counts them, or labels that stand alone.

An entity is right where its type and both of its ends are. `seqeval` itself would bring scikit-learn into every run,
two seconds; the tests compare what is counted here with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scaling.evaluate.classification import (
    Indices,
    OfCounts,
    accuracy,
    count,
    count_labels,
    f1,
    f1_micro,
    label_details,
    macro,
    of_sums,
    precision,
    recall,
    report,
)
from scaling.evaluate.metrics import Measured, Numbers, share

OUTSIDE = "O"
BIO = re.compile(r"O|[BIES]-.+")
NO_LABEL = -1
"""What a word is given that the model did not see, where there is no label for words outside of everything."""


@dataclass(frozen=True, slots=True)
class Words:
    """The labels of all words of some rows, one after the other.

    having, given [words]: indices of labels, given may be NO_LABEL. row_of [words]; num_rows, of which some may have no
    words.
    """

    having: Indices
    given: Indices
    row_of: Indices
    num_rows: int


def words_of(having: Sequence[Sequence[int]], given: Sequence[Sequence[int]]) -> Words:
    """The labels that the words of each row have and were given."""
    lengths = [len(row) for row in having]
    assert lengths == [len(row) for row in given], "every word has an answer"
    flat = [np.fromiter((tag for row in rows for tag in row), np.int64, sum(lengths)) for rows in (having, given)]
    return Words(flat[0], flat[1], np.repeat(np.arange(len(lengths)), lengths), len(lengths))


def measure_words(words: Words, labels: Sequence[str]) -> Measured:
    """Labels that stand alone. f1, precision, recall: macro. accuracy: the share of words that are right."""
    counts = count_labels(words.row_of, words.num_rows, words.having, words.given, len(labels))
    metrics: dict[str, OfCounts] = {
        "f1": partial(macro, f1),
        "precision": partial(macro, precision),
        "recall": partial(macro, recall),
        "accuracy": accuracy,
    }
    return Measured(
        counts.reshape(words.num_rows, -1),
        {name: of_sums(metric, len(labels)) for name, metric in metrics.items()},
        details=label_details(words.having, words.given, labels),
    )


def measure_entities(words: Words, labels: Sequence[str]) -> Measured:
    """Labels in BIO (or BIOES), `O` among them.

    f1, precision, recall: of the entities of all types together, as CoNLL-2003 counts them; f1_macro: the mean over
    types. accuracy: the share of words that are right.
    """
    types = sorted({label[2:] for label in labels if label != OUTSIDE})
    type_of_label = np.array([types.index(label[2:]) if label != OUTSIDE else -1 for label in labels])
    tag_of_label = np.array([label[0] for label in labels])
    columns, ends = [], []
    for of_words in (words.having, words.given):
        end, start = _entities(tag_of_label[of_words], type_of_label[of_words], words.row_of)
        columns.append(count(words.row_of[start], type_of_label[of_words[start]], words.num_rows, len(types)))
        ends.append(end)
    is_right = (ends[0] >= 0) & (ends[0] == ends[1])
    is_right &= type_of_label[words.having] == type_of_label[words.given]
    columns.append(count(words.row_of[is_right], type_of_label[words.having[is_right]], words.num_rows, len(types)))
    counts = np.stack(columns, axis=1)
    is_right_word = (words.having == words.given).astype(np.int64)
    of_each = count(words.row_of, is_right_word, words.num_rows, 2)  # wrong words, right words
    metrics: dict[str, OfCounts] = {
        "f1": f1_micro,
        "precision": lambda having, given, right: share(right.sum(-1), given.sum(-1)),
        "recall": lambda having, given, right: share(right.sum(-1), having.sum(-1)),
        "f1_macro": partial(macro, f1),
    }
    having, given, right = counts.sum(0)
    measure: dict[str, Callable[[Numbers], Numbers]] = {
        name: of_sums(metric, len(types)) for name, metric in metrics.items()
    }
    measure["accuracy"] = lambda sums: share(sums[..., -1], sums[..., -1] + sums[..., -2])
    return Measured(
        np.hstack([counts.reshape(words.num_rows, -1), of_each]),
        measure,
        details={
            **label_details(words.having, words.given, labels),
            "report": report(having, given, right, types),
            "labels_without_rows": [name for name, number in zip(types, having, strict=True) if not number],
        },
    )


def _entities(tags: NDArray[np.str_], types: Indices, row_of: Indices) -> tuple[Indices, Indices]:
    """For each word the end of the entity that begins with it, one after its last word, or -1; and where any begins.

    As conlleval has it: an entity begins with B or S, or with any word inside that follows one outside, an end (E, S),
    or one of another type; it goes on until the next word that begins one, is outside, or is of another row.
    """
    is_inside = tags != OUTSIDE
    begins = np.isin(tags, ("B", "S"))
    begins[:1] = True
    begins[1:] |= np.isin(tags[:-1], (OUTSIDE, "E", "S")) | (types[1:] != types[:-1]) | (row_of[1:] != row_of[:-1])
    begins &= is_inside
    start = np.flatnonzero(begins)
    stops = np.append(np.flatnonzero(begins | ~is_inside | np.append(False, row_of[1:] != row_of[:-1])), len(tags))
    end = np.full(len(tags), -1)
    end[start] = stops[np.searchsorted(stops, start, side="right")]
    return end, start
