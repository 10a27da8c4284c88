"""One pass for rows that begin alike: a question with four choices is read once, not four times.

Rows become trees: a stem that they share, and a branch for each. The trees of a pass lie end to end, so that no token is
padding; attention goes from tree to tree, and a mask lets a token see its own stem and branch alone; and logits are made
only where a continuation is asked for. Knows a LoadedModel's pass, not benchmarks.
Source of the mask: Miao et al. 2024 (SpecInfer), arXiv 2305.09781; here the branches are choices instead of guesses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from bot.engine.layers import product
from bot.engine.model import LoadedModel

Ids = Sequence[int]
TREE = 512  # most tokens of a tree's branches: attention over more would cost more than the stem saves
SAVES = 8  # tokens that joining a tree must save: a few words in common are no stem
PASS_TOKENS = 1_024  # tokens of one pass
WORDS = 2_048  # of the vocabulary whose logits exist at the same time: few enough to stay in the processor's cache
TREES = "evenkeel_trees"  # the name by which transformers finds our attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A continuation after its context: `ids` is both, the last `size` of them are asked for."""

    ids: Ids
    size: int

    @property
    def read(self) -> int:
        """How many ids the model reads: the last one is only predicted."""
        return len(self.ids) - 1


@dataclass(slots=True)
class Tree:
    """Rows (by number) that share their first `stem` ids, `width` tokens in all."""

    rows: list[int]
    stem: int
    width: int


def log_likelihoods(
    model: LoadedModel, adapter: str | None, rows: Sequence[Row]
) -> Iterator[tuple[list[int], list[float]]]:
    """(row numbers, log p(continuation | context) in nats) of pass after pass, every row once; softmax in float32.

    The numbers are those of whole rows, one at a time, up to the rounding of the model's own precision. Each row has at
    least one id of context and one of continuation. Neighbours share a stem where it saves tokens, so rows of one item
    should follow one another.
    """
    together = reads_trees(model)
    trees = grow(rows) if together else [Tree([n], row.read, row.read) for n, row in enumerate(rows)]
    for group in passes(trees, padded=not together):
        yield [n for tree in group for n in tree.rows], _one_pass(model, adapter, rows, group, together=together)


def reads_trees(model: LoadedModel) -> bool:
    """Whether every layer attends to the whole past and lets us say how: only then may texts stand side by side."""
    kinds = getattr(model.model.config, "layer_types", None) or ["full_attention"]
    return set(kinds) == {"full_attention"} and bool(model.model.is_backend_compatible())


def grow(rows: Sequence[Row]) -> list[Tree]:
    """Neighbouring rows as trees, as long as each row that joins saves tokens."""
    trees: list[Tree] = []
    for n, row in enumerate(rows):
        if not (trees and _joined(trees[-1], rows, n)):
            trees.append(Tree([n], row.read, row.read))
    return trees


def _joined(tree: Tree, rows: Sequence[Row], n: int) -> bool:
    """Add row `n` to the tree if that saves enough."""
    row = rows[n]
    stem = _common(rows[tree.rows[0]].ids, row.ids, min(tree.stem, row.read))
    width = tree.width + (tree.stem - stem) * (len(tree.rows) - 1) + row.read - stem
    if width - stem > TREE or width + SAVES > tree.width + row.read:
        return False
    tree.rows.append(n)
    tree.stem, tree.width = stem, width
    return True


def _common(one: Ids, other: Ids, most: int) -> int:
    return next((i for i in range(most) if one[i] != other[i]), most)


def passes(trees: Sequence[Tree], *, padded: bool) -> Iterator[list[Tree]]:
    """Trees of at most PASS_TOKENS together, or a single longer one; the widest first. `padded`: all as wide as the widest."""
    group: list[Tree] = []
    taken = 0
    for tree in sorted(trees, key=lambda one: -one.width):
        width = group[0].width if group and padded else tree.width
        if group and taken + width > PASS_TOKENS:
            yield group
            group, taken, width = [], 0, tree.width
        group.append(tree)
        taken += width
    if group:
        yield group


Span = tuple[int, int, torch.Tensor | None]  # where a tree lies, and what is added to its attention; None: causal


class _Sheet:
    """The tensors of one pass, (B, W) each: all trees in one line, or each in a line of its own, padded on the right.

    `asked`: (row, flat position of its predictor, target). `spans`: the trees of a single line.
    """

    def __init__(self, trees: Sequence[Tree], rows: Sequence[Row], *, together: bool, like: torch.Tensor) -> None:
        shape = (1, sum(t.width for t in trees)) if together else (len(trees), max(t.width for t in trees))
        self.ids, self.positions = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
        self.asked: list[tuple[int, int, int]] = []
        self.spans: list[Span] = []
        start = 0
        for tree in trees:
            branch = self._write(start, tree, rows)
            self.spans.append((start, start + tree.width, None if len(tree.rows) == 1 else _added(branch, like)))
            start += tree.width if together else shape[1]

    def _write(self, start: int, tree: Tree, rows: Sequence[Row]) -> torch.Tensor:
        """One tree from the flat position `start` on; gives the number (W,) of each token's branch, the stem's is 0."""
        branch, at = torch.zeros(tree.width, dtype=torch.long), tree.stem
        self._copy(start, rows[tree.rows[0]].ids[: tree.stem], 0)
        for number, n in enumerate(tree.rows, 1):
            row = rows[n]
            self._copy(start + at, row.ids[tree.stem : row.read], tree.stem)
            for target in range(len(row.ids) - row.size, len(row.ids)):
                place = target - 1 if target <= tree.stem else at + target - 1 - tree.stem
                self.asked.append((n, start + place, row.ids[target]))
            branch[at : at + row.read - tree.stem] = number
            at += row.read - tree.stem
        return branch

    def _copy(self, at: int, ids: Ids, first: int) -> None:
        end = at + len(ids)
        self.ids.view(-1)[at:end] = torch.tensor(list(ids), dtype=torch.long)
        self.positions.view(-1)[at:end] = torch.arange(first, first + len(ids))


def _added(branch: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(W, W), where and of the type that `like` is: 0 where a token sees another, which comes before it in its own text,
    else minus infinity.
    """
    seen = ((branch[None] == 0) | (branch[None] == branch[:, None])).tril().to(like.device)
    return like.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)


def tree_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: None,
    *, spans: Sequence[Span], scaling: float | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """transformers' interface of attention: (1, heads, T, D) to (1, T, heads, D), each tree by itself."""
    out = value.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    for start, stop, added in spans:
        q, k, v = (each[:, :, start:stop] for each in (query, key, value))
        seen = {"is_causal": True} if added is None else {"attn_mask": added}
        found = scaled_dot_product_attention(q, k, v, scale=scaling, enable_gqa=True, **seen)
        out[:, start:stop] = found.transpose(1, 2)
    return out, None


AttentionInterface.register(TREES, tree_attention)


@torch.inference_mode()
def _one_pass(
    model: LoadedModel, adapter: str | None, rows: Sequence[Row], trees: Sequence[Tree], *, together: bool
) -> list[float]:
    inner, device = model.model.model, model.model.device
    sheet = _Sheet(trees, rows, together=together, like=torch.empty(0, device=device, dtype=model.model.dtype))
    what = {"input_ids": sheet.ids.to(device), "position_ids": sheet.positions.to(device), "use_cache": False}
    model.use(adapter, len(sheet.ids))
    if not together:
        return _sums(model, inner(**what).last_hidden_state.flatten(0, 1), sheet.asked)
    way = model.model.config._attn_implementation
    model.model.set_attn_implementation(TREES)
    try:
        hidden = inner(**what, spans=sheet.spans).last_hidden_state
    finally:
        model.model.set_attn_implementation(way)
    return _sums(model, hidden[0], sheet.asked)


def _sums(model: LoadedModel, hidden: torch.Tensor, asked: Sequence[tuple[int, int, int]]) -> list[float]:
    """(N, H) to each row's summed log-probability, in the order in which the rows were asked."""
    head, sums = model.model.lm_head, dict[int, float]()
    wanted = torch.tensor([(place, target) for _, place, target in asked], device=hidden.device)
    places, which = torch.unique(wanted[:, 0], return_inverse=True)
    values = _log_p(hidden[places], head.weight, head.bias, which, wanted[:, 1])
    for (row, _, _), value in zip(asked, values.tolist(), strict=True):
        sums[row] = sums.get(row, 0.0) + value
    return list(sums.values())


def _log_p(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, which: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """(N,) float32 log-probability of each target after the row `which` of hidden (P, H); the vocabulary piece by piece."""
    peak = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    total, found = torch.zeros_like(peak), torch.empty(len(targets), device=hidden.device)
    for start in range(0, len(weight), WORDS):
        piece = slice(start, start + WORDS)
        logits = product(hidden, weight[piece], None if bias is None else bias[piece]).float()
        here = (targets >= start) & (targets < start + logits.shape[1])
        found[here] = logits[which[here], targets[here] - start]
        higher = torch.maximum(peak, logits.amax(1))
        total = total * (peak - higher).exp() + logits.sub_(higher[:, None]).exp_().sum(1)
        peak = higher
    return found - (peak + total.log())[which]
