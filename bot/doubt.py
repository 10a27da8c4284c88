"""When the bot says that it is not sure instead of showing a guess. Pure: the evidence is measured elsewhere."""

from storage.records import Answer, Threshold


def unsure(answer: Answer, threshold: Threshold | None, *, admit: bool) -> bool:
    """Whether to hold this answer back. Only with evidence: an answer that failed or came without a confidence, and an
    answerer that was not measured or whose confidence says nothing, is never held back.

    `threshold` is that of the answer's own base and adapter; `admit` is the operator's ADMIT_DOUBT.
    """
    said = answer.params.get("confidence")
    if not admit or answer.status != "ok" or threshold is None or threshold.value is None:
        return False
    if not isinstance(said, int | float) or isinstance(said, bool):
        return False
    return said < threshold.value  # a NaN is below nothing
