"""The base that a training is held against: the same model with its adapter off, asked about a row once in a run.

Promise: no second copy of the weights. Only the likeliest tokens are kept (training/losses.py), in main memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from training.batches import Row
from training.losses import TopOfBase, slice_rows, top_of

AtAnswers = Callable[[Sequence[Row]], tuple[torch.Tensor, torch.Tensor]]  # rows → hidden (N, H), tokens (N,)


class Anchor:
    """What the base of a PEFT model says at the answers of rows."""

    def __init__(self, model: Any, head: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.model, self.head = model, head
        self.known: dict[Row, TopOfBase] = {}

    def at(self, rows: Sequence[Row], at_answers: AtAnswers) -> TopOfBase:
        """The base's likeliest tokens before the rows' answer tokens, in the rows' order."""
        if missing := [row for row in rows if row not in self.known]:
            self.ask(missing, at_answers)
        found = [self.known[row] for row in rows]
        device = self.model.device
        return TopOfBase(
            ids=torch.cat([f.ids for f in found]).long().to(device),
            log_probs=torch.cat([f.log_probs for f in found]).to(device),
        )

    def ask(self, rows: Sequence[Row], at_answers: AtAnswers) -> None:
        with torch.no_grad(), self.model.disable_adapter():
            hidden, _ = at_answers(rows)
            tops = [
                top_of(self.head(part).float())
                for part in torch.split(hidden, slice_rows(self.model.config.vocab_size))
            ]
        counts = [row.answer_tokens for row in rows]
        ids = torch.split(torch.cat([t.ids for t in tops]).int().cpu(), counts)
        log_probs = torch.split(torch.cat([t.log_probs for t in tops]).cpu(), counts)
        for row, i, p in zip(rows, ids, log_probs, strict=True):
            self.known[row] = TopOfBase(ids=i, log_probs=p)
