"""What a model sees of pictures, videos and sounds: arrays, and the tokens that stand for them in the text.

A chat template writes one placeholder for each medium. The model's processor says what stands there instead, such as
256 image tokens between a beginning and an end, and that text is put in before anything is tokenized: so all that holds
for text, from trained spans to branches, holds for media. What a user writes like a placeholder is broken by then.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import TemplateMismatch
from ..messages import Conversation, MediaKind
from .loading import load_media
from .policy import MediaPolicy


class DecodedMedia(NamedTuple):
    """A medium as numbers, by `loading.load_media`."""

    kind: MediaKind
    content: object


@dataclass(frozen=True, kw_only=True)
class SeenMedia:
    """What a model sees of the media of one conversation, in their order."""

    texts: tuple[str, ...]
    """What stands in the place of each placeholder."""
    arrays: Mapping[str, npt.NDArray[np.generic]]
    """Further arguments of the model, such as pixel_values, as the model takes them for one row."""
    resized: tuple[tuple[int, int] | None, ...] = ()
    """(width, height) at which the model sees each medium, where its processor tells."""
    token_arrays: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Arguments that hold a number for each token of the row, by token id; other tokens have 0."""

    def arrays_for(self, input_ids: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
        """Return all arguments that go with a row of these tokens."""
        made: dict[str, npt.NDArray[np.generic]] = dict(self.arrays)
        for name, numbers in self.token_arrays.items():
            array = np.zeros((1, len(input_ids)), dtype=np.int64)
            for token_id, number in numbers.items():
                array[0, input_ids == token_id] = number
            made[name] = array
        return made


class MediaProcessor(ABC):
    """Shows media to one model.

    Attributes:
        placeholders: what the chat template writes for each kind that the model takes.
    """

    placeholders: Mapping[MediaKind, str]

    @abstractmethod
    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return what the model sees of the media of one conversation.

        Raises:
            TemplateMismatch: the model does not take media of such a kind.
        """


class Placed(NamedTuple):
    """The media of a conversation, and how their places are found in its text."""

    seen: SeenMedia
    placeholder: re.Pattern[str]

    def put_in(self, text: str, count: int) -> str:
        """Put what the model sees of the first `count` media into a rendered text.

        Raises:
            TemplateMismatch: the text has places for more or fewer.
        """
        found = len(self.placeholder.findall(text))
        if found != count:
            raise TemplateMismatch(
                f"the chat template writes {found} placeholders for {count} pictures, videos and sounds; "
                "it does not know media, or not where they stand"
            )
        texts: Iterator[str] = iter(self.seen.texts)
        return self.placeholder.sub(lambda _: next(texts), text)


@dataclass(frozen=True)
class Shown:
    """The media of one conversation, as a model sees them."""

    processor: MediaProcessor
    media: tuple[DecodedMedia, ...]
    placed: Placed

    def see_first(self, count: int) -> SeenMedia:
        """Return what the model sees where only the first `count` media are there."""
        return self.placed.seen if count == len(self.media) else self.processor.see(self.media[:count])


class MediaShow:
    """Loads the media of conversations and shows them to a model.

    Args:
        processor: the model's; None takes no media.
        policy: where they may come from, and how large they may be.
    """

    def __init__(self, processor: MediaProcessor | None, policy: MediaPolicy) -> None:
        self._processor = processor
        self._policy = policy

    def show(self, conversation: Conversation) -> Shown | None:
        """Return what the model sees of a conversation's media; None where it has none.

        Raises:
            TemplateMismatch: the model takes none, or none of such a kind.
            MediaRefused, InvalidMedia, MissingDependency: see `loading.load_media`.
        """
        found = [medium for message in conversation.messages for medium in message.media]
        if not found:
            return None
        if self._processor is None:
            raise TemplateMismatch(
                f"the conversation has {len(found)} pictures, videos or sounds, and nothing here shows them to the "
                "model; load the template of a model that takes them with swift_templates.hf.load_template"
            )
        placeholders = self._processor.placeholders
        for each in found:
            if each.kind not in placeholders:
                taken = ", ".join(sorted(placeholders)) or "none"
                raise TemplateMismatch(f"the conversation has media of kind {each.kind!r}; the model takes: {taken}")
        media = tuple(DecodedMedia(each.kind, load_media(each, self._policy)) for each in found)
        spellings = sorted({placeholders[each.kind] for each in found}, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, spellings)))
        return Shown(self._processor, media, Placed(self._processor.see(media), pattern))
