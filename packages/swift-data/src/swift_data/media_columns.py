"""Pictures, videos and sounds: from content parts, columns and placeholders to media at their places in the text.

The n-th `<image>` of a row's texts stands for the n-th picture of its column `images`, and so on; the placeholder goes
out of the text. Where a row has no such column, the same characters are text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Final

from swift_templates.messages import Media, MediaKind, Message

from .errors import BadRow
from .fields import from_json, get, quote, shorten, to_object, to_text

_COLUMNS: Final[dict[MediaKind, tuple[str, str]]] = {
    "image": ("images", "image"),
    "video": ("videos", "video"),
    "audio": ("audios", "audio"),
}
MEDIA_COLUMNS: Final = frozenset(name for names in _COLUMNS.values() for name in names)
"""Columns of media; where one is there, placeholders in the texts count."""

_TEXT_PARTS: Final = ("text", "input_text", "output_text")
# Each type of part, and the kind that it holds.
_MEDIA_PARTS: Final[dict[str, MediaKind]] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
}
_SOURCE_KEYS: Final = ("url", "path", "bytes", "base64", "data")
_MIME: Final[dict[MediaKind, str]] = {"image": "image/png", "video": "video/mp4", "audio": "audio/wav"}


class _Pending:
    """The source of a part such as {"type": "image"}, which the row's column has."""


_PENDING: Final = _Pending()


def to_content(value: object, *, field: str) -> tuple[str, tuple[Media, ...]]:
    """Convert a content: text, or a list of parts, whose texts are joined as they are.

    Returns:
        The text, and the media between its parts; where a part names none, `place_media` fills it in.

    Raises:
        BadRow: it is neither, or a part is of an unknown type.
    """
    if not isinstance(value, list):
        return to_text(value, field=field), ()
    texts: list[str] = []
    media: list[Media] = []
    length = 0
    for index, part in enumerate(value):
        text, medium = _to_part(part, length, field=f"{field}[{index}]")
        texts.append(text)
        length += len(text)
        if medium is not None:
            media.append(medium)
    return "".join(texts), tuple(media)


def read_media(columns: Mapping[str, object]) -> dict[MediaKind, list[object]]:
    """Return the sources in a row's columns of media, by kind; a kind without a column is missing.

    Raises:
        BadRow: both of a kind's columns hold something, or one holds what is no source.
    """
    found: dict[MediaKind, list[object]] = {}
    for kind, names in _COLUMNS.items():
        present = [name for name in names if name in columns]
        if not present:
            continue
        filled = [name for name in present if not _is_empty(columns[name])]
        if len(filled) > 1:
            raise BadRow("ambiguous columns", f"the row has media in both {quote(filled)}; keep one, rename the other")
        found[kind] = _to_sources(columns[filled[0]], kind, field=filled[0]) if filled else []
    return found


def place_media(messages: Sequence[Message], sources: Mapping[MediaKind, Sequence[object]]) -> list[Message]:
    """Put the sources of the columns to their placeholders, or before the first user's text where there are none.

    Raises:
        BadRow: there are more sources of a kind than placeholders, or fewer.
    """
    if not sources and not any(message.media for message in messages):
        return list(messages)
    places = {kind: _count_places(messages, kind, marked=kind in sources) for kind in _COLUMNS}
    front: list[Media] = []
    for kind, wanted in places.items():
        given = sources.get(kind, ())
        if not wanted and not any(each.kind == kind for message in messages for each in message.media):
            front += (Media(kind=kind, source=source) for source in given)
        elif wanted != len(given):
            raise BadRow(
                "invalid value",
                f"{_COLUMNS[kind][0]!r} has {len(given)}, and the texts have places for {wanted} ('<{kind}>', or parts "
                "of this type that name no source); expected as many",
            )
    marks = [f"<{kind}>" for kind in sources if places[kind]]
    pattern = re.compile("|".join(marks)) if marks else None
    queues = {kind: list(each) for kind, each in sources.items()}
    placed = [_place(message, queues, pattern) for message in messages]
    if front:
        index = next((index for index, each in enumerate(placed) if each.role == "user"), len(placed) - 1)
        placed[index] = dataclasses.replace(placed[index], media=(*front, *placed[index].media))
    return placed


def _place(message: Message, queues: Mapping[MediaKind, list[object]], pattern: re.Pattern[str] | None) -> Message:
    matches = list(pattern.finditer(message.content)) if pattern else []
    if not matches and not message.media:
        return message
    texts: list[str] = []
    media: list[Media] = []
    waiting = list(message.media)
    end = removed = 0
    for match in [*matches, None]:
        # A part's place may be before the next placeholder, or after the last one.
        while waiting and (match is None or waiting[0].at <= match.start()):
            each = waiting.pop(0)
            source = queues[each.kind].pop(0) if each.source is _PENDING else each.source
            media.append(dataclasses.replace(each, source=source, at=each.at - removed))
        if match is not None:
            kind: MediaKind = match.group()[1:-1]  # type: ignore[assignment]  # the pattern matches kinds only
            media.append(Media(kind=kind, source=queues[kind].pop(0), at=match.start() - removed))
            texts.append(message.content[end : match.start()])
            end = match.end()
            removed += end - match.start()
    content = "".join((*texts, message.content[end:]))
    return dataclasses.replace(message, content=content, media=tuple(media))


def _count_places(messages: Sequence[Message], kind: MediaKind, *, marked: bool) -> int:
    parts = sum(each.kind == kind and each.source is _PENDING for message in messages for each in message.media)
    return parts + (sum(message.content.count(f"<{kind}>") for message in messages) if marked else 0)


def _to_part(value: object, at: int, *, field: str) -> tuple[str, Media | None]:
    part = to_object(value, field=field)
    name = to_text(get(part, "type", field=field), field=f"{field}.type")
    if name in _TEXT_PARTS:
        return to_text(get(part, "text", field=field), field=f"{field}.text"), None
    kind = _MEDIA_PARTS.get(name)
    if kind is None:
        known = quote(("text", *_MEDIA_PARTS))
        raise BadRow("invalid value", f"'{field}.type' is {shorten(name)}; expected one of {known}")
    # {"type": "image", "image": ...}, {"type": "image_url", "image_url": ...}, {"type": "image", "url": ...}
    for key in (name, kind, f"{kind}_url"):
        if part.get(key) is not None:
            return "", Media(kind=kind, source=_to_source(part[key], kind, field=f"{field}.{key}"), at=at)
    if any(part.get(key) is not None for key in _SOURCE_KEYS):
        return "", Media(kind=kind, source=_to_source(part, kind, field=field), at=at)
    return "", Media(kind=kind, source=_PENDING, at=at)


def _is_empty(value: object) -> bool:
    # An object without anything is a medium whose content got lost.
    return value is None or (isinstance(value, str | list | tuple) and not value)


def _to_sources(value: object, kind: MediaKind, *, field: str) -> list[object]:
    if isinstance(value, str):
        # CSV has lists as text.
        value = from_json(value, opening="[")
    if isinstance(value, list | tuple):
        return [_to_source(each, kind, field=f"{field}[{index}]") for index, each in enumerate(value)]
    return [_to_source(value, kind, field=field)]


def _to_source(value: object, kind: MediaKind, *, field: str) -> object:
    """Return text, bytes, or what is decoded already, out of what data sets have for one medium."""
    if isinstance(value, str):
        if value:
            return to_text(value, field=field)
    elif isinstance(value, Mapping):
        return _unwrap(value, kind, field=field)
    elif value is not None and not isinstance(value, bool | int | float | list):
        # Bytes, or a decoded picture or sound.
        return value
    raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected a path, an address, bytes or {kind} data")


def _unwrap(value: Mapping[str, object], kind: MediaKind, *, field: str) -> object:
    # Hugging Face's features hold the content and the name that it had; the name alone may lead nowhere.
    for key in ("bytes", "url", "path"):
        if value.get(key) is not None:
            return _to_source(value[key], kind, field=f"{field}.{key}")
    for key in ("base64", "data"):
        if value.get(key) is not None:
            text = to_text(value[key], field=f"{field}.{key}")
            given = value.get("format")
            mime = f"{kind}/{given}" if isinstance(given, str) and given else _MIME[kind]
            return text if text.startswith("data:") else f"data:{mime};base64,{text}"
    raise BadRow(
        "invalid value", f"{field!r} has {quote(map(str, value))}; expected one of 'bytes', 'url', 'path', 'base64'"
    )
