"""llama.cpp beside the engine: the same base and adapter, written in its own format, asked through its server.

Knows the wheel `xllamacpp`, which brings that server ready-made and is installed for this benchmark only (built for any
x86-64, so without AVX-512 and AMX), and the GGUF of the embedded base, from which tokenizer and shapes are taken.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file

from bot.engine import base as embedded
from bot.engine.lora import paired, read

WHEEL = "xllamacpp==2026.10.11549"
LINEARS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
ENDS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


class Llama:
    """Its server in this process, with the adapter applied; as many slots as people ask at once."""

    def __init__(self, base: Path, adapter: Path, room: Path, *, slots: int, threads: int) -> None:
        sys.path.append(str(install(room)))
        import xllamacpp

        source = embedded.unpack(embedded.download(room), room)
        params = xllamacpp.CommonParams()
        params.model.path = str(write_base(base, source, room / "bf16.gguf"))
        lora = xllamacpp.CommonAdapterLoraInfo(str(write_adapter(adapter, base, room / "lora.gguf")), 1.0)
        params.lora_adapters = [lora]
        params.n_parallel, params.n_ctx, params.cont_batching = slots, 512 * slots, True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_prompt, params.verbosity = False, -1
        self.server = xllamacpp.Server(params)

    def ask(self, prompt: Sequence[int], tokens: int) -> str:
        """The text of exactly so many tokens, greedily chosen."""
        wanted = {"prompt": list(prompt), "max_tokens": tokens, "n_predict": tokens, "temperature": 0, "top_k": 1,
                  "ignore_eos": True, "cache_prompt": False}  # fmt: skip
        reply: dict[str, Any] = self.server.handle_completions(wanted)
        if reply["usage"]["completion_tokens"] != tokens:
            raise RuntimeError(f"llama.cpp said {reply['usage']['completion_tokens']} tokens, asked were {tokens}")
        return str(reply["choices"][0]["text"])

    def crowd(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[float]:
        """Seconds that each of these people waited, all asking at once."""
        begun = time.perf_counter()

        def one(prompt: Sequence[int]) -> float:
            self.ask(prompt, tokens)
            return time.perf_counter() - begun

        with ThreadPoolExecutor(len(prompts)) as people:
            return list(people.map(one, prompts))


def install(room: Path) -> Path:
    """The wheel's folder, installed outside the environment. Raises CalledProcessError where it does not install."""
    target = room / "xllamacpp"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target",
                    str(target), WHEEL], check=True, stdout=sys.stderr)  # fmt: skip
    return target


def write_base(base: Path, source: Path, target: Path) -> Path:
    """The base's own bfloat16 weights under the tokenizer and shapes of the GGUF that it came from."""
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    shape = json.loads((base / "config.json").read_text())
    for name, tensor in load_file(base / "model.safetensors").items():
        if name == "lm_head.weight":
            continue  # tied to the embeddings
        tensor = heads_apart(tensor, name, shape)
        if tensor.ndim == 1:
            writer.add_tensor(gguf_name(name), tensor.float().numpy())
        else:
            rows = tensor.bfloat16().contiguous().view(torch.uint8).numpy()
            writer.add_tensor(gguf_name(name), rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
    finish(writer)
    return target


def write_adapter(adapter: Path, base: Path, target: Path) -> Path:
    config, tensors = read(adapter)
    shape = json.loads((base / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    for name, (a, b) in paired(tensors, adapter).items():
        weight = f"{name}.weight"
        writer.add_tensor(f"{gguf_name(weight)}.lora_a", a.float().contiguous().numpy())
        writer.add_tensor(f"{gguf_name(weight)}.lora_b", heads_apart(b.float(), weight, shape).contiguous().numpy())
    finish(writer)
    return target


def gguf_name(name: str) -> str:
    if name in ENDS:
        return ENDS[name]
    _, _, layer, *rest = name.removesuffix(".weight").split(".")
    part = ".".join(rest)
    return f"blk.{layer}.{(LINEARS | NORMS)[part]}.weight"


def heads_apart(tensor: torch.Tensor, name: str, shape: dict[str, Any]) -> torch.Tensor:
    """Rows of queries and keys in the order that GGUF's rotation wants: pairs side by side, not half a head apart."""
    counts = {"q_proj": shape["num_attention_heads"], "k_proj": shape["num_key_value_heads"]}
    heads = next((count for part, count in counts.items() if part in name), None)
    if heads is None:
        return tensor
    return tensor.reshape(heads, 2, -1, tensor.shape[-1]).swapaxes(1, 2).reshape(tensor.shape)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
