"""One copy of a base's weights with adapters beside it: text, log-probabilities, and how far an adapter is from the base.

Promises: `adapter=None` is the base, bit for bit what it was before any adapter was added; numbers that become scores are
made with a float32 softmax. One thread at a time may use a LoadedModel: it holds the route of the pass.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from bot.engine import lora
from bot.engine.render import Renderer
from storage.errors import WeightsError
from storage.weights import base_digest, verify_adapter

GENERATION_ROWS = 32  # rows of one generated batch
PASS_TOKENS = 4_096  # tokens of one scoring pass
HEAD_ROWS = 512  # positions whose logits exist at the same time
PAIRED_ROWS = 64  # the same where two whole distributions are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one row became: ids without the end token, their text, and whether it ended by itself.

    `confidence`: the mean natural-log probability of the tokens that were chosen, the end token included (float32
    softmax); None when none was. Its last digits depend on the batch, so it takes no part in comparisons.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool
    confidence: float | None = field(compare=False)


def best_dtype(device: str | None = None) -> torch.dtype:
    """bfloat16 on CUDA and on CPUs that multiply it in hardware, else float32."""
    if (device or best_device()).startswith("cuda") or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def context_of(model: Any) -> int:
    """Tokens that a prompt and its answer may have together."""
    return int(getattr(model.config, "max_position_embeddings", 2048))


def loaded(folder: Path, *, device: str | None = None, dtype: torch.dtype | None = None) -> tuple[Any, Renderer]:
    """A base as transformers reads it. Raises WeightsError when the folder is no causal language model with a chat template."""
    where = device or best_device()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype or best_dtype(where), local_files_only=True
        ).to(where)
        return model.eval(), Renderer(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{folder} cannot be loaded as a base model: {str(error)[:300]}") from None


class LoadedModel:
    """A base in memory, ready to be asked with or without one of its adapters."""

    def __init__(self, model: Any, renderer: Renderer, digest: str) -> None:
        self.model, self.renderer, self.base_digest = model, renderer, digest
        self.route = lora.Route()
        self.layers = lora.wrap(model, self.route)
        self.adapters: set[str] = set()
        self.hidden_size = int(model.config.hidden_size)
        self.context = context_of(model)

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None, dtype: torch.dtype | None = None) -> "LoadedModel":
        """Raises WeightsError when the folder is no causal language model with a chat template."""
        model, renderer = loaded(folder, device=device, dtype=dtype)
        return cls(model, renderer, base_digest(folder))

    @property
    def device(self) -> str:
        return str(self.model.device)

    def add_adapter(self, folder: Path) -> str:
        """Verify an adapter's bytes and base, and put it beside the others; returns its digest. Raises WeightsError."""
        digest = str(verify_adapter(folder, base=self.base_digest)["digest"])
        if digest not in self.adapters:
            lora.add(self.layers, digest, folder)
            self.adapters.add(digest)
        return digest

    def remove_adapter(self, digest: str) -> None:
        lora.remove(self.layers, digest)
        self.adapters.discard(digest)

    def use(self, adapter: str | None, rows: int) -> None:
        """Let the next pass of `rows` rows be spoken by one adapter, or by the base."""
        if adapter is not None and adapter not in self.adapters:
            raise WeightsError(f"adapter {adapter[:12]} is not loaded")
        self.route.slices = [] if adapter is None else [(0, rows, adapter)]

    @torch.inference_mode()
    def next_logits(self, ids: torch.Tensor, cache: DynamicCache, adapter: str | None, **where: Any) -> torch.Tensor:
        """Float32 logits (B, V) of the token after `ids` (B, T); the cache grows by T."""
        self.use(adapter, ids.shape[0])
        out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **where)
        return torch.as_tensor(out.logits[:, -1]).float()

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config)

    def generate(
        self, prompts: Sequence[Sequence[int]], *, adapter: str | None, max_new_tokens: int, stop: Sequence[str] = (),
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Generation]:  # fmt: skip
        """Greedy answers, in the order of the prompts; rows of similar length share a batch, padded on the left.

        `tell` hears (done, total) after each batch.
        """
        order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
        found: dict[int, Generation] = {}
        for start in range(0, len(order), GENERATION_ROWS):
            group = order[start : start + GENERATION_ROWS]
            rows = self._generate([prompts[n] for n in group], adapter, max_new_tokens, stop)
            found |= dict(zip(group, rows, strict=True))
            tell(len(found), len(prompts))
        return [found[n] for n in range(len(prompts))]

    def _generate(
        self, prompts: Sequence[Sequence[int]], adapter: str | None, limit: int, stop: Sequence[str]
    ) -> list[Generation]:
        width = max(map(len, prompts))
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.model.device)
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=self.model.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache, rows = self.new_cache(), [Row() for _ in prompts]
        speaking = rows
        for _ in range(limit):
            logits = self.next_logits(ids, cache, adapter, attention_mask=mask, position_ids=positions)
            chosen = logits.argmax(-1)
            said = zip(speaking, chosen.tolist(), chosen_log_probs(logits, chosen).tolist(), strict=True)
            for row, token, log_prob in said:
                row.take(token, log_prob, self.renderer, stop)
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones((len(speaking), 1))], 1)
            open_rows = [n for n, row in enumerate(speaking) if not row.finished]
            if not open_rows:
                break
            if 4 * len(open_rows) <= 3 * len(speaking):  # copying what the others have read costs about a step
                kept = torch.tensor(open_rows, device=ids.device)
                cache.batch_select_indices(kept)
                speaking, ids, positions, mask = (
                    [speaking[n] for n in open_rows],
                    ids[kept],
                    positions[kept],
                    mask[kept],
                )
        return [row.generation(self.renderer, stop) for row in rows]

    @torch.inference_mode()
    def log_probs(self, rows: Sequence[Sequence[int]], *, adapter: str | None) -> list[torch.Tensor]:
        """For each row of T ids a float32 tensor (T-1,): log p(ids[t+1] | ids[:t+1]); empty for T < 2.

        Rows of similar length share a pass, padded on the right: attention is causal, padding comes after all that counts.
        """
        found: dict[int, torch.Tensor] = {}
        for group in by_length(rows):
            ids = self._padded([rows[n] for n in group])
            hidden = self._hidden(ids, adapter)
            for place, n in enumerate(group):
                found[n] = self._token_log_probs(
                    hidden[place, : max(len(rows[n]) - 1, 0)], ids[place, 1 : len(rows[n])]
                )
        return [found[n] for n in range(len(rows))]

    @torch.inference_mode()
    def divergence(
        self, rows: Sequence[Sequence[int]], sizes: Sequence[int], *, adapter: str | None
    ) -> list[torch.Tensor]:
        """For each row a float32 tensor (size,): KL(adapter ‖ base) in nats where each of its last `size` ids was chosen.

        Over the whole vocabulary. The base reads the same rows without the adapter. 1 ≤ size < T.
        """
        found: dict[int, torch.Tensor] = {}
        for group in by_length(rows):
            ids = self._padded([rows[n] for n in group])
            tuned, base = self._hidden(ids, adapter), self._hidden(ids, None)
            for place, n in enumerate(group):
                said = slice(len(rows[n]) - sizes[n] - 1, len(rows[n]) - 1)
                found[n] = self._kl(tuned[place, said], base[place, said])
        return [found[n] for n in range(len(rows))]

    def _kl(self, tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """(N, H) twice to (N,), distributions made in slices and never kept."""
        parts = []
        for start in range(0, len(tuned), PAIRED_ROWS):
            ours, theirs = (
                self.model.lm_head(hidden[start : start + PAIRED_ROWS]).float().log_softmax(1)
                for hidden in (tuned, base)
            )
            parts.append((ours.exp() * (ours - theirs)).sum(1))
        return torch.cat(parts).cpu()

    def _padded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(B, T) of rows that are padded on the right."""
        width = max(max(map(len, rows)), 1)
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.model.device)

    def _hidden(self, ids: torch.Tensor, adapter: str | None) -> torch.Tensor:
        """(B, T) to (B, T, H) under one adapter or the base."""
        self.use(adapter, len(ids))
        return torch.as_tensor(self.model.model(input_ids=ids, use_cache=False).last_hidden_state)

    def _token_log_probs(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(T-1, H) and (T-1,) to (T-1,), logits made in slices and never kept."""
        parts = []
        for start in range(0, len(targets), HEAD_ROWS):
            logits = self.model.lm_head(hidden[start : start + HEAD_ROWS]).float()
            parts.append(chosen_log_probs(logits, targets[start : start + HEAD_ROWS]))
        return torch.cat(parts).cpu() if parts else torch.empty(0)


def chosen_log_probs(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Float32 logits (B, V) and ids (B,) to log p(id) in nats (B,)."""
    return logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(1)


def mean_log_prob(log_probs: Sequence[float]) -> float | None:
    """The confidence of an answer whose tokens had these log-probabilities; None for no token."""
    return math.fsum(log_probs) / len(log_probs) if log_probs else None


def by_length(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Row numbers in passes of similar length and at most PASS_TOKENS padded tokens."""
    groups: list[list[int]] = []
    for n in sorted(range(len(rows)), key=lambda n: -len(rows[n])):
        if groups and (len(groups[-1]) + 1) * len(rows[groups[-1][0]]) <= PASS_TOKENS:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


class Row:
    """One row while it grows."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.finished = False

    def take(self, token: int, log_prob: float, renderer: Renderer, stop: Sequence[str]) -> None:
        """Add a token unless the row is finished."""
        if self.finished:
            return
        self.log_probs.append(log_prob)
        if token in renderer.end_ids:
            self.finished = True
        else:
            self.ids.append(token)
            self.finished = bool(stop) and cut(renderer.decode(self.ids), stop)[1]

    def generation(self, renderer: Renderer, stop: Sequence[str]) -> Generation:
        text, _ = cut(renderer.decode(self.ids), stop)
        confidence = mean_log_prob(self.log_probs)
        return Generation(ids=tuple(self.ids), text=text, finished=self.finished, confidence=confidence)


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)
