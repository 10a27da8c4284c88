"""The page as people use it: a real browser, the real workspace server, a small real Bolt app behind it."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from bot.workspace.running import running_workspace
from tests.workspace.conftest import manifest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
CHROMEDRIVER = shutil.which("chromedriver")
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1360,860",
)  # fmt: skip
PATIENCE_S = 5

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver (apt install chromium-driver)"
    ),
]


@pytest.fixture(scope="module")
def slack() -> Iterator[Any]:
    whole = manifest()
    whole["features"]["shortcuts"] = [{"name": "Teach the bot", "type": "message", "callback_id": "teach"}]
    whole["settings"]["event_subscriptions"]["bot_events"] += ["agent_session_stopped"]
    with running_workspace(manifest=whole) as running:
        yield running


@pytest.fixture(scope="module")
def heard(slack: Any) -> Iterator[list[Any]]:
    """What the small bot behind the workspace heard, in order."""
    heard: list[Any] = []
    app = App(client=WebClient(slack.bot_token, base_url=slack.api_url), token_verification_enabled=False)
    _listen(app, heard)
    handler = SocketModeHandler(app, slack.app_token)
    handler.connect()
    yield heard
    handler.close()


def _listen(app: App, heard: list[Any]) -> None:
    @app.command("/retrain")
    def retrain(ack: Any, command: dict[str, Any]) -> None:
        heard.append(f"{command['command']} {command['text']} by {command['user_id']}")
        ack("Run 1 is requested.")

    @app.event("message")
    def message(event: dict[str, Any]) -> None:
        heard.append(event.get("text", ""))

    @app.event("app_home_opened")
    def home(event: dict[str, Any], client: WebClient) -> None:
        button = {"type": "button", "action_id": "status", "text": {"type": "plain_text", "text": "Status"}}
        view = {"type": "home", "blocks": [{"type": "actions", "block_id": "acts", "elements": [button]}]}
        client.views_publish(user_id=event["user"], view=view)

    @app.action("status")
    def status(ack: Any, body: dict[str, Any]) -> None:
        ack()
        heard.append(f"status by {body['user']['id']}")

    @app.action("correct")
    def correct(ack: Any, body: dict[str, Any], client: WebClient) -> None:
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=FORM)

    @app.action("estimate")
    def estimate(ack: Any, body: dict[str, Any], client: WebClient) -> None:
        ack()
        heard.append(body["view"]["state"]["values"])
        said = {"type": "section", "text": {"type": "mrkdwn", "text": "*7 minutes*"}}
        client.views_update(view_id=body["view"]["id"], view={**LEVERS, "blocks": [said, *LEVERS["blocks"]]})

    @app.shortcut("teach")
    def teach(ack: Any, body: dict[str, Any], client: WebClient) -> None:
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=LEVERS)

    @app.event("agent_session_stopped")
    def stopped(event: dict[str, Any]) -> None:
        heard.append(f"stopped {event['streaming_message_ts']} by {event['user']}")

    @app.view("correction")
    def correction(ack: Any, view: dict[str, Any]) -> None:
        written = view["state"]["values"]["better"]["text"]["value"]
        if "please" not in written:
            ack(response_action="errors", errors={"better": "Say please."})
        else:
            ack()
            heard.append(written)


FORM = {
    "type": "modal",
    "callback_id": "correction",
    "title": {"type": "plain_text", "text": "A better answer"},
    "submit": {"type": "plain_text", "text": "Save"},
    "blocks": [
        {
            "type": "input",
            "block_id": "better",
            "label": {"type": "plain_text", "text": "The answer"},
            "element": {
                "type": "plain_text_input",
                "action_id": "text",
                "multiline": True,
                "initial_value": "Click it",
            },
        }
    ],
}


def _option(value: str) -> dict[str, Any]:
    return {"text": {"type": "plain_text", "text": value}, "value": value}


def _asks(name: str, element: dict[str, Any]) -> dict[str, Any]:
    label = {"type": "plain_text", "text": name}
    return {"type": "input", "block_id": name, "label": label, "element": {"action_id": name, **element}}


SURE = {
    "title": {"type": "plain_text", "text": "Estimate?"},
    "text": {"type": "mrkdwn", "text": "It takes *a moment*."},
    "confirm": {"type": "plain_text", "text": "Do it"},
    "deny": {"type": "plain_text", "text": "Not now"},
}
LEVERS = {
    "type": "modal",
    "callback_id": "levers",
    "title": {"type": "plain_text", "text": "Levers"},
    "submit": {"type": "plain_text", "text": "Start"},
    "blocks": [
        _asks("lr", {"type": "plain_text_input", "initial_value": "1e-3"}),
        _asks("epochs", {"type": "number_input", "is_decimal_allowed": False}),
        _asks("rank", {"type": "radio_buttons", "options": [_option("8"), _option("16")]}),
        _asks("source", {"type": "checkboxes", "options": [_option("picks"), _option("tickets")]}),
        _asks("recipe", {"type": "static_select", "options": [_option("quick"), _option("full")]}),
        {"type": "actions", "block_id": "acts", "elements": [
            {"type": "button", "action_id": "estimate", "text": {"type": "plain_text", "text": "Estimate"}, "confirm": SURE},
        ]},
    ],
}  # fmt: skip


class Page:
    """A browser with the page in it, driven by the data-testid handles."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url.rstrip("/")

    def open(self, place: str) -> None:
        """Load anew: #USER/CHANNEL/THREAD."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/#{place}")
        self.find("composer" if "/home" not in place else "home-view")

    def stay(self, place: str) -> None:
        """Load only if the page is elsewhere."""
        if not self.driver.current_url.endswith(f"#{place}"):
            self.open(place)

    def find(self, testid: str) -> Any:
        return self.until(lambda: next((e for e in self.all(testid) if e.is_displayed()), None))

    def all(self, testid: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", f'[data-testid="{testid}"]'))

    def until(self, condition: Any) -> Any:
        return WebDriverWait(self.driver, PATIENCE_S, 0.05, [StaleElementReferenceException]).until(
            lambda _: condition()
        )

    def until_text(self, testid: str, text: str) -> None:
        self.until(lambda: text in self.find(testid).text)

    def say(self, text: str, composer: str = "composer") -> None:
        self.find(composer).send_keys(text, Keys.ENTER)

    def hover(self, testid: str) -> Any:
        row = self.find(testid)
        ActionChains(self.driver).move_to_element(row).perform()
        return row

    def inside(self, row: Any, testid: str) -> Any:
        return row.find_element("css selector", f'[data-testid="{testid}"]')

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_async_script(f"const done = arguments[arguments.length - 1]; {script}", *arguments)


@pytest.fixture(scope="module")
def page(slack: Any, heard: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    with closing(_Quitting(driver)):
        yield Page(driver, slack.url)


class _Quitting:
    def __init__(self, driver: Any) -> None:
        self.close = driver.quit


def test_the_first_visit_offers_three_steps_and_writes_the_question(page: Page, slack: Any) -> None:
    page.open("U0ASHA/C0SUPPORT")

    page.find("guide-ask").click()

    page.until(lambda: page.find("composer").get_attribute("value") == "@Evenkeel How do I reset my password?")
    assert page.driver.current_url.endswith("#U0MIA/C0SUPPORT")
    assert page.find("user-switch-U0MIA").get_attribute("aria-checked") == "true"


def test_the_second_step_leads_the_agent_to_the_answer_in_its_thread(page: Page, slack: Any) -> None:
    ts = slack.say("U0MIA", "C0SUPPORT", "@Evenkeel How do I reset my password?")
    answer = _post(slack, channel="C0SUPPORT", text="Open the settings.", thread_ts=ts)
    page.open(f"U0MIA/C0SUPPORT/{ts}")

    page.find("guide-rate").click()

    page.until(lambda: page.driver.current_url.endswith(f"#U0ASHA/C0SUPPORT/{ts}"))
    page.until(lambda: page.driver.switch_to.active_element.get_attribute("data-testid") == f"message-{answer}")


def test_a_message_appears_on_the_page_of_somebody_else(page: Page, slack: Any, heard: list[str]) -> None:
    page.open("U0MIA/C0GENERAL")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("window")
    page.open("U0ASHA/C0GENERAL")
    second = page.driver.current_window_handle
    page.driver.switch_to.window(first)

    page.say("Hello @Asha, *all* good?")

    page.driver.switch_to.window(second)
    page.until_text("messages", "Hello @Asha, all good?")
    page.driver.close()
    page.driver.switch_to.window(first)
    assert "Hello <@U0ASHA>, *all* good?" in heard


def test_switching_the_person_keeps_the_place(page: Page) -> None:
    page.open("U0MIA/C0GENERAL")

    page.find("user-switch-U0TOM").click()

    page.until(lambda: page.driver.current_url.endswith("#U0TOM/C0GENERAL"))
    page.until(lambda: page.find("user-switch-U0TOM").get_attribute("aria-checked") == "true")


def test_a_reaction_is_added_by_the_picker_and_taken_back_by_its_pill(page: Page, slack: Any) -> None:
    ts = slack.say("U0MIA", "C0GENERAL", "Please rate this")
    page.open("U0ASHA/C0GENERAL")
    page.inside(page.hover(f"message-{ts}"), "react-button").click()

    page.find("emoji-+1").click()

    page.until(lambda: page.find("reaction-+1").get_attribute("aria-pressed") == "true")
    assert _message(slack, "C0GENERAL", ts)["reactions"] == [{"name": "+1", "users": ["U0ASHA"], "count": 1}]
    page.find("reaction-+1").click()
    page.until(lambda: not page.all("reaction-+1"))
    assert not _message(slack, "C0GENERAL", ts).get("reactions")


def test_a_reply_goes_to_the_thread_and_not_to_the_channel(page: Page, slack: Any) -> None:
    ts = slack.say("U0JONAS", "C0GENERAL", "A question with a thread")
    page.open("U0TOM/C0GENERAL")
    page.inside(page.hover(f"message-{ts}"), "reply-button").click()

    page.say("An answer in it", "thread-composer")

    page.until_text("thread-messages", "An answer in it")
    page.until_text(f"replies-{ts}", "1 reply")
    assert "An answer in it" not in page.find("messages").text
    assert [m["text"] for m in slack.messages("C0GENERAL", ts)][-1] == "An answer in it"
    assert page.driver.current_url.endswith(f"#U0TOM/C0GENERAL/{ts}")


def test_a_permalink_of_a_reply_opens_its_thread(page: Page, slack: Any) -> None:
    ts = slack.say("U0JONAS", "C0GENERAL", "The parent")
    reply = slack.say("U0TOM", "C0GENERAL", "The linked reply", ts)

    page.driver.get(f"{page.url}/archives/C0GENERAL/p{reply.replace('.', '')}")

    page.until_text("thread-messages", "The linked reply")
    assert page.driver.current_url.endswith(f"/C0GENERAL/{ts}")


def test_a_slash_command_is_completed_and_its_answer_is_seen_by_its_author_only(page: Page, heard: list[str]) -> None:
    page.open("U0INES/C0OPS")
    page.find("composer").send_keys("/retr")
    page.find("complete-retrain")
    page.find("composer").send_keys(Keys.TAB, "lr=1e-3", Keys.ENTER)

    page.until_text("messages", "Run 1 is requested.")

    assert "Only visible to you" in page.find("messages").text
    assert "/retrain lr=1e-3 by U0INES" in heard
    page.open("U0MIA/C0OPS")
    assert "Run 1 is requested." not in page.find("messages").text


def test_an_unknown_command_is_not_lost_and_names_the_known_ones(page: Page) -> None:
    page.open("U0INES/C0OPS")

    page.say("/nonsense now")

    page.until_text("toast", "/nonsense is not a command here")
    assert page.find("composer").get_attribute("value") == "/nonsense now"


def test_a_modal_opens_shows_errors_at_the_field_and_is_submitted(page: Page, slack: Any, heard: list[str]) -> None:
    button = {"type": "button", "action_id": "correct", "text": {"type": "plain_text", "text": "Write a better answer"}}
    blocks = [{"type": "actions", "block_id": "acts", "elements": [button]}]
    ts = _post(slack, channel="C0SUPPORT", text="An answer", blocks=blocks)
    page.open("U0ASHA/C0SUPPORT")
    page.inside(page.find(f"message-{ts}"), "action-correct").click()
    assert page.find("input-text").get_attribute("value") == "Click it"

    page.find("modal-submit").click()
    page.until_text("modal", "Say please.")
    page.find("input-text").send_keys(", please")
    page.find("modal-submit").click()

    page.until(lambda: not page.all("modal"))
    page.until(lambda: "Click it, please" in heard)


def test_a_shortcut_opens_a_form_whose_inputs_survive_an_update(page: Page, slack: Any, heard: list[Any]) -> None:
    ts = slack.say("U0TOM", "C0GENERAL", "Restart the router, then it works.")
    page.open("U0ASHA/C0GENERAL")
    page.inside(page.hover(f"message-{ts}"), "more-button").click()
    page.find("shortcut-teach").click()
    page.find("input-lr").clear()
    page.find("input-lr").send_keys("2e-3")
    page.find("input-epochs").send_keys("2")
    for choice in ("choice-16", "choice-tickets"):
        page.find(choice).click()
    page.find("input-recipe").send_keys("full")

    page.find("action-estimate").click()
    page.until_text("confirm", "It takes a moment.")
    page.find("confirm-yes").click()

    page.until_text("modal", "7 minutes")
    values = heard[-1]
    assert (values["lr"]["lr"]["value"], values["epochs"]["epochs"]["value"]) == ("2e-3", "2")
    assert values["rank"]["rank"]["selected_option"]["value"] == "16"
    assert [each["value"] for each in values["source"]["source"]["selected_options"]] == ["tickets"]
    assert values["recipe"]["recipe"]["selected_option"]["value"] == "full"
    assert [page.find(f"input-{name}").get_attribute("value") for name in ("lr", "epochs", "recipe")] == [
        "2e-3",
        "2",
        "1",
    ]
    assert page.find("choice-16").is_selected() and page.find("choice-tickets").is_selected()
    page.find("modal-cancel").click()


def test_stop_is_there_while_the_bot_works_and_reaches_it(page: Page, slack: Any, heard: list[Any]) -> None:
    root = slack.say("U0MIA", "C0GENERAL", "A long story, please")
    client = WebClient(slack.bot_token, base_url=slack.api_url)
    page.open(f"U0MIA/C0GENERAL/{root}")
    stream = client.chat_startStream(channel="C0GENERAL", thread_ts=root, markdown_text="Once", recipient_user_id="U0MIA",
                                     recipient_team_id="T0DEMO")  # fmt: skip

    page.find("stop").click()

    page.until(lambda: f"stopped {[stream['ts']]} by U0MIA" in heard)
    page.until(lambda: not [each for each in page.all("stop") if each.is_displayed()])
    client.agents_sessions_setStatus(channel_id="C0GENERAL", thread_ts=root, status="suspended")
    page.until_text("session", "a person takes over here")


def test_ones_own_message_is_changed_and_deleted_and_no_other(page: Page, slack: Any) -> None:
    mine = slack.say("U0JONAS", "C0GENERAL", "Please <!subteam^S0AGENTS> look")
    other = slack.say("U0TOM", "C0GENERAL", "I do")
    page.open("U0JONAS/C0GENERAL")
    page.until_text(f"message-{mine}", "Please @agents look")
    page.inside(page.hover(f"message-{mine}"), "more-button").click()
    page.find("edit-message").click()
    assert page.find("edit-text").get_attribute("value") == "Please @agents look"

    page.find("edit-text").send_keys(" <here>", Keys.ENTER)

    page.until_text(f"message-{mine}", "Please @agents look <here> (edited)")
    assert _message(slack, "C0GENERAL", mine)["text"] == "Please <!subteam^S0AGENTS> look &lt;here&gt;"
    page.inside(page.hover(f"message-{other}"), "more-button").click()
    assert page.find("copy-link") and not page.all("edit-message")
    page.find("messages").send_keys(Keys.ESCAPE)
    page.inside(page.hover(f"message-{mine}"), "more-button").click()
    page.find("delete-message").click()
    page.find("confirm-yes").click()
    page.until(lambda: not page.all(f"message-{mine}"))
    assert mine not in [message["ts"] for message in slack.messages("C0GENERAL")]


def test_the_app_home_shows_the_published_view_and_its_buttons_work(page: Page, heard: list[str]) -> None:
    page.open("U0INES/C0OPS")
    page.find("home").click()

    page.find("action-status").click()

    page.until(lambda: "status by U0INES" in heard)


def test_the_direct_message_with_the_bot_opens_and_stays_with_its_person(
    page: Page, slack: Any, heard: list[str]
) -> None:
    channel = slack.dm("U0JONAS")
    page.open("U0JONAS/C0SUPPORT")
    page.find(f"channel-{channel}").click()
    page.say("Just between us")
    page.until_text("messages", "Just between us")

    page.find("user-switch-U0MIA").click()

    page.until(lambda: page.find("user-switch-U0MIA").get_attribute("aria-checked") == "true")
    page.until(lambda: f"#U0MIA/{slack.dm('U0MIA')}" in page.driver.current_url)
    assert "Just between us" not in page.find("messages").text


HOSTILE = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<javascript:window.hit=1|click me>",
    "<data:text/html,<script>window.hit=1</script>|page>",
    "[click](javascript:window.hit=1)",
    '<https://evil.example/"onmouseover="window.hit=1|good>',
    '<!channel> <!everyone> <!subteam^S1|"><svg onload=window.hit=1>>',
    "`<b>` ```<script>window.hit=1</script>``` &lt;script&gt;window.hit=1&lt;/script&gt;",
    ">" * 3000,
    "*" * 3000 + "_~" * 2000 + "`" * 1001,
)


@pytest.mark.parametrize("kind", ["text", "mrkdwn", "markdown", "rich_text", "table"])
def test_hostile_text_is_only_ever_text(page: Page, slack: Any, kind: str) -> None:
    page.stay("U0MIA/C0GENERAL")
    before = len(page.driver.find_elements("css selector", "article.message"))
    for text in HOSTILE:
        _post(slack, channel="C0GENERAL", text=text, blocks=_as_blocks(kind, text))

    page.until(lambda: len(page.driver.find_elements("css selector", "article.message")) >= before + len(HOSTILE))

    assert page.driver.execute_script("return window.hit") is None
    links = [a.get_attribute("href") for a in page.driver.find_elements("css selector", ".messages a, .scroll a")]
    assert all(href.startswith(("http://", "https://", "mailto:")) for href in links)
    assert not page.driver.find_elements(
        "css selector", ".scroll script, .scroll iframe, .scroll [onload], .scroll [onerror]"
    )
    assert not page.driver.find_elements("css selector", ".scroll img[src='x']")


def _as_blocks(kind: str, text: str) -> list[dict[str, Any]] | None:
    short = text[:2900]
    rich = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [
        {"type": "text", "text": short}, {"type": "link", "url": "javascript:window.hit=1", "text": "click"}]}]}  # fmt: skip
    return {
        "text": None,
        "mrkdwn": [{"type": "section", "text": {"type": "mrkdwn", "text": short}}],
        "markdown": [{"type": "markdown", "text": short}],
        "rich_text": [rich],
        "table": [
            {"type": "table", "rows": [[{"type": "raw_text", "text": "head"}], [{"type": "raw_text", "text": short}]]}
        ],
    }[kind]


RENDERED = {
    "*bold* _it_ ~gone~ `a*b*`": "<p><strong>bold</strong> <em>it</em> <s>gone</s> <code>a*b*</code></p>",
    "snake_case_name 2*3*4": "<p>snake_case_name 2*3*4</p>",
    "• one\n• two": "<ul><li>one</li><li>two</li></ul>",
    "&gt; said\nnot said": "<blockquote><p>said</p></blockquote><p>not said</p>",
    "```a\n  b &lt;c&gt;```": '<pre class="fence"><code>a\n  b &lt;c&gt;</code></pre>',
    "fish &amp; chips &lt;3": "<p>fish &amp; chips &lt;3</p>",
    "<@U0MIA> in <#C0OPS>": '<p><span class="chip chip-me">@Mia</span> in <button type="button" class="chip">#ops</button></p>',
    "at 12:30:45 :no_such_thing:": "<p>at 12:30:45 :no_such_thing:</p>",
    "<mailto:a@b.example|write>": "<p><a>write</a></p>",
}


@pytest.mark.parametrize("text", RENDERED)
def test_mrkdwn_is_rendered_as_slack_does(page: Page, text: str) -> None:
    page.stay("U0MIA/C0GENERAL")

    html = page.run(
        """import("/static/text.js").then(({ mrkdwn }) => {
          const box = document.createElement("div");
          box.append(...mrkdwn(arguments[0]));
          for (const a of box.querySelectorAll("a")) for (const name of a.getAttributeNames()) a.removeAttribute(name);
          done(box.innerHTML);
        }, done)""",
        text,
    )

    assert html == RENDERED[text]


def test_what_is_typed_is_escaped_and_names_become_references(page: Page) -> None:
    page.stay("U0MIA/C0GENERAL")

    sent = page.run(
        'import("/static/text.js").then(({ outgoing }) => done(outgoing(arguments[0])), done)',
        "@Evenkeel is <!channel> & #ops @nobody me@asha.example",
    )

    assert sent == "<@U0EVENKEEL> is &lt;!channel&gt; &amp; <#C0OPS|ops> @nobody me@asha.example"


def test_the_page_says_nothing_bad_in_the_console_and_loads_nothing_foreign(page: Page, slack: Any) -> None:
    page.open("U0INES/C0SUPPORT")

    errors = [line["message"] for line in page.driver.get_log("browser") if line["level"] == "SEVERE"]
    loaded = page.driver.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")

    assert errors == []
    assert all(name.startswith(slack.url.rstrip("/")) for name in loaded)


def test_an_address_with_an_unknown_person_is_opened_as_somebody_else(page: Page) -> None:
    page.driver.get("about:blank")

    page.driver.get(f"{page.url}/#U0NOBODY/C0GENERAL")

    page.until_text("toast", "Nobody here is called U0NOBODY.")
    page.until(lambda: page.driver.current_url.endswith("#U0MIA/C0GENERAL"))


def test_no_file_of_the_page_asks_for_anything_from_elsewhere_or_turns_text_into_markup() -> None:
    folder = Path(__file__).parents[2] / "bot" / "workspace" / "static"
    scripts = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.js")}

    assert scripts
    for name, text in scripts.items():
        assert not any(
            sink in text for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        ), name
        assert "https://" not in text.replace("https?://", "").replace("https?:\\/\\/", ""), name


def _post(slack: Any, **message: Any) -> str:
    reply = WebClient(slack.bot_token, base_url=slack.api_url).chat_postMessage(
        **{k: v for k, v in message.items() if v is not None}
    )
    return str(reply["ts"])


def _message(slack: Any, channel: str, ts: str) -> dict[str, Any]:
    return next(message for message in slack.messages(channel) if message["ts"] == ts)
