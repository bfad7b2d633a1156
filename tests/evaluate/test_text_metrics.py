"""ROUGE, BLEU and chrF against the libraries' own scores of whole corpora."""

from __future__ import annotations

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from scaling.evaluate.metrics import resamples, scores
from scaling.evaluate.text_metrics import SPLITS, Lowered, measure_texts

WRITTEN = ["The cat sat on the mat.", "A dog barks loudly at night", "", "it is what it is, isn't it?"]
RIGHT = [
    ["The cat is on the mat.", "There was a cat sitting on the mat."],
    ["The dog barked all night."],
    ["Nothing was said."],
    ["It is what it is.", "That's how things are.", "so be it"],
]
CHINESE = ["活性艳蓝GN的应用性能", "今天天气很好"], [["双官能团活性艳蓝的应用性能"], ["今天的天气好"]]


def values(written: list[str], right: list[list[str]], tokenize: str) -> dict[str, float]:
    return {name: score.value for name, score in scores(measure_texts(written, right, tokenize), 100, 0).items()}


def streams(right: list[list[str]]) -> list[list[str | None]]:
    """sacreBLEU wants the first right texts, then the second, and so on; None where there are fewer."""
    return [[texts[k] if k < len(texts) else None for texts in right] for k in range(max(map(len, right)))]


@pytest.mark.parametrize(("texts", "tokenize"), [((WRITTEN, RIGHT), "13a"), (CHINESE, "zh"), (CHINESE, "char")])
def test_bleu_and_chrf_are_sacrebleus_of_the_corpus(texts: tuple[list[str], list[list[str]]], tokenize: str) -> None:
    written, right = texts
    found = values(written, right, tokenize)
    bleu = BLEU(tokenize=tokenize).corpus_score(written, streams(right)).score
    chrf = CHRF().corpus_score(written, streams(right)).score
    assert bleu > 1
    assert found["bleu"] == pytest.approx(bleu / 100)
    assert found["chrf"] == pytest.approx(chrf / 100)


def test_a_resample_is_the_corpus_of_the_rows_drawn() -> None:
    measured = measure_texts(WRITTEN, RIGHT, "13a")
    weights = np.concatenate(list(resamples(len(WRITTEN), 20, seed=3)))
    found = measured.values(weights)
    for drawn, bleu, chrf in zip(weights.astype(int), found["bleu"], found["chrf"], strict=True):
        written, right = list(np.repeat(WRITTEN, drawn)), [RIGHT[row] for row in np.repeat(range(4), drawn)]
        assert bleu == pytest.approx(BLEU().corpus_score(written, streams(right)).score / 100)
        assert chrf == pytest.approx(CHRF().corpus_score(written, streams(right)).score / 100)


def test_rouge_is_the_mean_of_rouge_scores_own_best_f_on_english() -> None:
    found = values(WRITTEN, RIGHT, "13a")
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name, own in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        best = [scorer.score_multi(right, text)[own].fmeasure for text, right in zip(WRITTEN, RIGHT, strict=True)]
        assert found[name] == pytest.approx(np.mean(best))
    assert 0 < found["rouge_2"] < found["rouge_1"] < 1


def test_rouge_of_chinese_goes_by_character_and_of_its_english_by_word() -> None:
    assert Lowered(SPLITS["zh"]).tokenize("《活性艳蓝》GN-2, ok") == ["活", "性", "艳", "蓝", "gn", "2", "ok"]
    assert Lowered(SPLITS["char"]).tokenize("a b。") == ["a", "b", "。"]
    # 今 天 天 气 好 of 今 天 天 气 很 好 (6) and 今 天 的 天 气 好 (6).
    assert values(*[texts[1:] for texts in CHINESE], "zh")["rouge_l"] == pytest.approx(5 / 6)


def test_letters_beyond_a_to_z_count_in_rouge() -> None:
    assert values(["Über die Straße"], [["über die Straße"]], "13a")["rouge_1"] == 1.0
    assert values(["Straße"], [["Strafe"]], "13a")["rouge_1"] == 0.0


def test_a_perfect_text_has_all_metrics_at_one_and_an_empty_one_at_zero() -> None:
    text = "five words are in here"
    assert values([text], [["none of it", text]], "13a") == pytest.approx(
        {"rouge_1": 1.0, "rouge_2": 1.0, "rouge_l": 1.0, "bleu": 1.0, "chrf": 1.0}
    )
    assert set(values([""], [[text]], "13a").values()) == {0.0}
    assert measure_texts(["", text], [[text], [text]], "13a").details == {"num_empty": 1}
