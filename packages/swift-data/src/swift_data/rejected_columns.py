"""The worse answer of a pair: from the columns beside a conversation to a conversation of its own.

A pair shares its prompt. How much that is, is found by comparing the two message by message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swift_templates.messages import Message

from .errors import BadRow
from .fields import quote, to_answer
from .message_fields import find_dialect, to_messages

_UNSUPPORTED = ("rejected_image", "rejected_images", "rejected_videos", "rejected_audios")


def read_rejected(columns: Mapping[str, object], better: Sequence[Message]) -> list[Message]:
    """Return the conversation that `rejected_response` or `rejected_messages` stands for; [] where a row has neither.

    Args:
        columns: the row's columns that are not null.
        better: the row's conversation, with its system prompt.

    Raises:
        BadRow: a column does not hold what it should, or there are both.
    """
    given = [name for name in ("rejected_response", "rejected_messages") if name in columns]
    # An empty list is how some tables say null.
    if not given or columns[given[0]] == []:
        return []
    if len(given) > 1:
        raise BadRow("ambiguous columns", f"the row has {quote(given)}; keep one, rename the other")
    if unsupported := [name for name in _UNSUPPORTED if columns.get(name)]:
        raise BadRow(
            "not supported yet", f"the row has {quote(unsupported)}; both answers of a pair get the same media"
        )
    if given == ["rejected_response"]:
        answer = Message(role="assistant", content=to_answer(columns["rejected_response"], field="rejected_response"))
        ends_with_answer = bool(better) and better[-1].role == "assistant"
        return [*(better[:-1] if ends_with_answer else better), answer]
    value = columns["rejected_messages"]
    worse = to_messages(value, field="rejected_messages", dialect=find_dialect(value))
    if worse[0].role == "assistant" and better[0].role != "assistant":
        # Only what comes after the last question was given.
        last = max(index for index, each in enumerate(better) if each.role == "user")
        return [*better[: last + 1], *worse]
    if better[0].role == "system" and worse[0].role == "user":
        return [better[0], *worse]
    return worse


def count_shared(better: Sequence[Message], worse: Sequence[Message]) -> int:
    """Return how many messages two conversations have in common at their beginning.

    Raises:
        BadRow: they are the same, or one ends where the other goes on, or they begin differently.
    """
    shared = 0
    for one, other in zip(better, worse, strict=False):
        if _said(one) != _said(other):
            break
        shared += 1
    if shared == len(worse):
        raise BadRow(
            "invalid value", "the rejected answer is the same as the other, or a part of it; expected a worse one"
        )
    if shared == len(better) and better[-1].role == "assistant":
        raise BadRow("invalid value", "the rejected answer begins with the whole of the other; expected another one")
    if shared == 0 and not better[0].role == worse[0].role == "assistant":
        raise BadRow(
            "invalid value",
            f"the rejected conversation begins otherwise, from {worse[0].role!r}; expected the same prompt in both",
        )
    if worse[shared].role not in ("assistant", "tool"):
        raise BadRow(
            "invalid value",
            f"the rejected conversation differs from the other in a message from {worse[shared].role!r} (message "
            f"{shared + 1}); expected the same prompt in both",
        )
    return shared


def _said(message: Message) -> tuple[object, ...]:
    # Arrays have no simple equality; the same picture in both rows is the same object or the same text.
    media = tuple(
        (each.kind, each.at, each.source if isinstance(each.source, str | bytes) else id(each.source))
        for each in message.media
    )
    return (message.role, message.content, message.reasoning_content, message.tool_calls, message.tool_call_id, media)
