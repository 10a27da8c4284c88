"""auth.*, conversations.*, users.* and usergroups.*: who is here and what was said."""

from bot.workspace import seed
from bot.workspace.api import Api, Method, flag, missing, need, page, readable
from bot.workspace.events import shown
from bot.workspace.records import Channel, Json, User, Usergroup
from bot.workspace.refused import Refused


def auth_test(api: Api, given: Json) -> Json:
    me = api.world.users[api.me]
    return {
        "url": api.url,
        "team": seed.TEAM_NAME,
        "user": me.name,
        "team_id": seed.TEAM,
        "user_id": me.id,
        "bot_id": api.world.app.bot_id,
        "is_enterprise_install": False,
    }


def api_test(api: Api, given: Json) -> Json:
    if given.get("error"):
        raise Refused(str(given["error"]), args=given)
    return {"args": given}


def open_connection(api: Api, given: Json) -> Json:
    return {"url": api.socket_url()}


# Conversations


def open_conversation(api: Api, given: Json) -> Json:
    if given.get("channel"):
        channel = readable(api, given)
    else:
        users = given.get("users")
        names = [str(user) for user in users] if isinstance(users, list) else need(given, "users").split(",")
        if len(names) != 1:
            raise Refused("method_not_supported_for_channel_type")
        channel = api.world.dm(names[0].strip(), api.me)
    return {"channel": _channel(api, channel) if flag(given, "return_im") else {"id": channel.id}}


def conversation(api: Api, given: Json) -> Json:
    return {"channel": _channel(api, api.world.channel(need(given, "channel")))}


def conversations(api: Api, given: Json) -> Json:
    kinds = {kind.strip() for kind in str(given.get("types") or "public_channel").split(",")}
    wanted = {"channel": "public_channel" in kinds, "im": "im" in kinds}
    visible = [c for c in api.world.channels.values() if c.kind == "channel" or api.me in c.members]
    return _listed(api, given, [c for c in visible if wanted[c.kind]])


def conversations_of(api: Api, given: Json) -> Json:
    """Those of the app or, with `user`, those that both are in."""
    kinds = {kind.strip() for kind in str(given.get("types") or "public_channel").split(",")}
    wanted = {"channel": "public_channel" in kinds, "im": "im" in kinds}
    both = {api.me, api.world.user(str(given.get("user") or api.me)).id}
    return _listed(api, given, [c for c in api.world.channels.values() if wanted[c.kind] and both <= {*c.members}])


def _listed(api: Api, given: Json, found_there: list[Channel]) -> Json:
    chosen = [c for c in found_there if not (c.is_archived and flag(given, "exclude_archived"))]
    found, about = page([_channel(api, channel) for channel in chosen], given, usual=100)
    return {"channels": found, "response_metadata": about["response_metadata"]}


def members(api: Api, given: Json) -> Json:
    found, about = page(api.world.channel(need(given, "channel")).members, given, usual=100)
    return {"members": found, "response_metadata": about["response_metadata"]}


def history(api: Api, given: Json) -> Json:
    channel = readable(api, given)
    said = [m for m in api.world.messages[channel.id].values() if _stands_in_channel(m)]
    found, about = page(_between(said, given)[::-1], given, usual=100)
    return {"messages": [_read(message, given) for message in found], **about, "pin_count": 0}


def replies(api: Api, given: Json) -> Json:
    channel, ts = readable(api, given), need(given, "ts")
    parent, *rest = api.world.thread(channel.id, ts)
    found, about = page([parent, *_between(rest, given)], given, usual=1_000)
    return {"messages": [_read(message, given) for message in found], **about}


def _stands_in_channel(message: Json) -> bool:
    return message.get("thread_ts") in (None, message["ts"]) or message.get("subtype") == "thread_broadcast"


def _between(messages: list[Json], given: Json) -> list[Json]:
    """Those after `oldest` and before `latest`, the ends included only where `inclusive` says so."""
    try:
        oldest, latest = float(given.get("oldest") or 0), float(given.get("latest") or "inf")
    except ValueError:
        raise Refused("invalid_ts_oldest") from None
    ends = flag(given, "inclusive")
    at = ((float(message["ts"]), message) for message in messages)
    return [message for ts, message in at if oldest < ts < latest or (ends and ts in (oldest, latest))]


def _read(message: Json, given: Json) -> Json:
    return shown(message, with_metadata=flag(given, "include_all_metadata"))


def _channel(api: Api, channel: Channel) -> Json:
    direct = channel.kind == "im"
    strangers = any(api.world.users[member].team_id != seed.TEAM for member in channel.members)
    shared: Json = {
        "id": channel.id,
        "is_ext_shared": strangers,
        "is_shared": strangers,
        "is_im": direct,
        "is_channel": not direct,
        "is_group": False,
        "is_mpim": False,
        "is_private": direct,
        "is_archived": channel.is_archived,
        "context_team_id": seed.TEAM,
    }
    if direct:
        return {**shared, "user": next((m for m in channel.members if m != api.me), api.me), "is_open": True}
    topic = {"value": channel.topic, "creator": "", "last_set": 0}
    known = {"is_member": api.me in channel.members, "num_members": len(channel.members)}
    return {**shared, "name": channel.name, "name_normalized": channel.name, "topic": topic, **known}


# People


def user_info(api: Api, given: Json) -> Json:
    return {"user": _user(api, api.world.user(need(given, "user")))}


def users_list(api: Api, given: Json) -> Json:
    found, about = page([_user(api, user) for user in api.world.users.values()], given, usual=200)
    return {"members": found, "cache_ts": int(api.world.now()), "response_metadata": about["response_metadata"]}


def _user(api: Api, user: User) -> Json:
    profile: Json = {"real_name": user.real_name, "display_name": user.name, "team": user.team_id}
    if user.bot_id:
        profile |= {"bot_id": user.bot_id, "api_app_id": f"A{user.bot_id[1:]}"}
    return {
        "id": user.id,
        "team_id": user.team_id,
        "name": user.name,
        "real_name": user.real_name,
        "deleted": user.deleted,
        "is_bot": user.is_bot,
        "is_app_user": False,
        "is_admin": user.is_admin,
        "is_owner": False,
        "is_restricted": user.is_restricted,
        "is_ultra_restricted": user.is_ultra_restricted,
        "is_stranger": user.is_stranger,
        "tz": "UTC",
        "tz_offset": 0,
        "profile": profile,
    }


def usergroups(api: Api, given: Json) -> Json:
    with_users = flag(given, "include_users")
    return {"usergroups": [_usergroup(group, with_users) for group in api.world.usergroups.values()]}


def usergroup_users(api: Api, given: Json) -> Json:
    group = api.world.usergroups.get(str(given.get("usergroup") or ""))
    if not given.get("usergroup"):
        raise missing("usergroup")
    if group is None:
        raise Refused("no_such_subteam")
    return {"users": list(group.users)}


def _usergroup(group: Usergroup, with_users: bool) -> Json:
    whole: Json = {"id": group.id, "team_id": seed.TEAM, "is_usergroup": True, "name": group.name}
    whole |= {"handle": group.handle, "date_delete": 0, "user_count": len(group.users)}
    return {**whole, "users": list(group.users)} if with_users else whole


METHODS: dict[str, Method] = {
    "auth.test": auth_test,
    "api.test": api_test,
    "apps.connections.open": open_connection,
    "conversations.open": open_conversation,
    "conversations.info": conversation,
    "conversations.list": conversations,
    "conversations.members": members,
    "conversations.history": history,
    "conversations.replies": replies,
    "users.info": user_info,
    "users.list": users_list,
    "users.conversations": conversations_of,
    "usergroups.list": usergroups,
    "usergroups.users.list": usergroup_users,
}
