"""Passes of few tokens: the compiled steps between the products give what the framework's own operations give."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from bot.engine import kernels
from bot.engine.decoder import Decoder
from bot.engine.few import FARTHEST, FULL, MOST
from bot.engine.layers import Segment
from bot.engine.stock import open_decoder
from tests.engine.test_decoder import LONG, SHORT_ROW, adapter_of, base, opened, read  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@njit
def rounded(number: Any) -> Any:
    return kernels.load(kernels.store(number, kernels.HALF))


def test_the_exponential_is_right_to_float32_where_softmax_and_gates_use_it() -> None:
    for x in np.linspace(-87.0, 88.0, 20_011, dtype=np.float32):
        assert kernels.exp(x) == pytest.approx(math.exp(float(x)), rel=3e-7)
    assert 0 < kernels.exp(np.float32(-1e30)) < 1e-37


def test_numbers_are_rounded_to_bfloat16_as_the_framework_rounds_them() -> None:
    random = np.random.default_rng(1).integers(0, 2**32, 5_000, dtype=np.uint32).view(np.float32)
    ties = (np.arange(0x3F80_8000, 0x3FA0_8000, 0x1_0000, dtype=np.uint32)).view(np.float32)
    for number in [*random, *ties, np.float32(0), np.float32(np.inf), np.float32(-np.inf), np.float32(3.4e38)]:
        wanted = torch.tensor(float(number)).bfloat16().float().item()
        found = float(rounded(number))
        assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@pytest.mark.parametrize("count", [1, MOST, MOST + 1])
def test_as_many_tokens_as_fit_or_one_more_give_the_same_numbers(base: Path, tmp_path: Path, count: int) -> None:  # noqa: F811
    decoder = opened(base)
    digest = decoder.attach(decoder.read_adapter(adapter_of(base, tmp_path, 2)))
    caches = [read(decoder, LONG[: 10 + n], digest if n % 2 else None)[0] for n in range(count)]
    plan = [Segment(ids=[9 + n], cache=cache, adapter=digest if n % 2 else None) for n, cache in enumerate(caches)]
    assert decoder.few is not None and decoder.few.takes(plan) is (count <= MOST)

    logits = decoder.forward(plan)

    for n, found in enumerate(logits):
        _, wanted = read(decoder, [*LONG[: 10 + n], 9 + n], digest if n % 2 else None)
        assert torch.allclose(found, wanted, atol=1e-4)


def test_a_pass_that_looks_back_too_far_is_left_to_more_cores(base: Path) -> None:  # noqa: F811
    decoder = opened(base)
    cache = decoder.new_cache(4)
    cache.tokens = [0] * FARTHEST
    assert decoder.few is not None and not decoder.few.takes([Segment(ids=[1], cache=cache, adapter=None)])


def test_numbers_that_are_none_stay_in_their_row(base: Path) -> None:  # noqa: F811
    decoder = opened(base)
    (sound, _), (broken, _) = (read(decoder, LONG, None) for _ in range(2))
    broken.keys[1, 0, 3, 2] = math.nan

    logits = decoder.forward(
        [Segment(ids=[6], cache=broken, adapter=None), Segment(ids=[6], cache=sound, adapter=None)]
    )

    assert torch.isnan(logits[0]).any() and torch.isfinite(logits[1]).all()


def test_in_bfloat16_a_pass_of_few_is_as_near_to_float32_as_the_frameworks(base: Path, tmp_path: Path) -> None:  # noqa: F811
    exact = opened(base)
    half, _ = open_decoder(base, device="cpu", dtype=torch.bfloat16)
    assert isinstance(half, Decoder)
    folder = adapter_of(base, tmp_path, 2)
    digest = [decoder.attach(decoder.read_adapter(folder)) for decoder in (exact, half)][0]
    wanted = read(exact, [*LONG, 6], digest)[1]
    few, errors = half.few, []
    for way in (few, None):
        half.few = None
        cache, _ = read(half, LONG, digest)
        half.few = way
        logits = half.forward([Segment(ids=[6], cache=cache, adapter=digest)])[0]
        errors.append(float((logits - wanted).abs().mean()))

    assert few is not None and errors[0] < 1.25 * errors[1] and errors[1] < 0.2


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor does not multiply bfloat16"
)
def test_with_packed_weights_a_row_says_the_same_to_the_last_bit_whoever_shares_the_pass(
    base: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    decoder, _ = open_decoder(base, device="cpu", dtype=torch.bfloat16)
    assert isinstance(decoder, Decoder)
    digest = decoder.attach(decoder.read_adapter(adapter_of(base, tmp_path, 2)))
    (one, _), (two, _) = (read(decoder, LONG, digest) for _ in range(2))
    others = [read(decoder, SHORT_ROW, None)[0] for _ in range(FULL - 1)]

    alone = decoder.forward([Segment(ids=[6], cache=one, adapter=digest)])[0]
    plan = [
        *(Segment(ids=[9], cache=other, adapter=None) for other in others),
        Segment(ids=[6], cache=two, adapter=digest),
    ]

    assert torch.equal(decoder.forward(plan)[-1], alone)
