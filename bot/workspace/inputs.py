"""What stands in the inputs of a view or message: Slack's `state.values`. Pure."""

from bot.workspace.records import Json

HOLDS = {  # an element's kind: where its value stands, and where its first value comes from
    "plain_text_input": ("value", "initial_value"), "email_text_input": ("value", "initial_value"),
    "url_text_input": ("value", "initial_value"), "number_input": ("value", "initial_value"),
    "static_select": ("selected_option", "initial_option"), "radio_buttons": ("selected_option", "initial_option"),
    "checkboxes": ("selected_options", "initial_options"),
    "multi_static_select": ("selected_options", "initial_options"),
    "users_select": ("selected_user", "initial_user"), "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
}  # fmt: skip


def elements(block: Json) -> list[Json]:
    """The elements of a block, wherever they stand in it."""
    found = (*(block.get("elements") or ()), block.get("accessory"), block.get("element"))
    return [each for each in found if isinstance(each, dict)]


def first_values(blocks: list[Json]) -> Json:
    """The values before anybody touched an input."""
    values: Json = {}
    for block in blocks:
        for element in elements(block):
            if element.get("type") in HOLDS and element.get("action_id"):
                name, initial = HOLDS[element["type"]]
                value = element.get(initial, [] if name == "selected_options" else None)
                values.setdefault(block.get("block_id", ""), {})[element["action_id"]] = {
                    "type": element["type"],
                    name: value,
                }
    return values


def carried(blocks: list[Json], before: Json) -> Json:
    """The same, with what was typed before in inputs that are still there: block_id, action_id and type are equal."""
    values = first_values(blocks)
    for block_id, inputs in before.items():
        for action_id, value in inputs.items():
            known = values.get(block_id, {}).get(action_id)
            if known is not None and known["type"] == value.get("type", known["type"]):
                values[block_id][action_id] = known | value
    return values


def merged(known: Json, given: Json) -> Json:
    """`known` with the values that are given now in their place."""
    values = {block_id: dict(inputs) for block_id, inputs in known.items()}
    for block_id, inputs in given.items():
        if not isinstance(inputs, dict):
            continue
        for action_id, value in inputs.items():
            there = values.setdefault(block_id, {})
            there[action_id] = {**there.get(action_id, {}), **value} if isinstance(value, dict) else value
    return values


def value_of(action: Json) -> Json:
    """What an action leaves in the state: {block_id: {action_id: …}}; {} for a button."""
    if action["type"] not in HOLDS:
        return {}
    name = HOLDS[action["type"]][0]
    return {action["block_id"]: {action["action_id"]: {"type": action["type"], name: action.get(name)}}}
