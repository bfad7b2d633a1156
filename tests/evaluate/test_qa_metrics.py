"""Exact match and F1, against numbers worked out by the rules of the official scripts."""

from __future__ import annotations

import pytest

from scaling.evaluate.metrics import scores
from scaling.evaluate.qa_metrics import cmrc_f1, cmrc_segments, measure_answers, squad_f1, squad_normal


def measured(answers: list[str], rights: list[list[str]], is_by_character: bool = False) -> dict[str, float]:
    found = scores(measure_answers(answers, rights, is_by_character), 100, 0)
    return {name: score.value for name, score in found.items()}


def test_squad_ignores_case_punctuation_articles_and_spaces() -> None:
    assert squad_normal("  The  Apollo-11, a  Mission!") == "apollo11 mission"
    assert measured(["the Denver Broncos."], [["Denver  broncos"]]) == {"f1": 1.0, "exact_match": 1.0}


def test_an_article_within_a_word_stays() -> None:
    assert squad_normal("another theory") == "another theory"


def test_squad_counts_words_as_often_as_both_have_them() -> None:
    # Given: yes yes no (3); wanted: yes no no maybe (4); shared: yes, no.
    assert squad_f1("yes yes no", "yes no no maybe") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert squad_f1("left", "right") == 0.0


def test_the_best_of_several_right_answers_counts() -> None:
    assert measured(["in Paris"], [["London", "Paris", "in Paris, France"]]) == {
        "f1": pytest.approx(0.8),  # of "in Paris, France": 2 of 2 and 2 of 3
        "exact_match": 0.0,
    }


def test_chinese_is_compared_by_its_longest_shared_run_of_characters() -> None:
    assert cmrc_segments("《战国无双3》由KOEI开发。") == ["战", "国", "无", "双", "3", "由", "koei", "开", "发"]
    # Shared run: 光荣 (2), of 光荣公司 (4) and 日本光荣 (4); 日本 and 公司 belong to no shared run.
    assert cmrc_f1("光荣公司", "日本光荣") == pytest.approx(0.5)
    # As bags, all four characters would be shared; as runs, two are.
    assert cmrc_f1("光荣日本", "日本光荣") == pytest.approx(0.5)
    assert cmrc_f1("猫", "狗") == 0.0
    assert measured(["光荣。"], [["光荣"]], is_by_character=True) == {"f1": 1.0, "exact_match": 1.0}


def test_a_word_tokenizer_splits_the_english_of_a_chinese_answer() -> None:
    assert cmrc_segments("Mr. Smith的3.5英镑") == ["mr.", "smith", "的", "3.5", "英", "镑"]


def test_a_question_without_answer_is_right_where_nothing_is_said() -> None:
    rights = [["yes"], [], []]
    said = measure_answers(["yes", "", "no"], rights, is_by_character=False)
    assert said.details == {
        "answerable": {"num_items": 1, "f1": 1.0, "exact_match": 1.0},
        "unanswerable": {"num_items": 2, "f1": 0.5, "exact_match": 0.5},
    }
    assert measured(["yes", "", "no"], rights)["exact_match"] == pytest.approx(2 / 3)
    assert "answerable" not in measure_answers(["yes"], [["yes"]], is_by_character=False).details


@pytest.mark.parametrize("is_by_character", [False, True])
def test_an_answer_of_nothing_but_punctuation_is_no_error(is_by_character: bool) -> None:
    assert measured(["-", "x"], [["x"], ["-"]], is_by_character) == {"f1": 0.0, "exact_match": 0.0}
