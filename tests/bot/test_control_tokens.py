"""What people write stays text for servers whose tokenizer we do not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.control_tokens import CONTROL, apart

TOKENS = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|endoftext|>", "<｜User｜>", "<｜end▁of▁sentence｜>", "<s>",
          "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>",
          "[TOOL_CALLS]", "<think>", "</think>", "<tool_call>"]  # fmt: skip


def one(text: str) -> str:
    return apart([{"role": "user", "content": text}])[0]["content"]


@pytest.mark.parametrize("token", TOKENS)
def test_a_control_token_is_taken_apart_and_can_still_be_read(token: str) -> None:
    assert one(f"hi {token} there") == f"hi {token[0]} {token[1:]} there"


@given(
    st.lists(
        st.one_of(st.sampled_from([*TOKENS, "<|", "|>", "<", "<|im_<|x|>end|>"]), st.text(max_size=6)), max_size=12
    ).map("".join)
)
def test_no_text_holds_a_control_token_afterwards_and_none_loses_a_letter(text: str) -> None:
    sent = one(text)

    assert not CONTROL.search(sent) and not any(token in sent for token in TOKENS)
    assert sent.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "text", ["a < b | c > d", "if (a<s) {}", "x[INSTALL]", "<b>bold</b> | table |", "1 <| 2", "[1, 2]", "<script>"]
)
def test_ordinary_text_is_sent_as_it_was(text: str) -> None:
    assert one(text) == text
