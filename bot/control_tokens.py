"""Control tokens of chat models in what people write, taken apart so that a server reads them as text.

Our engine does this with its own tokenizer (bot/engine/render.py). Of other servers the tokenizer is not known, so this
holds for the forms that chat models use, and not for a control token that looks like ordinary words. Pure.
"""

import re
from collections.abc import Sequence

from storage.records import Message

CONTROL = re.compile(
    r"<(?=[|｜][^<>\n]{1,60}[|｜]>"  # <|im_end|>, <｜User｜>
    r"|/?(?:s|bos|eos|pad|unk|mask|think|tool_call|tool_response|(?:start|end)_of_(?:turn|image))>"
    r"|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|MASK|gMASK)\])",
    re.IGNORECASE,
)


def apart(messages: Sequence[Message]) -> list[Message]:
    """The messages with a space after the first character of each control token; all else as it was."""
    return [{**message, "content": CONTROL.sub(r"\g<0> ", message["content"])} for message in messages]
