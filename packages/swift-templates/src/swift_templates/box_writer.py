"""Boxes of a conversation, written as its model writes them.

Many models write boxes with control tokens, which text cannot hold. So each <ref-object> and <bbox> becomes a mark
before rendering, and the model's notation takes the mark's place afterwards, when what a user wrote like a control
token is broken already. The name of a thing is the user's text too: it stands in the text itself, between marks.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .errors import InvalidObjects, TemplateMismatch
from .grounding import (
    REF_OBJECT,
    Grounded,
    Notation,
    Objects,
    PictureSize,
    find_placeholders,
    load_notation,
    notations,
    render_objects,
)
from .lookalikes import absent_marks
from .media.processor import Shown
from .messages import JSON, Conversation, Media, Message


class WrittenBoxes(NamedTuple):
    """What stands at each mark."""

    mark: str
    texts: tuple[str, ...]
    """For each placeholder, in the order of the conversation: the name or the coordinates, as the model reads them."""
    pieces: tuple[str, ...]
    """For each mark: coordinates, or what the notation puts before or after a name."""

    def put_in(self, text: str) -> str:
        """Put coordinates, and what stands around names, in the places of their marks."""
        return re.sub(f"{self.mark}([0-9]+){self.mark}", lambda match: self.pieces[int(match[1])], text)


class BoxWriter:
    """Writes boxes for one model.

    Args:
        chosen: name of the notation, or None for the model's own.
        model_type: what config.json calls the model; names the notation where it is one.

    Raises:
        UnknownName: there is no such notation.
    """

    def __init__(self, chosen: str | None, model_type: str | None) -> None:
        self._chosen = None if chosen is None else load_notation(chosen)
        self._model_type = (model_type or "").replace("-", "").replace("_v_", "_").lower()

    @functools.cached_property
    def notation(self) -> Notation | None:
        """How the model writes boxes; None if nobody says it."""
        own = self._model_type if self._model_type in notations.names() else None
        return self._chosen or (None if own is None else load_notation(own))

    def write(self, conversation: Conversation, shown: Shown | None) -> tuple[Conversation, WrittenBoxes | None]:
        """Return the conversation with marks in the places of its boxes, and what belongs there.

        Placeholders count in the order of the messages, in each one the reasoning before the content. Where no text has
        any, objects are kept for rewards and not written; where one has, there must be as many of both.

        Raises:
            TemplateMismatch: nobody says how the model writes boxes.
            InvalidObjects: wrong counts, boxes out of their pictures, such as the notation cannot write, or
                placeholders in the arguments of a call.
        """
        objects = conversation.objects
        if objects is None:
            return conversation, None
        _check_calls(conversation)
        texts = [text for each in conversation.messages for text in (each.reasoning_content or "", each.content)]
        if not any(map(find_placeholders, texts)):
            return conversation, None
        if self.notation is None:
            raise TemplateMismatch(
                "the conversation has boxes, and nothing says how this model writes them; name one with box_notation: "
                f"{', '.join(notations.names())}"
            )
        written = tuple(render_objects(texts, objects, _sizes(shown), self.notation))
        marking = _Marking(self.notation, _absent_mark(conversation, objects), iter(written))
        messages = tuple(map(marking.marked, conversation.messages))
        boxes = WrittenBoxes(marking.mark, written, tuple(marking.pieces))
        return dataclasses.replace(conversation, messages=messages, objects=None), boxes

    def read(self, text: str, size: PictureSize) -> Grounded:
        """Return the boxes in an answer, in pixels of the original picture.

        Raises:
            TemplateMismatch: nobody says how the model writes boxes.
        """
        if self.notation is None:
            raise TemplateMismatch("nothing says how this model writes boxes; name a box_notation")
        return self.notation.parse(text, size)


class _Marking:
    """Puts marks into texts, numbered over all of them.

    Args:
        notation: of the model.
        mark: stands in none of the texts.
        written: what belongs in the place of each placeholder, in order.
    """

    def __init__(self, notation: Notation, mark: str, written: Iterator[str]) -> None:
        self.mark = mark
        self.pieces: list[str] = []
        self._written = written
        # What a notation puts around a name, it puts around any.
        before, found, after = notation.render_ref(mark).partition(mark)
        self._around = (before, after) if found else ("", "")

    def marked(self, message: Message) -> Message:
        """Return a message whose placeholders are marks, and names between marks."""
        reasoning = message.reasoning_content
        if reasoning is not None:
            reasoning, _ = self._marked_text(reasoning, ())
        content, media = self._marked_text(message.content, message.media)
        return dataclasses.replace(message, content=content, media=media, reasoning_content=reasoning)

    def _marked_text(self, text: str, media: Sequence[Media]) -> tuple[str, tuple[Media, ...]]:
        """Media move with their text."""
        pieces: list[str] = []
        moved: list[Media] = []
        waiting = list(media)
        begin = length = 0
        for match in find_placeholders(text):
            while waiting and waiting[0].at <= match.start():
                moved.append(dataclasses.replace(waiting[0], at=length + waiting.pop(0).at - begin))
            written = next(self._written)
            placed = self._name(written) if match.group() == REF_OBJECT else self._new_mark(written)
            pieces += [text[begin : match.start()], placed]
            length += len(pieces[-2]) + len(pieces[-1])
            begin = match.end()
        pieces.append(text[begin:])
        moved += [dataclasses.replace(each, at=length + each.at - begin) for each in waiting]
        return "".join(pieces), tuple(moved)

    def _name(self, written: str) -> str:
        before, after = self._around
        name = written.removeprefix(before).removesuffix(after)
        if before + name + after != written:
            return written
        return self._new_mark(before) + name + self._new_mark(after)

    def _new_mark(self, piece: str) -> str:
        # A mark that stands for nothing would hide a look-alike that a name and the text beside it make together.
        if not piece:
            return ""
        self.pieces.append(piece)
        return f"{self.mark}{len(self.pieces) - 1}{self.mark}"


def _absent_mark(conversation: Conversation, objects: Objects) -> str:
    """Choose a character that stands in no text that may be rendered with the boxes."""
    texts: list[JSON] = [*objects.refs, *conversation.tools]
    for message in conversation.messages:
        texts += [message.content, message.reasoning_content, message.tool_call_id]
        for call in message.tool_calls:
            texts += [call.name, call.arguments, call.id]
    [mark] = absent_marks(texts, 1)
    return mark


def _check_calls(conversation: Conversation) -> None:
    for position, message in enumerate(conversation.messages, start=1):
        for call in message.tool_calls:
            found = find_placeholders(json.dumps(call.arguments, ensure_ascii=False))
            if found:
                raise InvalidObjects(
                    f"message {position} ({message.role}): the arguments of the call of {call.name!r} hold "
                    f"{found[0].group()!r}; expected it in contents and reasoning only (write the numbers out)"
                )


def _sizes(shown: Shown | None) -> Sequence[PictureSize]:
    if shown is None:
        return ()
    resized = shown.placed.seen.resized or (None,) * len(shown.media)
    return [
        PictureSize(np.asarray(content).shape[1], np.asarray(content).shape[0], resized=seen)
        for (kind, content), seen in zip(shown.media, resized, strict=True)
        if kind == "image"
    ]
