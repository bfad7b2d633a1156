"""Exact match and F1 of extracted answers: SQuAD's by words, CMRC 2018's by Chinese characters.

SQuAD (Rajpurkar et al. 2016 and 2018, the official script): texts are lower-cased, and lose punctuation, articles and
extra spaces; F1 is of their words as bags. CMRC 2018 (Cui et al. 2019, its script): texts are lower-cased and lose
CMRC's own list of punctuation; F1 is of the longest run of segments that both have, segments being Chinese characters
and English words. In both, an answer counts as the best of what it is against each of the right ones.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from scaling.evaluate.metrics import Measured, share

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
CMRC_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""Of CMRC's script: what stands within English words, such as a full stop, is left to its word tokenizer. An ellipsis
is in its list too, but as two characters, where it looks at one: it stays."""
CMRC_SEGMENT = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")


def measure_answers(answers: Sequence[str], rights: Sequence[Sequence[str]], is_by_character: bool) -> Measured:
    """Answers, and the right ones to each question; none: it has no answer, and to say nothing is right.

    Shares from 0 to 1. details: the same of the questions that have an answer, and of those that have none, where some
    have none.
    """
    of_each = [_of_question(answer, right, is_by_character) for answer, right in zip(answers, rights, strict=True)]
    is_answerable = np.array([bool(right) for right in rights])
    stats = np.array([(f1, exact, 1.0) for f1, exact in of_each]).reshape(-1, 3)
    details: dict[str, object] = {}
    if not is_answerable.all():
        for name, chosen in (("answerable", is_answerable), ("unanswerable", ~is_answerable)):
            f1, exact, number = stats[chosen].sum(0).tolist()
            details[name] = {
                "num_items": int(number),
                "f1": f1 / number if number else None,
                "exact_match": exact / number if number else None,
            }
    return Measured(
        stats,
        {
            "f1": lambda sums: share(sums[..., 0], sums[..., 2]),
            "exact_match": lambda sums: share(sums[..., 1], sums[..., 2]),
        },
        details=details,
    )


def _of_question(answer: str, rights: Sequence[str], is_by_character: bool) -> tuple[float, float]:
    """F1 and exact match of one answer: the best of each."""
    possible = rights or ("",)
    if is_by_character:
        exact = any(_without_cmrc_punctuation(answer) == _without_cmrc_punctuation(right) for right in possible)
        return max(cmrc_f1(answer, right) for right in possible), float(exact)
    exact = any(squad_normal(answer) == squad_normal(right) for right in possible)
    return max(squad_f1(answer, right) for right in possible), float(exact)


def squad_normal(text: str) -> str:
    """Lower-case, without punctuation, articles and extra spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def squad_f1(answer: str, right: str) -> float:
    """F1 of the words of two texts, as bags; where one of them has none, 1 if neither has."""
    given, wanted = squad_normal(answer).split(), squad_normal(right).split()
    if not given or not wanted:
        return float(given == wanted)
    return _f1((Counter(given) & Counter(wanted)).total(), len(given), len(wanted))


def cmrc_f1(answer: str, right: str) -> float:
    """F1 of the longest run of segments that two texts share; where one of them has none, 1 if neither has."""
    given, wanted = cmrc_segments(answer), cmrc_segments(right)
    if not given or not wanted:
        return float(given == wanted)
    longest = SequenceMatcher(None, wanted, given, autojunk=False).find_longest_match()
    return _f1(longest.size, len(given), len(wanted))


def cmrc_segments(text: str) -> list[str]:
    """Chinese characters, and the words between them as the Penn Treebank has them; no punctuation of CMRC's list."""
    from nltk.tokenize import NLTKWordTokenizer

    words = NLTKWordTokenizer()
    runs = CMRC_SEGMENT.findall(_without_cmrc_punctuation(text))
    return [segment for run in runs for segment in ([run] if "\u4e00" <= run[0] <= "\u9fa5" else words.tokenize(run))]


def _without_cmrc_punctuation(text: str) -> str:
    return text.lower().strip().translate(CMRC_PUNCTUATION)


def _f1(num_shared: int, num_given: int, num_wanted: int) -> float:
    return 2 * num_shared / (num_given + num_wanted)
