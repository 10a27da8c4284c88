"""Metrics: the same rules for every script."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import (
    accuracy,
    bits_per_byte,
    choice_probabilities,
    corpus_bleu,
    corpus_chrf,
    distinct_2,
    exact_match,
    macro_f1,
    own_words,
    rouge_l,
    sentence_bleu,
    sentence_chrf,
    signatures,
    token_f1,
    words,
)

SCRIPTS = (
    "Reset it under Settings, then sign in again.",
    "Setzen Sie das Kennwort über „Konto“ zurück.",
    "Сбросьте пароль в настройках.",
    "パスワードは設定から再設定できます。",
    "请在设置中重置密码。",
    "أعد تعيين كلمة المرور من الإعدادات",
    "비밀번호는 설정에서 재설정하세요",
    "पासवर्ड सेटिंग में बदलें",
    "รีเซ็ตรหัสผ่านได้ที่การตั้งค่า",
    "👍",
)
TEXTS = st.one_of(st.sampled_from(SCRIPTS), st.text(max_size=40))
PAIR_METRICS = (rouge_l, token_f1, exact_match)


@pytest.mark.parametrize("text", SCRIPTS)
def test_identical_texts_are_perfect_in_every_script(text: str) -> None:
    """rouge-score with its own tokenizer gives 0.0 for most of these."""
    assert [metric(text, text) for metric in PAIR_METRICS] == [1.0, 1.0, 1.0]
    assert sentence_bleu(text, text) == pytest.approx(100)
    assert sentence_chrf(text, text) == pytest.approx(100)


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ("パスワードは設定から再設定できます。", "パスワードは管理画面で変更できます。"),
        ("请在设置中重置密码。", "请在账户中修改密码。"),
        ("Сбросьте пароль в настройках.", "Смените пароль в настройках аккаунта."),
        ("أعد تعيين كلمة المرور من الإعدادات", "غيّر كلمة المرور من الحساب"),
        ("รีเซ็ตรหัสผ่านได้ที่การตั้งค่า", "เปลี่ยนรหัสผ่านได้ที่หน้าบัญชี"),
        ("비밀번호는 설정에서 재설정하세요", "비밀번호는 설정에서 바꾸세요"),
    ],
)
def test_answers_that_share_a_part_are_alike_in_part_in_every_script(reference: str, candidate: str) -> None:
    for metric in (rouge_l, token_f1):
        assert 0.2 < metric(reference, candidate) < 0.9
    assert 5 < sentence_bleu(reference, candidate) < 90
    assert 5 < sentence_chrf(reference, candidate) < 90


@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_any_text_is_perfect_against_itself(text: str) -> None:
    assert all(metric(text, text) == pytest.approx(1) for metric in PAIR_METRICS)


@given(a=TEXTS, b=TEXTS)
@settings(max_examples=80, deadline=None)
def test_shares_stay_between_0_and_1_and_f1_does_not_care_who_is_the_reference(a: str, b: str) -> None:
    for metric in PAIR_METRICS:
        assert 0 <= metric(a, b) <= 1
        assert metric(a, b) == pytest.approx(metric(b, a))
    assert 0 <= sentence_bleu(a, b) <= 100
    assert 0 <= sentence_chrf(a, b) <= 100


def test_words_part_han_and_kana_by_character_and_other_scripts_by_word() -> None:
    assert words("Zwei Wörter, 密码 リ") == ["zwei", "wörter", "密", "码", "リ"]
    assert words("पासवर्ड") == ["पासवर्ड"]
    assert words("  \n ") == []


def test_rouge_l_counts_the_longest_common_subsequence() -> None:
    """3 of 4 and 3 of 5 words in order: P = 3/5, R = 3/4, F = 2PR/(P+R) = 2/3."""
    assert rouge_l("open the settings page", "please open your settings page") == pytest.approx(2 / 3)


def test_a_blank_answer_to_something_is_worth_nothing() -> None:
    assert rouge_l("something", "") == token_f1("something", " ") == exact_match("something", "") == 0


def test_corpus_bleu_of_japanese_sees_characters() -> None:
    wanted, near = "パスワードを再設定してください", "パスワードを変更してください"

    assert 20 < corpus_bleu([wanted], [near]) < 100
    assert corpus_bleu([wanted], [wanted]) == pytest.approx(100)
    assert corpus_chrf([wanted], [near]) < 100


def test_signatures_name_the_tokenizer_and_the_version() -> None:
    assert "tok:13a" in signatures()["bleu"] and "version:" in signatures()["bleu"]
    assert "nc:6" in signatures()["chrf"]


def test_macro_f1_weighs_rare_topics_like_frequent_ones() -> None:
    """Topic a: F1 1; topic b: never said, F1 0."""
    truth, said = ["a", "a", "a", "b"], ["a", "a", "a", "c"]

    assert accuracy(truth, said) == 0.75
    assert macro_f1(truth, said) == pytest.approx(0.5)


def test_bits_per_byte_counts_utf8_bytes() -> None:
    assert bits_per_byte(math.log(2) * 4, "é!é") == pytest.approx(4 / 5)
    assert math.isnan(bits_per_byte(math.nan, "a"))
    with pytest.raises(ValueError, match="empty"):
        bits_per_byte(1.0, "")


@given(st.lists(st.floats(-200, 0), min_size=2, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_choice_probabilities_sum_to_one_and_follow_the_likelihoods(lls: list[float], data: st.DataObject) -> None:
    shares = choice_probabilities(lls)

    assert math.isclose(sum(shares), 1, rel_tol=1e-9)
    ranked = sorted(zip(lls, shares, strict=True))
    assert all(low[1] <= high[1] for low, high in pairwise(ranked))
    same_length = choice_probabilities(lls, [data.draw(st.integers(1, 50))] * len(lls))
    assert same_length == pytest.approx(shares)


def test_length_normalised_probabilities_do_not_favour_the_short_choice() -> None:
    plain, fair = choice_probabilities([-4.0, -6.0]), choice_probabilities([-4.0, -6.0], [10, 20])

    assert plain[0] > plain[1]
    assert fair[0] < fair[1]


def test_a_choice_without_a_number_makes_the_item_unknown() -> None:
    assert all(map(math.isnan, choice_probabilities([math.nan, -1.0])))


def test_text_that_repeats_itself_has_fewer_different_pairs() -> None:
    assert distinct_2("one two three four") == 1.0
    assert distinct_2("go on and on and on and on") == pytest.approx(3 / 7)
    assert distinct_2("パスパスパス") == pytest.approx(2 / 5)
    assert distinct_2("") == distinct_2("word") == 0.0


def test_what_another_text_says_too_is_not_its_own() -> None:
    assert own_words(["we open at nine", "we open at ten", "closed"]) == [0.5, 0.5, 0.0]
    assert own_words(["the same old song again"] * 3) == [0.0] * 3
    assert own_words(["a b c d", "e f g h"]) == [1.0, 1.0]
