"""The Web API as slack_sdk uses it: answers, limits and the real error codes."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.workspace.running import Driver, running_workspace
from tests.workspace.conftest import OPS, SUPPORT, client_of, refusal

ME = "U0EVENKEEL"


@pytest.fixture(scope="module")
def slack() -> Iterator[Driver]:
    with running_workspace() as running:
        yield running


@pytest.fixture(scope="module")
def client(slack: Driver) -> WebClient:
    return client_of(slack)


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def button(**more: Any) -> dict[str, Any]:
    return {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Go"}, **more}]}


def in_channel(slack: Driver, ts: str) -> dict[str, Any]:
    return next(message for message in slack.messages(SUPPORT) if message["ts"] == ts)


# Who asks, and how


@pytest.mark.parametrize(
    ("token", "code"),
    [("", "not_authed"), ("xoxb-other", "invalid_auth"), ("xapp-local-workspace", "not_allowed_token_type")],
)
def test_a_wrong_token_is_refused(slack: Driver, token: str, code: str) -> None:
    assert refusal(WebClient(token, base_url=slack.api_url).auth_test) == code


def test_a_bot_token_opens_no_socket(slack: Driver, client: WebClient) -> None:
    assert refusal(lambda: client.apps_connections_open(app_token=slack.bot_token)) == "not_allowed_token_type"


def test_the_bot_learns_who_it_is(client: WebClient) -> None:
    reply = client.auth_test()

    assert (reply["team_id"], reply["user_id"], reply["bot_id"]) == ("T0DEMO", ME, "B0EVENKEEL")


def test_an_unknown_method_is_named_so(client: WebClient) -> None:
    assert refusal(lambda: client.api_call("chat.telepathy")) == "unknown_method"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(slack: Driver, body: bytes) -> None:
    assert _post(slack, "auth.test", body, "application/json")["error"] in ("invalid_json", "json_not_object")


def test_a_form_is_read_like_json_with_the_token_inside(slack: Driver) -> None:
    fields = {"token": slack.bot_token, "channel": SUPPORT, "text": "by form", "blocks": json.dumps([section("x")])}

    reply = _post(
        slack, "chat.postMessage", urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded"
    )

    assert reply["ok"] and in_channel(slack, reply["ts"])["blocks"][0]["text"]["text"] == "x"
    assert "token" not in slack.journal[-1]["args"]


def test_blocks_that_are_no_json_are_refused(slack: Driver) -> None:
    fields = urllib.parse.urlencode({"token": slack.bot_token, "channel": SUPPORT, "blocks": "[{"}).encode()

    reply = _post(slack, "chat.postMessage", fields, "application/x-www-form-urlencoded")

    assert reply["error"] == "invalid_blocks_format"


def _post(slack: Driver, method: str, body: bytes, kind: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{slack.api_url}{method}", data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=5) as response:
        found: dict[str, Any] = json.load(response)
        return found


# Messages


def test_a_message_is_posted_changed_and_deleted(slack: Driver, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="first")["ts"]
    assert in_channel(slack, ts)["text"] == "first" and in_channel(slack, ts)["bot_id"] == "B0EVENKEEL"

    client.chat_update(channel=SUPPORT, ts=ts, text="second")
    assert in_channel(slack, ts)["text"] == "second" and in_channel(slack, ts)["edited"]["user"] == ME

    client.chat_delete(channel=SUPPORT, ts=ts)
    assert ts not in [message["ts"] for message in slack.messages(SUPPORT)]
    assert refusal(lambda: client.chat_update(channel=SUPPORT, ts=ts, text="third")) == "message_not_found"


def test_an_update_with_blocks_is_not_marked_as_edited(slack: Driver, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="wait", blocks=[section("wait")])["ts"]

    client.chat_update(channel=SUPPORT, ts=ts, text="done", blocks=[section("done")])

    assert "edited" not in in_channel(slack, ts) and in_channel(slack, ts)["blocks"][0]["text"]["text"] == "done"


def test_only_own_messages_are_changed_and_deleted(slack: Driver, client: WebClient) -> None:
    ts = slack.say("U0MIA", SUPPORT, "mine")

    assert refusal(lambda: client.chat_update(channel=SUPPORT, ts=ts, text="yours")) == "cant_update_message"
    assert refusal(lambda: client.chat_delete(channel=SUPPORT, ts=ts)) == "cant_delete_message"


def test_a_deleted_parent_leaves_a_tombstone_over_its_replies(slack: Driver, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="parent")["ts"]
    slack.say("U0MIA", SUPPORT, "reply", thread_ts=ts)

    client.chat_delete(channel=SUPPORT, ts=ts)

    assert [m.get("subtype") for m in slack.messages(SUPPORT, ts)] == ["tombstone", None]
    assert refusal(lambda: client.chat_update(channel=SUPPORT, ts=ts, text="back")) == "message_not_found"


TEXT_LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"text": ""}, "no_text"),
    ({"markdown_text": "x" * 12_001}, "msg_too_long"),
    ({"markdown_text": "x", "text": "y"}, "markdown_text_conflict"),
    ({"text": "x", "blocks": [section("x")] * 51}, "invalid_blocks"),
    ({"text": "x", "blocks": [section("x" * 3_001)]}, "invalid_blocks"),
    ({"text": "x", "blocks": [section("")]}, "invalid_blocks"),
    ({"text": "x", "blocks": [{"type": "hologram"}]}, "invalid_blocks"),
    ({"text": "x", "blocks": {"type": "section"}}, "invalid_blocks_format"),
    ({"text": "x", "blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, "invalid_blocks"),
    (
        {"text": "x", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]},
        "invalid_blocks",
    ),
    ({"text": "x", "blocks": [button(value="x" * 2_001)]}, "invalid_blocks"),
    ({"text": "x", "blocks": [button(action_id="x" * 256)]}, "invalid_blocks"),
    ({"text": "x", "blocks": [{**section("x"), "block_id": "a"}] * 2}, "invalid_blocks"),
    ({"text": "x", "blocks": [{"type": "actions", "elements": []}]}, "invalid_blocks"),
    ({"text": "x", "blocks": [{"type": "markdown", "text": "x" * 6_001}] * 2}, "msg_blocks_too_long"),
    (
        {"text": "x", "blocks": [{"type": "table", "rows": [[{"type": "raw_text", "text": "x"}]] * 101}]},
        "invalid_blocks",
    ),
    ({"text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_format"),
    ({"text": "x", "metadata": {"event_type": "x", "event_payload": {"x": "y" * 8_000}}}, "metadata_too_large"),
    ({"text": "x", "thread_ts": "1.000001"}, "thread_not_found"),
]


@pytest.mark.parametrize(("content", "code"), TEXT_LIMITS)
def test_what_is_too_much_or_malformed_is_refused_and_not_posted(
    slack: Driver, client: WebClient, content: dict[str, Any], code: str
) -> None:
    before = len(slack.messages(OPS))

    assert refusal(lambda: client.api_call("chat.postMessage", json={"channel": OPS, **content})) == code
    assert len(slack.messages(OPS)) == before


def test_what_just_fits_is_taken(slack: Driver, client: WebClient) -> None:
    blocks = [section("x" * 3_000)] * 49 + [{"type": "markdown", "text": "y" * 12_000}]

    ts = client.chat_postMessage(channel=SUPPORT, text="z" * 40_001, blocks=blocks)["ts"]
    client.chat_update(channel=SUPPORT, ts=ts, text="z" * 4_000, blocks=blocks)

    assert refusal(lambda: client.chat_update(channel=SUPPORT, ts=ts, text="z" * 4_001)) == "msg_too_long"
    assert len(in_channel(slack, ts)["text"]) == 4_000 and len(in_channel(slack, ts)["blocks"]) == 50


def test_a_long_text_is_cut_at_forty_thousand(slack: Driver, client: WebClient) -> None:
    ts = client.chat_postMessage(channel=SUPPORT, text="z" * 50_000)["ts"]

    assert len(in_channel(slack, ts)["text"]) == 40_000


def test_the_reason_of_invalid_blocks_points_at_the_place(client: WebClient) -> None:
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel=SUPPORT, text="x", blocks=[section("fine"), section("x" * 3_001)])

    assert "/blocks/1/text/text" in caught.value.response["response_metadata"]["messages"][0]


def test_a_private_note_is_seen_by_one(slack: Driver, client: WebClient) -> None:
    client.chat_postEphemeral(channel=SUPPORT, user="U0TOM", text="psst")

    assert [note["text"] for note in slack.ephemerals("U0TOM")] == ["psst"] and not slack.ephemerals("U0JONAS")
    code = refusal(lambda: client.chat_postEphemeral(channel=slack.dm("U0TOM"), user="U0MIA", text="psst"))
    assert code == "user_not_in_channel"


def test_a_private_note_in_a_thread_is_shown_only_where_there_are_replies(slack: Driver, client: WebClient) -> None:
    ts = slack.say("U0TOM", SUPPORT, "hello")
    before = len(slack.ephemerals("U0TOM"))
    note = {"channel": SUPPORT, "user": "U0TOM", "thread_ts": ts}
    assert client.chat_postEphemeral(text="unseen", **note)["message_ts"]
    slack.say("U0MIA", SUPPORT, "hello Tom", thread_ts=ts)
    client.chat_postEphemeral(text="seen", **note)

    assert [each["text"] for each in slack.ephemerals("U0TOM")[before:]] == ["seen"]


@pytest.mark.parametrize("channel", ["C0NOWHERE", "D0TOM"])
def test_a_channel_that_is_not_there_is_refused(client: WebClient, channel: str) -> None:
    for call in (client.conversations_history, client.conversations_info):
        assert refusal(lambda call=call: call(channel=channel if channel[0] == "C" else "D0X")) == "channel_not_found"


def test_archived_and_foreign_channels_take_nothing() -> None:
    with running_workspace() as slack:
        client = client_of(slack)
        slack.archive(OPS)
        slack.set_members("C0GENERAL", "U0MIA")

        assert refusal(lambda: client.chat_postMessage(channel=OPS, text="x")) == "is_archived"
        assert refusal(lambda: client.chat_postMessage(channel="C0GENERAL", text="x")) == "not_in_channel"
        assert refusal(lambda: client.conversations_replies(channel="C0GENERAL", ts="1.0")) == "not_in_channel"
        slack.set_user("U0TOM", is_stranger=True, deleted=True)
        user = client.users_info(user="U0TOM")["user"]
        assert user["is_stranger"] and user["deleted"] and not user["is_restricted"]


# Reading back


def test_metadata_comes_back_only_when_it_is_asked_for(client: WebClient) -> None:
    mark = {"event_type": "answer", "event_payload": {"n": 1}}
    ts = client.chat_postMessage(channel=SUPPORT, text="x", metadata=mark)["ts"]

    without = client.conversations_replies(channel=SUPPORT, ts=ts)["messages"][0]
    with_it = client.conversations_replies(channel=SUPPORT, ts=ts, include_all_metadata=True)["messages"][0]

    assert "metadata" not in without and with_it["metadata"] == mark


def test_a_thread_is_read_page_by_page_with_its_parent_first(slack: Driver, client: WebClient) -> None:
    root = slack.say("U0MIA", SUPPORT, "root")
    sent = [slack.say("U0TOM", SUPPORT, f"{n}", thread_ts=root) for n in range(5)]

    pages = [page["messages"] for page in client.conversations_replies(channel=SUPPORT, ts=root, limit=2)]
    later = client.conversations_replies(channel=SUPPORT, ts=root, oldest=sent[2])["messages"]

    assert [m["ts"] for page in pages for m in page] == [root, *sent] and [len(page) for page in pages] == [2, 2, 2]
    assert [m["ts"] for m in later] == [root, *sent[3:]] and later[0]["reply_count"] == 5
    assert refusal(lambda: client.conversations_replies(channel=SUPPORT, ts="1.000001")) == "thread_not_found"
    bad = refusal(lambda: client.conversations_replies(channel=SUPPORT, ts=root, cursor="?"))
    assert bad == "invalid_cursor"


def test_history_is_newest_first_and_without_replies(slack: Driver, client: WebClient) -> None:
    first = slack.say("U0MIA", "C0GENERAL", "first")
    slack.say("U0MIA", "C0GENERAL", "a reply", thread_ts=first)
    second = slack.say("U0MIA", "C0GENERAL", "second")

    found = client.conversations_history(channel="C0GENERAL", oldest=first, inclusive=True)["messages"]

    assert [m["ts"] for m in found] == [second, first]
    assert [m["ts"] for m in client.conversations_history(channel="C0GENERAL", oldest=first)["messages"]] == [second]


def test_a_direct_message_is_opened_by_user_and_found_in_the_list(slack: Driver, client: WebClient) -> None:
    channel = client.conversations_open(users="U0ASHA")["channel"]["id"]
    posted = client.chat_postMessage(channel="U0ASHA", text="hello")

    assert channel == slack.dm("U0ASHA") == posted["channel"]
    listed = client.conversations_list(types="public_channel,im")["channels"]
    assert {c["id"] for c in listed} >= {SUPPORT, OPS, "C0GENERAL", channel}
    assert client.conversations_info(channel=channel)["channel"]["user"] == "U0ASHA"
    assert set(client.conversations_members(channel=channel)["members"]) == {"U0ASHA", ME}


def test_people_and_their_groups_are_listed(client: WebClient) -> None:
    assert client.users_info(user="U0INES")["user"]["is_admin"] is True
    assert client.users_info(user=ME)["user"]["is_bot"] is True
    assert refusal(lambda: client.users_info(user="U0NOBODY")) == "user_not_found"
    assert len(client.users_list()["members"]) == 7
    assert client.usergroups_users_list(usergroup="S0AGENTS")["users"] == ["U0ASHA", "U0TOM"]
    assert refusal(lambda: client.usergroups_users_list(usergroup="S0NONE")) == "no_such_subteam"
    assert {group["handle"] for group in client.usergroups_list()["usergroups"]} == {"agents", "admins"}


def test_reactions_are_added_once_and_removed_once(slack: Driver, client: WebClient) -> None:
    ts = slack.say("U0MIA", SUPPORT, "rate me")
    at = {"channel": SUPPORT, "timestamp": ts}
    slack.react("U0ASHA", SUPPORT, ts, "+1")

    client.reactions_add(name="+1", **at)
    assert refusal(lambda: client.reactions_add(name="+1", **at)) == "already_reacted"
    assert client.reactions_get(**at)["message"]["reactions"] == [{"name": "+1", "users": ["U0ASHA", ME], "count": 2}]
    client.reactions_remove(name="+1", **at)
    assert refusal(lambda: client.reactions_remove(name="+1", **at)) == "no_reaction"
    assert refusal(lambda: client.reactions_add(name="no such", **at)) == "invalid_name"
    assert refusal(lambda: client.reactions_add(name="x", channel=SUPPORT, timestamp="1.0")) == "message_not_found"


def test_a_permalink_leads_to_the_page_with_the_thread_open(slack: Driver, client: WebClient) -> None:
    ts = slack.say("U0MIA", SUPPORT, "look here")

    link = client.chat_getPermalink(channel=SUPPORT, message_ts=ts)["permalink"]

    with urllib.request.urlopen(link, timeout=5) as page:
        assert page.url.endswith(f"/#/{SUPPORT}/{ts}") and b"Evenkeel Workspace" in page.read()


# Streams, files, the line under a thread


def test_a_stream_grows_and_stops(slack: Driver, client: WebClient) -> None:
    root = slack.say("U0MIA", SUPPORT, "tell me")
    stream = client.chat_stream(
        channel=SUPPORT, thread_ts=root, recipient_user_id="U0MIA", recipient_team_id="T0DEMO", buffer_size=4
    )

    stream.append(markdown_text="Hello ")
    stream.append(markdown_text="**world**")
    assert slack.messages(SUPPORT, root)[-1]["text"].startswith("Hello")
    stream.stop(blocks=[section("below")], metadata={"event_type": "x", "event_payload": {}})

    said = slack.messages(SUPPORT, root)[-1]
    assert said["text"] == "Hello **world**" and [b["type"] for b in said["blocks"]] == ["markdown", "section"]
    code = refusal(lambda: client.chat_appendStream(channel=SUPPORT, ts=said["ts"], markdown_text="more"))
    assert code == "message_not_in_streaming_state"


def test_a_stream_wants_to_know_for_whom_and_has_an_end(slack: Driver, client: WebClient) -> None:
    root = slack.say("U0MIA", SUPPORT, "tell me")
    at = {"channel": SUPPORT, "thread_ts": root}

    assert refusal(lambda: client.chat_startStream(**at)) == "missing_recipient_user_id"
    ts = client.chat_startStream(recipient_user_id="U0MIA", recipient_team_id="T0DEMO", **at)["ts"]
    client.chat_appendStream(channel=SUPPORT, ts=ts, markdown_text="x" * 12_000)
    assert refusal(lambda: client.chat_stopStream(channel=SUPPORT, ts=ts, markdown_text="y")) == "msg_too_long"
    foreign = refusal(lambda: client.chat_appendStream(channel=SUPPORT, ts=root, markdown_text="z"))
    assert foreign == "message_not_owned_by_app"


def test_a_streams_tasks_stand_in_lines_that_change(slack: Driver, client: WebClient) -> None:
    channel = slack.dm("U0MIA")
    root = slack.say("U0MIA", channel, "work")
    task = {"type": "task_update", "id": "1", "title": "Looking", "status": "in_progress"}
    ts = client.chat_startStream(channel=channel, thread_ts=root, chunks=[task])["ts"]

    client.chat_appendStream(channel=channel, ts=ts, chunks=[{**task, "status": "complete"}])
    client.chat_appendStream(channel=channel, ts=ts, chunks=[{"type": "markdown_text", "text": "Found it."}])

    blocks = slack.messages(channel, root)[-1]["blocks"]
    assert [block["type"] for block in blocks] == ["context", "markdown"] and "complete" in str(blocks[0])


def test_a_file_is_uploaded_shown_in_the_thread_and_served_back(slack: Driver, client: WebClient) -> None:
    root = slack.say("U0MIA", SUPPORT, "send me a picture")

    client.files_upload_v2(
        channel=SUPPORT,
        thread_ts=root,
        content=b"\x89PNG picture",
        filename="gain.png",
        title="Gain",
        initial_comment="Here",
    )

    said = slack.messages(SUPPORT, root)[-1]
    assert said["text"] == "Here" and said["files"][0]["title"] == "Gain" and slack.files[-1]["mimetype"] == "image/png"
    with urllib.request.urlopen(said["files"][0]["url"], timeout=5) as response:
        assert response.read() == b"\x89PNG picture" and response.headers["content-type"] == "image/png"


def test_a_file_that_could_be_a_page_is_only_ever_saved(slack: Driver, client: WebClient) -> None:
    client.files_upload_v2(channel=SUPPORT, content="<script>1</script>", filename="../a.html")

    with urllib.request.urlopen(slack.files[-1]["url"], timeout=5) as response:
        assert response.headers["content-disposition"] == "attachment" and "sandbox" in str(response.headers)
    assert slack.files[-1]["name"] == "a.html"
    wrong = [{"id": "F0NONE", "title": "x"}]
    assert refusal(lambda: client.files_completeUploadExternal(files=wrong, channel_id=SUPPORT)) == "file_not_found"


def test_the_status_of_a_thread_goes_when_the_bot_answers(slack: Driver, client: WebClient) -> None:
    channel = slack.dm("U0JONAS")
    root = slack.say("U0JONAS", channel, "hello")
    at = {"channel_id": channel, "thread_ts": root}

    client.assistant_threads_setStatus(status="is thinking…", **at)
    client.assistant_threads_setTitle(title="Greetings", **at)
    client.assistant_threads_setSuggestedPrompts(prompts=[{"title": "Hi", "message": "Hi there"}], **at)
    assert slack.thread(channel, root)["status"] == "is thinking…"
    client.chat_postMessage(channel=channel, thread_ts=root, text="Hello!")

    assert slack.thread(channel, root) == {
        "status": "", "title": "Greetings", "prompts": [{"title": "Hi", "message": "Hi there"}],
    }  # fmt: skip
    client.agents_sessions_setStatus(status="processing", **at)
    assert "working" in slack.thread(channel, root)["status"]
    assert refusal(lambda: client.agents_sessions_setStatus(status="asleep", **at)) == "invalid_status"


# Views without a person who clicked


def test_a_view_needs_a_living_trigger_and_a_whole_shape(client: WebClient) -> None:
    title = {"type": "plain_text", "text": "x"}
    whole = {"type": "modal", "title": title, "blocks": []}

    assert refusal(lambda: client.views_open(trigger_id="1.2.3", view=whole)) == "invalid_trigger_id"
    assert refusal(lambda: client.views_update(view_id="V0", view=whole)) == "not_found"
    asks = {"type": "input", "label": title, "element": {"type": "plain_text_input", "action_id": "a"}}
    for broken in (
        {"type": "home", "blocks": []},
        {"type": "modal", "blocks": []},
        {**whole, "title": {"type": "plain_text", "text": "x" * 25}},
        {**whole, "blocks": [section("x")] * 101},
        {**whole, "private_metadata": "x" * 3_001},
        {**whole, "blocks": [asks]},
    ):
        assert refusal(lambda view=broken: client.views_open(trigger_id="1", view=view)) == "invalid_arguments"


def test_a_home_is_published_and_a_stale_hash_changes_nothing(slack: Driver, client: WebClient) -> None:
    first = client.views_publish(user_id="U0TOM", view={"type": "home", "blocks": [section("one")]})["view"]
    second = client.views_publish(
        user_id="U0TOM", hash=first["hash"], view={"type": "home", "blocks": [section("two")]}
    )

    stale = {"type": "home", "blocks": [section("three")]}
    assert refusal(lambda: client.views_publish(user_id="U0TOM", hash=first["hash"], view=stale)) == "hash_conflict"
    home = slack.home("U0TOM")
    assert home and home["blocks"][0]["text"]["text"] == "two" and home["id"] == second["view"]["id"]
