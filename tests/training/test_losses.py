"""Every loss equals a formula written here in another way, with its gradient, to 1e-5."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import losses
from training.losses import cross_entropy, dpo, drift_of, entropy_gate, in_slices, kl_to_base, kto, top_of

PLACES, WIDTH, VOCABULARY = 23, 16, 97


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def sharp(rows: int = PLACES, vocabulary: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(rows, vocabulary) * 3


def by_hand(logits: torch.Tensor) -> list[list[float]]:
    """Probabilities in Python's own numbers."""
    found = []
    for line in logits.double().tolist():
        weights = [math.exp(x - max(line)) for x in line]
        found.append([w / math.fsum(weights) for w in weights])
    return found


def test_cross_entropy_is_minus_the_log_of_the_targets_probability() -> None:
    logits, targets = sharp(), torch.randint(0, VOCABULARY, (PLACES,))

    wanted = [-math.log(p[t]) for p, t in zip(by_hand(logits), targets.tolist(), strict=True)]

    assert cross_entropy(logits, targets).tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("rows_a_slice", [1, 4, 23, 1000])
def test_in_slices_loss_and_gradient_are_those_of_the_whole_matrix(
    rows_a_slice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "SLICE_LOGITS", rows_a_slice * VOCABULARY)
    head, targets = torch.nn.Linear(WIDTH, VOCABULARY, bias=False), torch.randint(0, VOCABULARY, (PLACES,))
    seen, hidden = list[int](), torch.randn(PLACES, WIDTH, requires_grad=True)
    whole = hidden.detach().clone().requires_grad_()

    def loss(logits: torch.Tensor, where: slice) -> torch.Tensor:
        seen.append(len(logits))
        return cross_entropy(logits, targets[where]).sum()

    found = in_slices(hidden, head, VOCABULARY, loss)
    torch.autograd.backward(found / 7)
    wanted = torch.nn.functional.cross_entropy(head(whole), targets, reduction="sum")
    torch.autograd.backward(wanted / 7)

    assert found.item() == pytest.approx(wanted.item(), abs=1e-4) and head.weight.grad is not None
    assert hidden.grad is not None and torch.allclose(hidden.grad, whole.grad, atol=1e-5)  # type: ignore[arg-type]
    assert max(seen) <= rows_a_slice and sum(seen) == PLACES


def test_in_slices_makes_no_gradient_where_nobody_wants_one_and_is_0_for_nothing() -> None:
    head, targets = torch.nn.Linear(WIDTH, VOCABULARY), torch.randint(0, VOCABULARY, (PLACES,))

    with torch.no_grad():
        found = in_slices(
            torch.randn(PLACES, WIDTH), head, VOCABULARY, lambda x, at: cross_entropy(x, targets[at]).sum()
        )
    empty = torch.zeros(0, WIDTH, requires_grad=True)
    nothing = in_slices(empty, head, VOCABULARY, lambda x, _: x.sum())
    torch.autograd.backward(nothing)

    assert not found.requires_grad and nothing.item() == 0 and empty.grad is not None


def test_where_all_tokens_are_named_the_divergence_is_the_full_one() -> None:
    base, tuned = sharp(vocabulary=losses.TOP), sharp(vocabulary=losses.TOP)

    wanted = [
        math.fsum(b * math.log(b / t) for b, t in zip(*pair, strict=True))
        for pair in zip(by_hand(base), by_hand(tuned), strict=True)
    ]

    assert kl_to_base(tuned, top_of(base)).tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_divergence_takes_the_unnamed_tokens_as_one() -> None:
    base, tuned = sharp(), sharp()
    wanted = []
    for b, t in zip(by_hand(base), by_hand(tuned), strict=True):
        named = sorted(range(VOCABULARY), key=lambda i: -b[i])[: losses.TOP]
        rest = [1 - math.fsum(p[i] for i in named) for p in (b, t)]
        parts = [(b[i], t[i]) for i in named] + [(rest[0], rest[1])]
        wanted.append(math.fsum(x * math.log(x / y) for x, y in parts))
    full = (base.softmax(1) * (base.log_softmax(1) - tuned.log_softmax(1))).sum(1)

    found = kl_to_base(tuned, top_of(base))

    assert found.tolist() == pytest.approx(wanted, abs=1e-4)
    assert (found <= full + 1e-5).all() and (found > 0).all()


def test_a_model_that_is_its_base_is_at_divergence_0_with_gradient_0() -> None:
    logits = sharp().requires_grad_()

    found = kl_to_base(logits, top_of(logits.detach()))
    torch.autograd.backward(found.sum())

    assert logits.grad is not None and found.abs().max() < 1e-6 and logits.grad.abs().max() < 1e-6


def test_the_gate_is_the_entropy_of_the_twenty_likeliest_as_a_share_and_lets_no_gradient_through() -> None:
    logits = sharp().requires_grad_()
    wanted = []
    for p in by_hand(logits.detach()):
        top = sorted(p, reverse=True)[:20]
        top = [x / math.fsum(top) for x in top]
        wanted.append(-math.fsum(x * math.log(x) for x in top) / math.log(20))

    found = entropy_gate(logits)

    assert found.tolist() == pytest.approx(wanted, abs=1e-5) and not found.requires_grad


def test_the_gate_opens_for_what_is_unsure_and_shuts_for_what_is_sure() -> None:
    sure = torch.zeros(1, VOCABULARY)
    sure[0, 3] = 50

    assert entropy_gate(sure).item() == pytest.approx(0, abs=1e-6)
    assert entropy_gate(torch.zeros(1, VOCABULARY)).item() == pytest.approx(1, abs=1e-6)


@given(st.lists(st.tuples(*[st.floats(-12, 0)] * 4), min_size=1, max_size=6), st.floats(0.01, 1))
def test_dpo_is_the_log_odds_that_the_better_answer_gained_more(
    pairs: list[tuple[float, float, float, float]], beta: float
) -> None:
    found = dpo(*torch.tensor(pairs, dtype=torch.float64).T, beta=beta)

    for (chosen, rejected, base_chosen, base_rejected), loss in zip(pairs, found.tolist(), strict=True):
        better = 1 / (1 + math.exp(-beta * (chosen - base_chosen - rejected + base_rejected)))
        assert loss == pytest.approx(-math.log(better), abs=1e-5)


@given(
    st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0), st.booleans()), min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0)), min_size=1, max_size=6),
)
def test_kto_pulls_up_what_was_liked_and_down_what_was_not(
    rated: list[tuple[float, float, bool]], others: list[tuple[float, float]]
) -> None:
    tuned, base, liked = (torch.tensor(column) for column in zip(*rated, strict=True))
    drift = drift_of(*torch.tensor(others).T)

    found = kto(tuned, base, liked, drift, beta=0.1, weight_liked=1.2, weight_disliked=0.8)

    reference = max(0.0, math.fsum(a - b for a, b in others) / len(others))
    for (t, b, up), loss in zip(rated, found.tolist(), strict=True):
        gained = 0.1 * (t - b - reference)
        wanted = 1.2 * (1 - 1 / (1 + math.exp(-gained))) if up else 0.8 * (1 - 1 / (1 + math.exp(gained)))
        assert loss == pytest.approx(wanted, abs=1e-5)
