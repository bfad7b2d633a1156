"""What a written text is worth beside right ones: ROUGE by rouge-score, BLEU and chrF by sacreBLEU.

ROUGE-1, -2 and -L (Lin 2004) are the mean F over texts, of the best of several right ones. BLEU (Papineni et al. 2002)
and chrF (Popovic 2015) are of all texts together, as `sacrebleu` has them by default, from counts that each text adds:
so each resample of the texts has them exactly. All as shares from 0 to 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from absl import logging as absl_logging
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics import BLEU, CHRF

from scaling.evaluate.metrics import Measured, Numbers, share

# rouge-score logs by absl, which would close the stderr that it found when it was imported, whoever else writes to it.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

ROUGES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
WORDS = re.compile(r"[^\W_]+")
HAN_OR_WORDS = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]|[^\\W_\u3400-\u9fff\uf900-\ufaff]+"
)
"""A Chinese character stands for itself; what stands between them, in words."""
CHARACTERS = re.compile(r"\S")
SPLITS = {"13a": WORDS, "zh": HAN_OR_WORDS, "char": CHARACTERS}


@dataclass(frozen=True)
class Lowered(Tokenizer):
    """The lower-cased pieces of a text that a pattern finds: of English, what rouge-score itself splits without
    stemming; but it drops every letter beyond a to z."""

    pattern: re.Pattern[str]

    def tokenize(self, text: str) -> list[str]:
        return self.pattern.findall(text.lower())


def measure_texts(texts: Sequence[str], rights: Sequence[Sequence[str]], tokenize: str) -> Measured:
    """Texts, and the right ones for each, at least one. tokenize: how words are told apart: 13a, zh or char."""
    rouge = RougeScorer(list(ROUGES.values()), tokenizer=Lowered(SPLITS[tokenize]))
    # Orders that a short text lacks matter to the score of one text only, which nobody asks for.
    bleu, chrf = BLEU(tokenize=tokenize, effective_order=True), CHRF()
    rows = []
    for text, right in zip(texts, rights, strict=True):
        best = rouge.score_multi(list(right), text)
        counted = bleu.sentence_score(text, list(right))
        rows.append(
            [
                1.0,
                *(best[name].fmeasure for name in ROUGES.values()),
                *(counted.sys_len, counted.ref_len, *counted.counts, *counted.totals),
                *chrf._extract_corpus_statistics([text], [[each] for each in right])[0],
            ]
        )
    first_of_chrf = 4 + 2 + 2 * bleu.max_ngram_order
    return Measured(
        np.array(rows, dtype=np.float64),
        {
            **{name: _mean(1 + place) for place, name in enumerate(ROUGES)},
            "bleu": lambda sums: _each(_bleu, sums[..., 4:first_of_chrf]),
            "chrf": lambda sums: _each(lambda counts: chrf._compute_f_score(counts) / 100, sums[..., first_of_chrf:]),
        },
        details={"num_empty": sum(not text.strip() for text in texts)},
    )


def _mean(column: int) -> Callable[[Numbers], Numbers]:
    return lambda sums: share(sums[..., column], sums[..., 0])


def _bleu(counts: Numbers) -> float:
    """BLEU of counts [10]: words written, words of the nearest right texts, and n-grams found and written, by n."""
    written, wanted, *ngrams = counts.round().astype(int).tolist()  # it prints them as such
    found, total = ngrams[: len(ngrams) // 2], ngrams[len(ngrams) // 2 :]
    return float(BLEU.compute_bleu(found, total, written, wanted, smooth_method="exp").score) / 100


def _each(score: Callable[[Numbers], float], counts: Numbers) -> Numbers:
    """The score of each row of counts [..., k]."""
    return np.apply_along_axis(score, -1, counts)
