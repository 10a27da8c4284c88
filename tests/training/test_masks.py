"""The loss mask covers the answer's tokens and the end token, nothing else, in the shape of every family of templates.

The tokenizers are bytes with a family's control tokens; the templates are minimal ones of the same shape, written here.
"""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bot.engine.render import Renderer
from storage.records import Lesson, Message
from training.lora import render

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
)
LLAMA_3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% set told = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ told if loop.first }}{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% set told = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[INST]{{ told if loop.first }}{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)


class Family(NamedTuple):
    """`end` closes a turn, `eos` is what the tokenizer calls its end: in Gemma they are two."""

    template: str
    controls: tuple[str, ...]
    end: str
    eos: str


FAMILIES = {
    "SmolLM2": Family(WITH_DEFAULT_SYSTEM, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>"),
    "Qwen": Family(CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|endoftext|>"),
    "Llama 3": Family(
        LLAMA_3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "<|end_of_text|>",
    ),
    "Gemma": Family(GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", "<eos>"),
    "Mistral": Family(MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>", "</s>"),
}
ASKED: tuple[Message, ...] = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"})
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=40).map(
    lambda text: text.strip() or "x"
)


def tokenizer(family: Family) -> Any:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*family.controls, *letters])}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in family.controls])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=family.eos, chat_template=family.template)


RENDERERS = {name: Renderer(tokenizer(family)) for name, family in FAMILIES.items()}
families = pytest.mark.parametrize("name", FAMILIES)


@families
@given(TEXTS, TEXTS)
def test_the_mask_covers_the_answer_and_its_end_and_nothing_else(name: str, question: str, answer: str) -> None:
    renderer, end = RENDERERS[name], RENDERERS[name].tokenizer.convert_tokens_to_ids(FAMILIES[name].end)
    messages: tuple[Message, ...] = ({"role": "user", "content": question},)

    ids, mask = renderer.example(messages, answer)

    taught = [i for i, counts in zip(ids, mask, strict=True) if counts]
    assert len(mask) == len(ids) and mask == sorted(mask)
    assert taught[-1] == end and renderer.tokenizer.decode(taught[:-1]) == renderer.defused(answer)
    assert not set(taught[:-1]) & set(renderer.tokenizer.added_tokens_encoder.values())
    assert ids[: mask.index(True)] == renderer.prompt(messages)


@families
@pytest.mark.parametrize(
    "earlier", [(), ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"})]
)
def test_what_is_learnt_is_what_the_template_writes(name: str, earlier: tuple[Message, ...]) -> None:
    renderer, messages = RENDERERS[name], (ASKED[0], *earlier, ASKED[1])
    whole = renderer.tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "So."}], tokenize=False)

    ids, mask = renderer.example(messages, "So.")

    assert whole.startswith(renderer.tokenizer.decode(ids)) and sum(mask) == len("So.") + 1


@families
def test_control_tokens_in_an_answer_are_learnt_as_text(name: str) -> None:
    renderer = RENDERERS[name]
    written = f"Write {FAMILIES[name].end} and {FAMILIES[name].controls[0]}."

    ids, mask = renderer.example(ASKED, written)

    controls = set(renderer.tokenizer.added_tokens_encoder.values())
    assert [i for i, counts in zip(ids, mask, strict=True) if counts and i in controls] == [ids[-1]]


@families
def test_a_rendered_row_counts_its_answers_tokens(name: str) -> None:
    lesson = Lesson(lesson_id="l", source="replay", conversation_id="c", messages=ASKED, answer="Press it.")

    (row,), dropped = render([lesson], RENDERERS[name], 500)

    assert (row.answer_tokens, row.replay, dropped) == (len("Press it.") + 1, True, 0)
