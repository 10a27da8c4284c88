"""One forward pass for rows of any kind at once: prompts being read and answers being spoken, of base and adapters.

Promises: a row without an adapter gets what the bare base gives, one with an adapter what PEFT gives; an interrupted or
failed pass leaves every row as it was. All tokens of a pass go through each linear layer together, an adapter's own as one
contiguous slice; attention is each row's own, so that no row sees padding or another row. One thread may use a decoder.

Reads Llama-like bases (Llama, Mistral, Qwen 2 and 3) into its own layout: query, key and value as one matrix, gate and up
as another, packed for the CPU where that is faster. Sources: Hu et al. 2021, arXiv 2106.09685; Agrawal et al. 2023, arXiv
2308.16369 (prompts read beside answers).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from bot.engine import lora
from bot.engine.cache import Cache
from bot.engine.model import context_of
from storage.errors import WeightsError
from storage.weights import verify_adapter

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
ROPES = ("default", "linear", "llama3", "yarn")  # angles that do not depend on the length of the row
GROUPS = {"qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "out": ("self_attn.o_proj",),
          "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",)}  # fmt: skip
Update = tuple[torch.Tensor, torch.Tensor]
Slices = Sequence[tuple[int, int, str]]


class Interrupted(Exception):
    """The pass was given up; nothing has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What one row reads in a pass: its next tokens, who speaks, and whether the next token is wanted."""

    ids: Sequence[int]
    cache: Cache
    adapter: str | None
    speaks: bool = True


class Projection:
    """One or several linear layers that read the same input, as one matrix, with the updates of any number of adapters."""

    def __init__(self, linears: Sequence[nn.Linear], *, pack: bool) -> None:
        weight = torch.cat([each.weight.detach() for each in linears])
        biases = [each.bias for each in linears]
        self.bias = None if biases[0] is None else torch.cat([b.detach() for b in biases])
        self.sizes, self.inputs = tuple(each.out_features for each in linears), linears[0].in_features
        self.packed = pack
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1) if pack else weight
        self.updates: dict[str, Update] = {}

    def __call__(self, x: torch.Tensor, slices: Slices) -> torch.Tensor:
        """(N, in) to (N, out)."""
        if self.packed:
            y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        else:
            y = linear(x, self.weight, self.bias)
        for start, stop, adapter in slices:
            if update := self.updates.get(adapter):
                y[start:stop].addmm_(linear(x[start:stop], update[0]), update[1])
        return y

    def fused(self, parts: Sequence[Update | None]) -> Update | None:
        """The updates of its layers as one: A (sum of ranks, in) and B transposed (sum of ranks, out), block by block."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        a = torch.cat([each[0] for each in known])
        b = a.new_zeros(len(a), sum(self.sizes))
        row = column = 0
        for size, part in zip(self.sizes, parts, strict=True):
            if part is not None:
                rank = len(part[0])
                b[row : row + rank, column : column + size] = part[1].T
                row += rank
            column += size
        return a, b


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    before: torch.Tensor  # weights of the norm before attention
    between: torch.Tensor
    each_query: torch.Tensor | None  # norms of single heads, where the base has them
    each_key: torch.Tensor | None
    projections: Mapping[str, Projection]


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
    shares = True  # what its caches hold may be copied into others

    # Adapters

    def read_adapter(self, folder: Path) -> Prepared:
        """Verify an adapter's bytes and base and make it ready; any thread may. Raises WeightsError."""
        digest = str(verify_adapter(folder, base=self.base_digest)["digest"])
        found = lora.updates(folder, self.linears)
        ready: dict[tuple[int, str], Update] = {}
        for number, layer in enumerate(self.layers):
            for group, names in GROUPS.items():
                parts = [found.get(f"model.layers.{number}.{name}") for name in names]
                if (update := layer.projections[group].fused(parts)) is not None:
                    ready[number, group] = update
        return Prepared(digest=digest, updates=ready)

    def attach(self, prepared: Prepared) -> str:
        for (number, group), update in prepared.updates.items():
            self.layers[number].projections[group].updates[prepared.digest] = update
        self.adapters.add(prepared.digest)
        return prepared.digest

    def remove_adapter(self, digest: str) -> None:
        for layer in self.layers:
            for projection in layer.projections.values():
                projection.updates.pop(digest, None)
        self.adapters.discard(digest)

    # Passes

    def new_cache(self, capacity: int) -> Cache:
        """Room for the keys and values of so many tokens."""
        shape = (len(self.layers), self.groups, capacity, self.width)
        keys, values = (torch.empty(shape, device=self.device, dtype=self.dtype) for _ in range(2))
        return Cache(keys, values)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment], *, interrupt: Callable[[], bool] | None = None) -> torch.Tensor:
        """Float32 logits (S, V) of the token after each segment that speaks, in order; the caches grow.

        Raises Interrupted as soon as `interrupt` is true; WeightsError for an adapter that is not attached.
        """
        order = sorted(range(len(segments)), key=lambda n: segments[n].adapter or "")
        rows, spans, slices = [segments[n] for n in order], list[tuple[int, int]](), list[tuple[int, int, str]]()
        for row in rows:
            start = spans[-1][1] if spans else 0
            spans.append((start, start + len(row.ids)))
            if row.adapter is None:
                continue
            if row.adapter not in self.adapters:
                raise WeightsError(f"adapter {row.adapter[:12]} is not attached")
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
            if interrupt is not None and interrupt():
                raise Interrupted
            x = self._layer(number, layer, x, cos, sin, rows, spans, masks, slices)
        speaking = [n for n, row in enumerate(rows) if row.speaks]
        logits = x.new_empty((0, len(self.embeddings)))
        if speaking:
            last = x[[spans[n][1] - 1 for n in speaking]]
            logits = self.head(rms_norm(last, (x.shape[1],), self.norm, self.epsilon), ()).float()
        for row in rows:
            row.cache.tokens.extend(row.ids)
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


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this processor reads packed weights faster."""
    return device.type == "cpu" and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


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
    found = decoder.forward([Segment(ids=canary[0].tolist(), cache=decoder.new_cache(32), adapter=None)])[0]
    if (found - wanted).abs().max() > (1e-3 if model.dtype == torch.float32 else 0.25) * max(1.0, float(wanted.std())):
        raise WeightsError("the base answers the canary differently in its serving layout: it cannot be served here.")
    return decoder


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
