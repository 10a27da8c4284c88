"""One pass for rows that begin alike: a question with four choices is read once, not four times.

Rows become trees: a stem that they share, and a branch for each. Trees are laid end to end into lines, so that hardly a
token is padding; a mask lets a token see its own stem and branch alone; and logits are made only where a continuation
is asked for. Knows a LoadedModel's pass, not benchmarks.
Source of the mask: Miao et al. 2024 (SpecInfer), arXiv 2305.09781; here the branches are choices instead of guesses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from bot.engine.model import LoadedModel

Ids = Sequence[int]
TREE = 512  # most tokens of a tree's branches: attention over more would cost more than the stem saves
SAVES = 8  # tokens that joining a tree must save: a few words in common are no stem
LINE = 256  # tokens of a line of several trees, for the same reason
OPEN = 32  # lines that are looked at for a place
PASS_TOKENS = 1_024  # tokens of one pass
HEAD_ROWS = 128  # tokens whose logits exist at the same time: 25 MB that the processor's memory is not asked for anew


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


@dataclass(slots=True)
class Line:
    """Trees that lie one after the other."""

    room: int
    trees: list[Tree] = field(default_factory=list)
    width: int = 0


def log_likelihoods(
    model: LoadedModel, adapter: str | None, rows: Sequence[Row]
) -> Iterator[tuple[list[int], list[float]]]:
    """(row numbers, log p(continuation | context) in nats) of pass after pass, every row once; softmax in float32.

    The numbers are those of whole rows, one at a time, up to the rounding of the model's own precision. Each row has at
    least one id of context and one of continuation. Neighbours share a stem where it saves tokens, so rows of one item
    should follow one another.
    """
    together = sees_everything(model)
    trees = grow(rows) if together else [Tree([n], row.read, row.read) for n, row in enumerate(rows)]
    for lines in passes(lay(trees) if together else [Line(tree.width, [tree], tree.width) for tree in trees]):
        yield [n for line in lines for tree in line.trees for n in tree.rows], _one_pass(model, adapter, rows, lines)


def sees_everything(model: LoadedModel) -> bool:
    """Whether every layer attends to the whole past: only then may texts stand side by side in one line."""
    kinds = getattr(model.model.config, "layer_types", None) or ["full_attention"]
    return set(kinds) == {"full_attention"}


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


def lay(trees: Sequence[Tree]) -> list[Line]:
    """Trees into lines of about LINE tokens, wide ones first, each where there is room (first fit, decreasing)."""
    lines: list[Line] = []
    for tree in sorted(trees, key=lambda t: -t.width):
        line = next((one for one in lines[-OPEN:] if one.width + tree.width <= one.room), None)
        if line is None:
            line = Line(max(LINE, tree.width))
            lines.append(line)
        line.trees.append(tree)
        line.width += tree.width
    return lines


def passes(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines of a like width together, at most PASS_TOKENS in a pass; the widest first."""
    group: list[Line] = []
    for line in sorted(lines, key=lambda one: -one.width):
        if group and (len(group) + 1) * group[0].width > PASS_TOKENS:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


class _Sheet:
    """The tensors of one pass, (B, W) each, and what is asked for: (row, flat position of its predictor, target)."""

    def __init__(self, lines: Sequence[Line], rows: Sequence[Row]) -> None:
        shape = (len(lines), lines[0].width)
        self.ids, self.positions, self.tree, self.branch = (torch.zeros(shape, dtype=torch.long) for _ in range(4))
        self.asked: list[tuple[int, int, int]] = []
        for b, line in enumerate(lines):
            start = 0
            for number, tree in enumerate(line.trees, 1):
                self._write(b, start, number, tree, rows)
                start += tree.width

    def _write(self, b: int, start: int, number: int, tree: Tree, rows: Sequence[Row]) -> None:
        """One tree from `start` on; its stem is branch 0. Padding stays tree 0, which nobody reads."""
        self.tree[b, start : start + tree.width] = number
        self._copy(b, start, rows[tree.rows[0]].ids[: tree.stem], 0, 0)
        at = start + tree.stem
        for branch, n in enumerate(tree.rows, 1):
            row = rows[n]
            self._copy(b, at, row.ids[tree.stem : row.read], tree.stem, branch)
            for target in range(len(row.ids) - row.size, len(row.ids)):
                place = start + target - 1 if target <= tree.stem else at + target - 1 - tree.stem
                self.asked.append((n, b * self.ids.shape[1] + place, row.ids[target]))
            at += row.read - tree.stem

    def _copy(self, b: int, at: int, ids: Ids, first: int, branch: int) -> None:
        end = at + len(ids)
        self.ids[b, at:end] = torch.tensor(list(ids), dtype=torch.long)
        self.positions[b, at:end] = torch.arange(first, first + len(ids))
        self.branch[b, at:end] = branch

    def visible(self) -> torch.Tensor:
        """(B, 1, W, W): whether a token sees another, which comes before it in its own text."""
        same_tree = self.tree[:, None, :] == self.tree[:, :, None]
        on_its_way = (self.branch[:, None, :] == 0) | (self.branch[:, None, :] == self.branch[:, :, None])
        return (same_tree & on_its_way).tril()[:, None]


@torch.inference_mode()
def _one_pass(model: LoadedModel, adapter: str | None, rows: Sequence[Row], lines: Sequence[Line]) -> list[float]:
    sheet, device = _Sheet(lines, rows), model.model.device
    where = {"position_ids": sheet.positions.to(device)}
    if any(len(line.trees) > 1 or len(line.trees[0].rows) > 1 for line in lines):
        where["attention_mask"] = sheet.visible().to(device)
    model.use(adapter, len(lines))
    hidden = model.model.model(input_ids=sheet.ids.to(device), use_cache=False, **where).last_hidden_state
    return _sums(model, hidden.flatten(0, 1), sheet.asked)


def _sums(model: LoadedModel, hidden: torch.Tensor, asked: Sequence[tuple[int, int, int]]) -> list[float]:
    """(B·W, H) to each row's summed log-probability, in the order in which the rows were asked."""
    log_p, by_place = [0.0] * len(asked), sorted(range(len(asked)), key=lambda i: asked[i][1])
    for start in range(0, len(asked), HEAD_ROWS):
        chosen = by_place[start : start + HEAD_ROWS]
        places, which = torch.unique_consecutive(torch.tensor([asked[i][1] for i in chosen]), return_inverse=True)
        logits = model.model.lm_head(hidden[places.to(hidden.device)]).float()
        targets = torch.tensor([asked[i][2] for i in chosen], device=logits.device)
        found = logits[which.to(logits.device), targets] - logits.logsumexp(1)[which.to(logits.device)]
        for i, value in zip(chosen, found.tolist(), strict=True):
            log_p[i] = value
    sums: dict[int, float] = {}
    for (row, _, _), value in zip(asked, log_p, strict=True):
        sums[row] = sums.get(row, 0.0) + value
    return list(sums.values())
