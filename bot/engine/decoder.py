"""One forward pass for rows of any kind at once: prompts being read and answers being spoken, of base and adapters.

Promises: a row without an adapter gets what the bare base gives, one with an adapter what PEFT gives; an interrupted or
failed pass leaves every row as it was. All tokens of a pass go through each linear layer together, an adapter's own as one
contiguous slice; attention is each row's own, so that no row sees padding or another row. One thread may use a decoder.

Reads Llama-like bases (Llama, Mistral, Qwen 2 and 3) into its own layout: query, key and value as one matrix, gate and up
as another, packed for the CPU where that is faster. Sources: Hu et al. 2021, arXiv 2106.09685; Agrawal et al. 2023, arXiv
2308.16369 (prompts read beside answers).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, rms_norm, scaled_dot_product_attention, silu

from bot.engine import lora
from bot.engine.cache import Cache
from bot.engine.few import KINDS, MOST, Few
from bot.engine.layers import GROUPS, Interrupt, Layer, Projection, Segment, Slices, Update, go_on, packs
from bot.engine.model import context_of
from storage.errors import WeightsError
from storage.weights import verify_adapter

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
ROPES = ("default", "linear", "llama3", "yarn")  # angles that do not depend on the length of the row


@dataclass(slots=True)
class Prepared:
    """An adapter that was read and checked, ready to be attached."""

    digest: str
    updates: dict[tuple[int, str], Update]


@dataclass(slots=True)
class Decoder:
    """A base in its own layout, and its adapters."""

    base_digest: str
    device: torch.device
    dtype: torch.dtype
    context: int
    layers: list[Layer]
    embeddings: torch.Tensor
    norm: torch.Tensor
    head: Projection
    cos: torch.Tensor  # (context, 1, width)
    sin: torch.Tensor  # the same, the first half negative
    epsilon: float
    heads: int
    groups: int  # heads of keys and values
    width: int
    linears: dict[str, lora.Shape]
    adapters: set[str] = field(default_factory=set)
    few: Few | None = None
    shares = True  # what its caches hold may be copied into others

    # Adapters

    def read_adapter(self, folder: Path) -> Prepared:
        """Verify an adapter's bytes and base and make it ready; any thread may. Raises WeightsError."""
        digest = str(verify_adapter(folder, base=self.base_digest)["digest"])
        found = lora.updates(folder, self.linears, rest_s=lora.REST_S)
        ready: dict[tuple[int, str], Update] = {}
        for number, layer in enumerate(self.layers):
            for group, names in lora.gently(GROUPS.items(), lora.REST_S):
                parts = [found.get(f"model.layers.{number}.{name}") for name in names]
                if (update := layer.projections[group].fused(parts)) is not None:
                    ready[number, group] = update
        return Prepared(digest=digest, updates=ready)

    def attach(self, prepared: Prepared) -> str:
        for (number, group), update in prepared.updates.items():
            self.layers[number].projections[group].updates[prepared.digest] = update
        if self.few is not None:
            self.few.attach(prepared.digest, prepared.updates)
        self.adapters.add(prepared.digest)
        return prepared.digest

    def remove_adapter(self, digest: str) -> None:
        for layer in self.layers:
            for projection in layer.projections.values():
                projection.updates.pop(digest, None)
        if self.few is not None:
            self.few.remove(digest)
        self.adapters.discard(digest)

    # Passes

    def new_cache(self, capacity: int) -> Cache:
        """Room for the keys and values of so many tokens."""
        shape = (len(self.layers), self.groups, capacity, self.width)
        keys, values = (torch.empty(shape, device=self.device, dtype=self.dtype) for _ in range(2))
        return Cache(keys, values)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment], *, interrupt: Interrupt = None) -> torch.Tensor:
        """Float32 logits (S, V) of the token after each segment that speaks, in order; the caches grow.

        Raises Interrupted as soon as `interrupt` is true; WeightsError for an adapter that is not attached.
        """
        for row in segments:
            if row.adapter is not None and row.adapter not in self.adapters:
                raise WeightsError(f"adapter {row.adapter[:12]} is not attached")
        if self.few is not None and self.few.takes(segments):
            logits = self.few.forward(segments, interrupt)
        else:
            logits = self._forward(segments, interrupt)
        for row in segments:
            row.cache.tokens.extend(row.ids)
        return logits

    def _forward(self, segments: Sequence[Segment], interrupt: Interrupt) -> torch.Tensor:
        """A pass of any size; rows of one adapter stand side by side in it."""
        order = sorted(range(len(segments)), key=lambda n: segments[n].adapter or "")
        rows, spans, slices = [segments[n] for n in order], list[tuple[int, int]](), list[tuple[int, int, str]]()
        for row in rows:
            start = spans[-1][1] if spans else 0
            spans.append((start, start + len(row.ids)))
            if row.adapter is None:
                continue
            if slices and slices[-1][2] == row.adapter:
                slices[-1] = (slices[-1][0], spans[-1][1], row.adapter)
            else:
                slices.append((*spans[-1], row.adapter))
        ids = torch.tensor([i for row in rows for i in row.ids], device=self.device)
        places = [len(row.cache.tokens) + n for row in rows for n in range(len(row.ids))]
        at = torch.tensor(places, device=self.device)
        cos, sin, x = self.cos[at], self.sin[at], embedding(ids, self.embeddings)
        masks = [self._mask(row) for row in rows]
        for number, layer in enumerate(self.layers):
            go_on(interrupt)
            x = self._layer(number, layer, x, cos, sin, rows, spans, masks, slices)
        go_on(interrupt)
        speaking = [n for n, row in enumerate(rows) if row.speaks]
        if not speaking:
            return x.new_empty((0, len(self.embeddings)))
        last = x[[spans[n][1] - 1 for n in speaking]]
        logits = self.head(rms_norm(last, (x.shape[1],), self.norm, self.epsilon), ()).float()
        back = sorted(range(len(speaking)), key=lambda place: order[speaking[place]])
        return logits if back == list(range(len(back))) else logits[back]

    def _mask(self, row: Segment) -> torch.Tensor | None:
        """Which earlier tokens each of several new ones may see (T, L); None where all or plainly causal."""
        read, new = len(row.cache.tokens), len(row.ids)
        if new == 1 or read == 0:
            return None
        return torch.ones(new, read + new, dtype=torch.bool, device=self.device).tril(read)

    def _layer(
        self, number: int, layer: Layer, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, rows: Sequence[Segment],
        spans: Sequence[tuple[int, int]], masks: Sequence[torch.Tensor | None], slices: Slices,
    ) -> torch.Tensor:  # fmt: skip
        count, both = len(x), self.heads + self.groups
        y = layer.projections["qkv"](rms_norm(x, (x.shape[1],), layer.before, self.epsilon), slices)
        y = y.view(count, both + self.groups, self.width)
        turned, values = y[:, :both], y[:, both:]
        if layer.each_query is not None and layer.each_key is not None:
            queries = rms_norm(turned[:, : self.heads], (self.width,), layer.each_query, self.epsilon)
            keys = rms_norm(turned[:, self.heads :], (self.width,), layer.each_key, self.epsilon)
            turned = torch.cat([queries, keys], 1)
        turned = torch.addcmul(turned * cos, turned.roll(self.width // 2, -1), sin)
        seen = [
            self._attend(number, turned[start:stop], values[start:stop], row.cache, mask)
            for (start, stop), row, mask in zip(spans, rows, masks, strict=True)
        ]
        x = x + layer.projections["out"](seen[0] if len(seen) == 1 else torch.cat(seen), slices)
        y = layer.projections["gate_up"](rms_norm(x, (x.shape[1],), layer.between, self.epsilon), slices)
        gate, up = y.chunk(2, -1)
        return x + layer.projections["down"](silu(gate).mul_(up), slices)

    def _attend(
        self, number: int, turned: torch.Tensor, values: torch.Tensor, cache: Cache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """One row's new tokens (T, …) over all that it has read, itself included; (T, heads × width)."""
        new, start = len(turned), len(cache.tokens)
        keys_there, values_there = cache.keys[number], cache.values[number]
        keys_there[:, start : start + new] = turned[:, self.heads :].transpose(0, 1)
        values_there[:, start : start + new] = values.transpose(0, 1)
        keys, seen = keys_there[:, : start + new], values_there[:, : start + new]
        share = self.heads // self.groups
        if new == 1:  # the heads of a group stand where several tokens would
            queries = turned[:, : self.heads].view(1, self.groups, share, self.width)
            found = scaled_dot_product_attention(queries, keys[None], seen[None])
            return found.reshape(1, -1)
        queries = turned[:, : self.heads].reshape(new, self.groups, share, self.width).permute(1, 2, 0, 3)
        shape = (self.groups, share, start + new, self.width)
        found = scaled_dot_product_attention(
            queries, keys[:, None].expand(shape), seen[:, None].expand(shape), attn_mask=mask, is_causal=mask is None
        )
        return found.permute(2, 0, 1, 3).reshape(new, -1)


def readable(config: Any) -> bool:
    """Whether a base is of a kind that this layout holds exactly."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    return (
        config.model_type in KNOWN and kind in ROPES and config.hidden_act == "silu"
        and not getattr(config, "use_sliding_window", False)
        and (config.model_type != "mistral" or not config.sliding_window)
    )  # fmt: skip


@torch.inference_mode()
def decoder_of(model: Any, base_digest: str) -> Decoder:
    """Take a transformers model over; its weights move and it can no longer be asked.

    Raises WeightsError for a kind of base that cannot be read, or when the answer to a canary is not the model's own.
    """
    config, inner = model.config, model.model
    if not readable(config):
        raise WeightsError(
            f"a base of the kind {config.model_type} cannot be served here. Allowed: {', '.join(KNOWN)}."
        )
    canary = torch.arange(3, 35, device=model.device)[None] % config.vocab_size
    wanted = model(canary, logits_to_keep=1).logits[0, -1].float()
    pack = packs(model.device, model.dtype)
    positions = torch.arange(context_of(model), device=model.device)[None]
    cos, sin = (each[0][:, None] for each in inner.rotary_emb(inner.embed_tokens.weight[:1, None], positions))
    half = cos.shape[-1] // 2
    linears = {
        f"model.layers.{name}": lora.Shape.of(module)
        for name, module in inner.layers.named_modules()
        if isinstance(module, nn.Linear)
    }
    layers = [_taken(layer, pack) for layer in inner.layers]
    decoder = Decoder(
        base_digest=base_digest, device=model.device, dtype=model.dtype, context=context_of(model), layers=layers,
        embeddings=inner.embed_tokens.weight.detach(), norm=inner.norm.weight.detach(), epsilon=config.rms_norm_eps,
        head=Projection([model.lm_head], pack=pack), cos=cos, sin=torch.cat([-sin[..., :half], sin[..., half:]], -1),
        heads=config.num_attention_heads, groups=config.num_key_value_heads, width=cos.shape[-1], linears=linears,
    )  # fmt: skip
    if model.device.type == "cpu" and model.dtype in KINDS:
        decoder.few = Few(decoder)
    for found in _read_twice(decoder, canary[0].tolist()):
        bearable = (1e-3 if model.dtype == torch.float32 else 0.25) * max(1.0, float(wanted.std()))
        if not (found - wanted).abs().max() <= bearable:
            raise WeightsError(
                "the base answers the canary differently in its serving layout: it cannot be served here."
            )
    return decoder


def _read_twice(decoder: Decoder, ids: Sequence[int]) -> Iterator[torch.Tensor]:
    """The logits after the whole of it, and after its last tokens were read apart, as in a pass of few."""
    yield decoder.forward([Segment(ids=ids, cache=decoder.new_cache(len(ids)), adapter=None)])[0]
    cache = decoder.new_cache(len(ids))
    decoder.forward([Segment(ids=ids[:-MOST], cache=cache, adapter=None, speaks=False)])
    yield decoder.forward([Segment(ids=ids[-MOST:], cache=cache, adapter=None)])[0]


def _taken(layer: Any, pack: bool) -> Layer:
    """One layer in the decoder's layout; the model's own weights of it are let go."""
    attention = layer.self_attn
    groups = {}
    for group, names in GROUPS.items():
        modules = [layer.get_submodule(name) for name in names]
        groups[group] = Projection(modules, pack=pack)
        for module in modules:
            module.weight = None
    norms = [
        getattr(attention, name).weight.detach() if hasattr(attention, name) else None for name in ("q_norm", "k_norm")
    ]
    return Layer(before=layer.input_layernorm.weight.detach(), between=layer.post_attention_layernorm.weight.detach(),
                 each_query=norms[0], each_key=norms[1], projections=groups)  # fmt: skip
