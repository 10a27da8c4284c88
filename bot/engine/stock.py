"""Bases that the decoder's own layout does not hold: served through transformers, one row after the other.

Promise: the decoder's, but for speed: each row has a pass of its own, nothing read is shared, a pass is not interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import torch

from bot.engine.decoder import Decoder, decoder_of, readable
from bot.engine.layers import Interrupted, Segment
from bot.engine.model import LoadedModel, loaded
from bot.engine.render import Renderer
from storage.errors import WeightsError
from storage.weights import base_digest

log = structlog.get_logger()


@dataclass(slots=True)
class StockCache:
    """What transformers keeps of a row, and the tokens that it stands for."""

    inner: Any
    tokens: list[int] = field(default_factory=list)


class StockDecoder:
    """Any causal language model of transformers."""

    shares = False

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.base_digest, self.context, self.dtype = model.base_digest, model.context, model.model.dtype
        self.device = model.model.device

    @property
    def adapters(self) -> set[str]:
        return self.model.adapters

    def read_adapter(self, folder: Path) -> Path:
        return folder

    def attach(self, folder: Path) -> str:
        return self.model.add_adapter(folder)

    def remove_adapter(self, digest: str) -> None:
        self.model.remove_adapter(digest)

    def new_cache(self, capacity: int) -> StockCache:
        return StockCache(self.model.new_cache())

    def forward(self, segments: Sequence[Segment], *, interrupt: Callable[[], bool] | None = None) -> torch.Tensor:
        """As the decoder's; rows before the one that failed have read their tokens."""
        if interrupt is not None and interrupt():
            raise Interrupted
        found = []
        for row in segments:
            cache: Any = row.cache
            if cache.inner.get_seq_length() > len(cache.tokens):
                cache.inner.crop(len(cache.tokens))
            ids = torch.tensor([list(row.ids)], device=self.device)
            logits = self.model.next_logits(ids, cache.inner, row.adapter)[0]
            if row.speaks:
                found.append(logits)
        for row in segments:
            row.cache.tokens.extend(row.ids)
        return torch.stack(found) if found else torch.empty(0)


def open_decoder(
    folder: Path, *, device: str | None = None, dtype: torch.dtype | None = None
) -> tuple[Decoder | StockDecoder, Renderer]:
    """A base ready to be served, in the fastest way that is exact. Raises WeightsError when it cannot be served at all."""
    model, renderer = loaded(folder, device=device, dtype=dtype)
    digest = base_digest(folder)
    if readable(model.config):
        try:
            return decoder_of(model, digest), renderer
        except WeightsError as error:
            log.warning("stock_decoder", reason=str(error))
            model, renderer = loaded(folder, device=device, dtype=dtype)
    return StockDecoder(LoadedModel(model, renderer, digest)), renderer
