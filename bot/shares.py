"""A share of votes, as people read it. Pure."""

from storage.shares import wilson


def share(up: int, down: int) -> str:
    """`75 % 👍 (30 to 95 %, n = 4)`."""
    if not up + down:
        return "no votes yet"
    low, high = wilson(up, up + down)
    return f"{100 * up / (up + down):.0f} % 👍 ({100 * low:.0f} to {100 * high:.0f} %, n = {up + down})"
