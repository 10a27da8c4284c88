"""Messages into tokens and loss masks: the one place, for serving, scoring and training alike.

Promise: what a person writes never becomes a control token, and ordinary text gives exactly the tokens of the base's own
chat template. Knows the tokenizer. Knows no model.
"""

from collections.abc import Sequence
from typing import Any

from storage.digests import digest_of
from storage.errors import WeightsError
from storage.records import Message


class Renderer:
    """Renders for one tokenizer. Raises WeightsError when it has no chat template or no end token."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template or tokenizer.eos_token_id is None:
            raise WeightsError(
                "this base has no chat template or no end token. Next: choose an instruct model as BASE_MODEL."
            )
        self.tokenizer = tokenizer
        self.template_digest = digest_of([tokenizer.chat_template, sorted(tokenizer.all_special_tokens)])
        self._controls = sorted(
            {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_encoder)}, key=len, reverse=True
        )
        self._turn_end = self._last_token_of_a_turn()
        self.end_ids = frozenset({tokenizer.eos_token_id, self._turn_end})

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids (T,) of a conversation, ready for the assistant to speak."""
        return self._ids(self._text(messages, ask=True))

    def example(self, messages: Sequence[Message], answer: str) -> tuple[list[int], list[bool]]:
        """Token ids (T,) of prompt, answer and end token, and a mask (T,) that is True at answer and end token only."""
        prompt = self.prompt(messages)
        said = [*self._ids(self.defused(answer)), self._turn_end]
        return prompt + said, [False] * len(prompt) + [True] * len(said)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, control tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def defused(self, text: str) -> str:
        """The text with a space inside each string that the tokenizer would read as a control token."""
        for control in self._controls:
            text = text.replace(control, f"{control[0]} {control[1:]}")
        return text

    def _text(self, messages: Sequence[Message], *, ask: bool) -> str:
        safe = [{"role": m["role"], "content": self.defused(m["content"])} for m in messages]
        return str(self.tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=ask))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _last_token_of_a_turn(self) -> int:
        """The control token that closes an assistant's turn in this template; the end token where there is none."""
        said = "x"
        turns: list[Message] = [{"role": "user", "content": said}, {"role": "assistant", "content": said}]
        tail = self._text(turns, ask=False).rsplit(said, 1)[1]
        controls = [
            i
            for i in self._ids(tail)
            if i in set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_encoder.values())
        ]
        return controls[0] if controls else int(self.tokenizer.eos_token_id)
