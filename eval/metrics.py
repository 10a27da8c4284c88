"""Numbers for texts and labels: one function a metric, the same for every script.

Knows text, labels and log-probabilities. Knows no model, no benchmark and no ledger. Shares are 0 to 1, BLEU and
chrF are points 0 to 100, as their papers print them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import regex
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sklearn.metrics import accuracy_score, f1_score

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_ALONE = rf"[{_UNSPACED}--\p{{M}}]\p{{M}}*"
_TOKEN = regex.compile(rf"(?V1){_ALONE}|[[\p{{L}}\p{{N}}\p{{M}}]--{_UNSPACED}]+")
_CHARACTER = regex.compile(rf"(?V1)({_ALONE})")


def words(text: str) -> list[str]:
    """Case-folded words of any script; where no spaces part them (Han, kana, Thai, Lao, Khmer, Burmese) each character
    stands alone, with its marks.

    A text without any letter or digit ("👍", "?!") falls back to its visible characters, so that two equal texts are
    equal here, too. Empty only for white space. rouge-score's own tokenizer keeps a-z and 0-9 alone and thereby
    calls two identical Japanese answers unlike.
    """
    return _TOKEN.findall(text.casefold()) or [mark for mark in text if not mark.isspace()]


class _Words:
    """`words` in the shape that rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge_l(reference: str, candidate: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 1; two blank texts are 1.

    Source: Lin 2004, ROUGE, aclanthology.org/W04-1013. Deviation: words of every script, no stemming.
    """
    if not words(reference) or not words(candidate):
        return float(not words(reference) and not words(candidate))
    return float(_rouge().score(reference, candidate)["rougeL"].fmeasure)


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=_Words())


def sentence_bleu(reference: str, candidate: str) -> float:
    """Smoothed BLEU of one answer, 0 to 100; n-gram orders that are longer than the answer do not count.

    Source: Papineni et al. 2002, aclanthology.org/P02-1040; smoothing "exp" of Chen and Cherry 2014, W14-3346.
    """
    return min(100.0, float(_bleu(True).sentence_score(spread(candidate), [spread(reference)]).score))


def corpus_bleu(references: Sequence[str], candidates: Sequence[str]) -> float:
    """BLEU over all answers at once, 0 to 100: no mean of sentences. `bleu_signature` says how.

    Source: Post 2018, A Call for Clarity in Reporting BLEU Scores, aclanthology.org/W18-6319.
    """
    score = _bleu(False).corpus_score([spread(c) for c in candidates], [[spread(r) for r in references]]).score
    return min(100.0, float(score))


def sentence_chrf(reference: str, candidate: str) -> float:
    """chrF2 of one answer, 0 to 100. Source: Popović 2015, aclanthology.org/W15-3049."""
    return min(100.0, float(_chrf().sentence_score(candidate, [reference]).score))


def corpus_chrf(references: Sequence[str], candidates: Sequence[str]) -> float:
    """chrF2 over all answers at once, 0 to 100: characters, so no tokenizer can favour a script."""
    return min(100.0, float(_chrf().corpus_score(list(candidates), [list(references)]).score))


@cache
def signatures() -> dict[str, str]:
    """How BLEU and chrF were computed, in sacrebleu's own words: part of every measurement's key.

    Source: sacrebleu prints these so that two numbers can be compared at all. "unspaced:split" is ours: Han and kana
    characters are set apart before the 13a tokenizer, which leaves every other text as it was.
    """
    bleu, chrf = _bleu(False), _chrf()
    bleu.corpus_score(["a"], [["a"]])
    chrf.corpus_score(["a"], [["a"]])
    return {"bleu": f"{bleu.get_signature()}|unspaced:split", "chrf": str(chrf.get_signature())}


@cache
def _bleu(one_sentence: bool) -> BLEU:
    return BLEU(effective_order=one_sentence)


@cache
def _chrf() -> CHRF:
    return CHRF()


def spread(text: str) -> str:
    """The text with blanks around every character that `words` lets stand alone, for tokenizers that part at blanks."""
    return regex.sub(r" {2,}", " ", _CHARACTER.sub(r" \1 ", text)).strip() if _CHARACTER.search(text) else text


def exact_match(reference: str, candidate: str) -> float:
    """1 when both have the same words in the same order: case, punctuation and spacing are forgiven."""
    return float(words(reference) == words(candidate))


def token_f1(reference: str, candidate: str) -> float:
    """F1 of the bags of words, 0 to 1; two blank texts are 1.

    Source: Rajpurkar et al. 2016 (SQuAD), arXiv 1606.05250. Deviation: articles count, words of every script.
    """
    wanted, said = Counter(words(reference)), Counter(words(candidate))
    if not wanted or not said:
        return float(not wanted and not said)
    common = sum((wanted & said).values())
    return 2 * common / (sum(wanted.values()) + sum(said.values()))


def distinct_2(text: str) -> float:
    """Share of a text's pairs of neighbouring words that are different ones, 0 to 1: 1 repeats nothing.

    A text without a pair says nothing and is 0. Source: Li et al. 2016, arXiv 1510.03055 (distinct-n).
    """
    pairs = _grams(text, 2)
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def own_words(texts: Sequence[str]) -> list[float]:
    """For each text the share of its runs of three words that no other text has, 0 to 1: 0 where all say the same.

    A text without such a run says nothing of its own. In the manner of self-BLEU, turned round so that more is better:
    Zhu et al. 2018 (Texygen), arXiv 1802.01886.
    """
    runs = [set(_grams(text, 3)) for text in texts]
    told = Counter(gram for found in runs for gram in found)
    return [sum(told[gram] == 1 for gram in found) / len(found) if found else 0.0 for found in runs]


def _grams(text: str, size: int) -> list[tuple[str, ...]]:
    found = words(text)
    return list(zip(*(found[start:] for start in range(size)), strict=False))


def accuracy(truth: Sequence[str], said: Sequence[str]) -> float:
    """Share of equal labels, 0 to 1."""
    return float(accuracy_score(list(truth), list(said)))


def macro_f1(truth: Sequence[str], said: Sequence[str]) -> float:
    """Mean over the true labels of each one's F1, 0 to 1: rare topics weigh as much as frequent ones.

    A label that was said but is never true lowers the precision of others, and is no class of its own.
    """
    labels = sorted(set(truth))
    return float(f1_score(list(truth), list(said), labels=labels, average="macro", zero_division=0.0))


def bits_per_byte(nll: float, text: str) -> float:
    """Negative log-likelihood (nats) of a text as bits per UTF-8 byte: comparable between tokenizers and languages.

    Raises ValueError for an empty text. NaN stays NaN. Source: Gao et al. 2020 (The Pile), arXiv 2101.00027, section 3.1.
    """
    size = len(text.encode())
    if size == 0:
        raise ValueError("bits per byte of an empty text")
    return nll / (math.log(2) * size)


def choice_probabilities(log_likelihoods: Sequence[float], lengths: Sequence[int] | None = None) -> tuple[float, ...]:
    """What each choice of a question would be picked with, if picked by its likelihood. Sums to 1; NaN stays NaN.

    With `lengths` (characters), each log-likelihood is first scaled to the mean length: the largest share is then
    lm-eval's acc_norm choice, and choices of one length keep their plain likelihoods.
    Source: Miller 2024, arXiv 2411.00640, section 3.2 (next-token probabilities have less variance than right or wrong).
    """
    scaled = list(log_likelihoods)
    if lengths is not None:
        mean = sum(lengths) / len(lengths)
        scaled = [ll * mean / max(size, 1) for ll, size in zip(log_likelihoods, lengths, strict=True)]
    if any(math.isnan(ll) for ll in scaled):
        return tuple(math.nan for _ in scaled)
    best = max(scaled)
    weights = [math.exp(ll - best) for ll in scaled]
    return tuple(weight / sum(weights) for weight in weights)


def finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)
