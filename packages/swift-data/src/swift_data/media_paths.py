"""Where a row's pictures, videos and sounds are: relative paths are meant from a folder, not from where one stands."""

from __future__ import annotations

import os
from dataclasses import replace

from swift_templates.messages import Media, Message

from .chat_row import ChatRow


def resolve_media(row: ChatRow, *, media_root: str | None = None) -> ChatRow:
    """Return the row with its media's relative paths joined to a folder.

    Addresses (http, data and others), absolute paths, bytes and decoded media stay as they are. Whether a file is
    there, and may be read, is checked when it is opened.

    Args:
        row: what was read.
        media_root: the folder; None is that of the row's file.
    """
    # Most rows have none, and copying all of them would take longer than reading them.
    if not any(message.media for messages in (row.conversation.messages, row.rejected) for message in messages):
        return row
    folder = os.path.abspath(os.path.dirname(row.origin.path) if media_root is None else media_root)
    messages = _resolve(row.conversation.messages, folder)
    return replace(
        row,
        conversation=replace(row.conversation, messages=messages),
        rejected=_resolve(row.rejected, folder),
    )


def _resolve(messages: tuple[Message, ...], folder: str) -> tuple[Message, ...]:
    return tuple(
        replace(message, media=tuple(_join(media, folder) for media in message.media)) if message.media else message
        for message in messages
    )


def _join(media: Media, folder: str) -> Media:
    source = media.source
    if not isinstance(source, str) or _is_address(source) or os.path.isabs(source):
        return media
    return replace(media, source=os.path.join(folder, source))


def _is_address(source: str) -> bool:
    scheme, colon, _ = source.partition(":")
    # One letter is a drive of Windows.
    return bool(colon) and len(scheme) > 1 and scheme[0].isalpha() and scheme.replace("+", "").isalnum()
