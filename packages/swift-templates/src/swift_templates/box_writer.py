"""Boxes of a conversation, written as its model writes them.

Many models write boxes with control tokens, which text cannot hold. So each <ref-object> and <bbox> becomes a mark
before rendering, and the model's notation takes the mark's place afterwards, when what a user wrote like a control
token is broken already.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import TemplateMismatch
from .grounding import Grounded, Notation, PictureSize, find_placeholders, load_notation, notations, render_objects
from .lookalikes import absent_marks
from .media.processor import Shown
from .messages import Conversation, Media, Message


class WrittenBoxes(NamedTuple):
    """What stands at each mark."""

    mark: str
    texts: tuple[str, ...]

    def put_in(self, text: str) -> str:
        """Put names and coordinates in the places of their marks."""
        return re.sub(f"{self.mark}([0-9]+){self.mark}", lambda match: self.texts[int(match[1])], text)


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

        Raises:
            TemplateMismatch: nobody says how the model writes boxes.
            InvalidObjects: wrong counts, boxes out of their pictures, or such as the notation cannot write.
        """
        texts = [message.content for message in conversation.messages]
        if conversation.objects is None or not any(map(find_placeholders, texts)):
            return conversation, None
        if self.notation is None:
            raise TemplateMismatch(
                "the conversation has boxes, and nothing says how this model writes them; name one with box_notation: "
                f"{', '.join(notations.names())}"
            )
        written = tuple(render_objects(texts, conversation.objects, _sizes(shown), self.notation))
        [mark] = absent_marks(list(texts), 1)
        messages: list[Message] = []
        count = 0
        for message in conversation.messages:
            messages.append(_marked(message, mark, count))
            count += len(find_placeholders(message.content))
        return dataclasses.replace(conversation, messages=tuple(messages), objects=None), WrittenBoxes(mark, written)

    def read(self, text: str, size: PictureSize) -> Grounded:
        """Return the boxes in an answer, in pixels of the original picture.

        Raises:
            TemplateMismatch: nobody says how the model writes boxes.
        """
        if self.notation is None:
            raise TemplateMismatch("nothing says how this model writes boxes; name a box_notation")
        return self.notation.parse(text, size)


def _marked(message: Message, mark: str, first: int) -> Message:
    """Return a message whose placeholders are marks, numbered from `first`; media move with their text."""
    pieces: list[str] = []
    media: list[Media] = []
    waiting = list(message.media)
    begin = length = 0
    for number, match in enumerate(find_placeholders(message.content), start=first):
        while waiting and waiting[0].at <= match.start():
            media.append(dataclasses.replace(waiting[0], at=length + waiting.pop(0).at - begin))
        pieces += [message.content[begin : match.start()], f"{mark}{number}{mark}"]
        length += len(pieces[-2]) + len(pieces[-1])
        begin = match.end()
    pieces.append(message.content[begin:])
    media += [dataclasses.replace(each, at=length + each.at - begin) for each in waiting]
    return dataclasses.replace(message, content="".join(pieces), media=tuple(media))


def _sizes(shown: Shown | None) -> Sequence[PictureSize]:
    if shown is None:
        return ()
    resized = shown.placed.seen.resized or (None,) * len(shown.media)
    return [
        PictureSize(np.asarray(content).shape[1], np.asarray(content).shape[0], resized=seen)
        for (kind, content), seen in zip(shown.media, resized, strict=True)
        if kind == "image"
    ]
