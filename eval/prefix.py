"""One pass over a context for all of its continuations: a question with four choices is read once, not four times.

On the general suite this leaves less than half of the tokens. Knows a LoadedModel's pass and cache, not benchmarks.
"""

from collections.abc import Sequence

import torch

from bot.engine.model import LoadedModel

ROWS = 32  # continuations of one pass


def shared_context(
    model: LoadedModel, adapter: str | None, context: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[float]:
    """log p(continuation | context) in nats for each continuation (one token at least), softmax in float32.

    The numbers are those of whole rows, up to the rounding of the model's own precision.
    """
    sums: list[float] = []
    for start in range(0, len(continuations), ROWS):
        sums += _one_pass(model, adapter, context, continuations[start : start + ROWS])
    return sums


@torch.inference_mode()
def _one_pass(
    model: LoadedModel, adapter: str | None, context: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[float]:
    """The context's keys and values (1, T, …) are repeated for the B continuations, padded on the right to (B, W)."""
    cache, device, rows = model.new_cache(), model.model.device, len(continuations)
    model.use(adapter, 1)
    read = model.model.model(
        input_ids=torch.tensor([list(context)], device=device), past_key_values=cache, use_cache=True
    )
    hidden = read.last_hidden_state[:, -1:].expand(rows, -1, -1)
    width = max(map(len, continuations)) - 1
    if width:
        cache.batch_repeat_interleave(rows)
        model.use(adapter, rows)
        ids = torch.tensor([[*c[:-1], *[0] * (width + 1 - len(c))] for c in continuations], device=device)
        more = model.model.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        hidden = torch.cat([hidden, more], 1)
    return [
        _log_p(model, hidden[n, : len(c)], torch.tensor(list(c), device=device)) for n, c in enumerate(continuations)
    ]


def _log_p(model: LoadedModel, hidden: torch.Tensor, targets: torch.Tensor) -> float:
    """(T, H) and (T,) to the sum of the targets' log-probabilities."""
    logits = model.model.lm_head(hidden).float()
    return float((logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)).double().sum())
