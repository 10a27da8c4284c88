"""What training minimises, as small pure functions of logits and labels. Knows tensors. Knows no model and no rows.

Logits are (N, V) in float32, one line a predicted token; sums of log-probabilities are (R,), one a row. Everything is in
nats. `in_slices` is how they are used: the head makes a slice of the logits, its loss and its gradient, then the next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

SLICE_LOGITS = 2**24  # logits that exist at the same time: 64 MiB in float32
TOP = 32  # tokens of the base's distribution that are kept by name; the rest is one bucket
ENTROPY_TOP = 20

LossOfSlice = Callable[[torch.Tensor, slice], torch.Tensor]  # (N', V) float32 logits and their place in N → scalar


def in_slices(hidden: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor], vocabulary: int, loss: LossOfSlice) -> torch.Tensor:  # fmt: skip
    """The summed loss of hidden states (N, H), its gradient for them made slice by slice: (N, V) never exists whole.

    The head is frozen: it gets no gradient. Sources: the idea of Cut Cross-Entropy, arXiv 2411.09009, and of Liger's
    fused head, arXiv 2410.10989; here without a kernel, so that it runs wherever torch does and takes any loss.
    """
    size = slice_rows(vocabulary)
    return torch.as_tensor(_Slices.apply(hidden, head, size, loss))  # type: ignore[no-untyped-call]


def slice_rows(vocabulary: int) -> int:
    """Lines of logits that may exist at the same time."""
    return max(1, SLICE_LOGITS // vocabulary)


class _Slices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: Any, size: int, loss: LossOfSlice) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        total, gradients = torch.zeros((), device=hidden.device), list[torch.Tensor]()
        for start in range(0, len(hidden), size):
            piece = hidden[start : start + size].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                part = loss(head(piece).float(), slice(start, start + len(piece)))
            total += part.detach()
            if wanted:
                gradients += torch.autograd.grad(part, piece)
        if wanted:
            ctx.save_for_backward(torch.cat(gradients) if gradients else torch.zeros_like(hidden))
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log p(target) of each token: (N, V), (N,) → (N,)."""
    return functional.cross_entropy(logits, targets, reduction="none")


def entropy_gate(logits: torch.Tensor) -> torch.Tensor:
    """How unsure the model is of each token, 0 to 1, without gradient: (N, V) → (N,).

    Entropy over the 20 likeliest tokens, as a share of what it can be. As a weight of the cross-entropy it keeps tokens
    that the model is sure of, and wrong about, from overwriting what it knows. Source: EAFT, arXiv 2601.02151.
    """
    top = logits.detach().topk(min(ENTROPY_TOP, logits.shape[1])).values.log_softmax(1)
    return -(top.exp() * top).sum(1) / torch.log(torch.tensor(float(top.shape[1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOfBase:
    """The base's likeliest tokens at N places: ids (N, K), their natural-log probabilities (N, K) in float32."""

    ids: torch.Tensor
    log_probs: torch.Tensor

    def part(self, where: slice) -> "TopOfBase":
        return TopOfBase(ids=self.ids[where], log_probs=self.log_probs[where])


def top_of(logits: torch.Tensor) -> TopOfBase:
    """What is kept of the base's distribution: (N, V) → TOP tokens of each place."""
    top = logits.log_softmax(1).topk(min(TOP, logits.shape[1]))
    return TopOfBase(ids=top.indices, log_probs=top.values)


def kl_to_base(logits: torch.Tensor, base: TopOfBase) -> torch.Tensor:
    """KL(base ‖ tuned) of each place, all tokens that are not kept by name taken as one: (N, V) → (N,).

    Exactly 0 where both agree, never more than the full divergence, and equal to it where TOP covers the vocabulary.
    Source: top-20 was found to be as good as the full distribution, Tinker cookbook's ablation of distillation.
    """
    said = logits.log_softmax(1).gather(1, base.ids)
    named = (base.log_probs.exp() * (base.log_probs - said)).sum(1)
    rest, rest_said = _rest(base.log_probs), _rest(said)
    return named + torch.where(rest > 0, rest * (rest.clamp_min(1e-12).log() - rest_said.clamp_min(1e-12).log()), 0.0)


def _rest(log_probs: torch.Tensor) -> torch.Tensor:
    """Probability of everything not named: (N, K) → (N,); below 1e-6 it is rounding, and 0."""
    rest = 1 - log_probs.exp().sum(1)
    return torch.where(rest > 1e-6, rest, torch.zeros_like(rest))


def dpo(
    chosen: torch.Tensor, rejected: torch.Tensor, base_chosen: torch.Tensor, base_rejected: torch.Tensor, *, beta: float
) -> torch.Tensor:  # fmt: skip
    """Loss of each pair from the log-probabilities of its answers, tuned and base: four (R,) → (R,).

    The SFT term beside it is `cross_entropy` of the chosen answers' tokens. Source: arXiv 2305.18290, equation 7.
    """
    return -functional.logsigmoid(beta * ((chosen - base_chosen) - (rejected - base_rejected)))


def kto(
    tuned: torch.Tensor, base: torch.Tensor, liked: torch.Tensor, drift: torch.Tensor, *,
    beta: float, weight_liked: float = 1.0, weight_disliked: float = 1.0
) -> torch.Tensor:  # fmt: skip
    """Loss of each rated answer from its log-probabilities, tuned and base (R,), and its sign (R,) bool → (R,).

    `drift`: the estimate of KL(tuned ‖ base), a scalar (see `drift_of`). Source: arXiv 2402.01306, equation 7.
    """
    gained = beta * (tuned - base - drift)
    return torch.where(liked, weight_liked * (1 - gained.sigmoid()), weight_disliked * (1 - (-gained).sigmoid()))


def drift_of(tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """KTO's reference point from answers to other questions (R,), (R,) → scalar, at least 0, without gradient."""
    return (tuned - base).mean().detach().clamp_min(0)
