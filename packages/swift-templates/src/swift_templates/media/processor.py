"""What a model sees of pictures, videos and sounds: arrays, and the tokens that stand for them in the text.

A chat template writes one placeholder for each medium. The model's processor says what stands there instead, such as
256 image tokens between a beginning and an end, and that text is put in before anything is tokenized: so all that holds
for text, from trained spans to branches, holds for media. What a user writes like a placeholder is broken by then.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import MediaRefused, TemplateMismatch
from ..messages import Conversation, Media, MediaKind
from .loading import load_media, load_video
from .policy import MediaPolicy
from .streams import MediaSampling, Video

IntArray: TypeAlias = npt.NDArray[np.int64]
AnyArray: TypeAlias = npt.NDArray[np.generic]
TokenArray: TypeAlias = Callable[[IntArray, IntArray | None], AnyArray]
"""Makes an argument of the model that says something about each token of a row: takes the row's token ids and, of a
sample to train on, its labels (-100 where nothing is trained); returns (1, T, ...)."""


class DecodedMedia(NamedTuple):
    """A medium as numbers."""

    kind: MediaKind
    content: object
    """What `loading` gives: a picture's uint8 (H, W, 3), a sound's float32 (samples,), a `streams.Video`."""


@dataclass(frozen=True, kw_only=True)
class SeenMedia:
    """What a model sees of the media of one conversation, in their order."""

    texts: tuple[str, ...]
    """What stands in the place of each placeholder."""
    arrays: Mapping[str, npt.NDArray[np.generic]]
    """Further arguments of the model, such as pixel_values, as the model takes them for one row."""
    resized: tuple[tuple[int, int] | None, ...] = ()
    """(width, height) at which the model sees each medium, where its processor tells."""
    token_arrays: Mapping[str, TokenArray] = field(default_factory=dict)
    """Arguments that say something about each token of the row; see `media.token_arrays`."""
    settle: Callable[[str], str] | None = None
    """What the model's processor does to a whole text around its media."""
    own_ids: Callable[[IntArray], IntArray] | None = None
    """Puts in tokens that no text spells, where the model's own code does: takes and returns (T,)."""

    def arrays_for(self, input_ids: IntArray, labels: IntArray | None = None) -> dict[str, AnyArray]:
        """Return all arguments that go with a row of these tokens.

        Args:
            input_ids: the row's tokens.
            labels: a training sample's; some models see what is asked otherwise than what is answered.

        Raises:
            TemplateMismatch: the row has other media in it.
        """
        return {**self.arrays, **{name: make(input_ids, labels) for name, make in self.token_arrays.items()}}


class MediaProcessor(ABC):
    """Shows media to one model.

    Attributes:
        placeholders: what the chat template writes for each kind that the model takes.
        sampling: which frames of videos the model wants, and how many samples a second of sounds.
        is_joint: whether a medium's text depends on which others there are. A prompt is then rendered with what the
            model sees of the media up to it.
    """

    placeholders: Mapping[MediaKind, str]
    sampling: MediaSampling = MediaSampling()
    is_joint: bool = False

    @abstractmethod
    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return what the model sees of the media of one conversation.

        Raises:
            TemplateMismatch: the model does not take media of such a kind.
            InvalidMedia: it does not take such a medium, as where a sound is too long.
        """


class MissingProcessor(MediaProcessor):
    """Stands for a processor that cannot be had: texts are encoded, media are refused with the reason.

    Args:
        reason: what is missing, and what to do.
    """

    def __init__(self, reason: str) -> None:
        self.placeholders = {}
        self.reason = reason
        self.fingerprint = "none"

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Raise the reason."""
        raise TemplateMismatch(self.reason)


class Placed(NamedTuple):
    """The media of a conversation, and how their places are found in its text."""

    seen: SeenMedia
    spellings: tuple[str, ...]
    """Of the placeholder of each medium, in the order of the media."""
    see_first: Callable[[int], SeenMedia] | None = None
    """Where texts depend on each other: returns what is seen where only so many media are there."""

    def put_in(self, text: str, count: int) -> str:
        """Put what the model sees of the first `count` media into a rendered text.

        A chat template may write its pictures before its videos, so each spelling has media of its own.

        Raises:
            TemplateMismatch: the text has places for more or fewer, or the model must have them in the row's order.
        """
        wanted = self.spellings[:count]
        spellings = sorted(set(self.spellings), key=len, reverse=True)
        placeholder = re.compile("|".join(map(re.escape, spellings)))
        found = placeholder.findall(text)
        if Counter(found) != Counter(wanted):
            raise TemplateMismatch(
                f"the chat template writes {_counted(found)} for the conversation's {_counted(wanted)}; "
                "it does not know media, or not where they stand"
            )
        seen = self.seen if self.see_first is None or not count else self.see_first(count)
        if tuple(found) != wanted and (seen.token_arrays or self.see_first is not None):
            raise TemplateMismatch(
                f"the chat template writes media in the order {', '.join(found):.200}, and the conversation has them "
                f"in the order {', '.join(wanted):.200}; the model needs one order: put them in the template's"
            )
        # Behind the first `count` media there may be more, which this text does not show.
        queues = {each: iter([t for t, s in zip(seen.texts, wanted, strict=False) if s == each]) for each in spellings}
        text = placeholder.sub(lambda match: next(queues[match.group()]), text)
        return text if seen.settle is None else seen.settle(text)


@dataclass(frozen=True)
class Shown:
    """The media of one conversation, as a model sees them."""

    media: tuple[DecodedMedia, ...]
    placed: Placed
    see_first: Callable[[int], SeenMedia]
    """Returns what the model sees where only so many of the media are there."""


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
            MediaRefused: as `loading.load_media`, or all together are more than the policy allows.
            InvalidMedia, MissingDependency: see `loading.load_media`.
        """
        found = [medium for message in conversation.messages for medium in message.media]
        if not found:
            return None
        if self._processor is None:
            raise TemplateMismatch(
                f"the conversation has {len(found)} pictures, videos or sounds, and nothing here shows them to the "
                "model; load the template of a model that takes them with swift_templates.load_template"
            )
        if isinstance(self._processor, MissingProcessor):
            raise TemplateMismatch(self._processor.reason)
        placeholders = self._processor.placeholders
        for each in found:
            if each.kind not in placeholders:
                taken = ", ".join(sorted(placeholders)) or "none"
                raise TemplateMismatch(f"the conversation has media of kind {each.kind!r}; the model takes: {taken}")
        policy = self._policy.for_conversation(len(found))
        processor = self._processor
        media = tuple(_load(each, policy, processor.sampling) for each in found)
        spellings = tuple(placeholders[each.kind] for each in found)
        known = {len(media): processor.see(media)}

        def see_first(count: int) -> SeenMedia:
            if count not in known:
                known[count] = processor.see(media[:count])
            return known[count]

        placed = Placed(known[len(media)], spellings, see_first if processor.is_joint else None)
        return Shown(media, placed, see_first)


def _load(medium: Media, policy: MediaPolicy, sampling: MediaSampling) -> DecodedMedia:
    """Load a medium, and take what it holds off what the policy leaves for the conversation."""
    policy.check_time()
    try:
        if medium.kind == "video":
            content: object = load_video(medium.source, policy, sampling)
        else:
            content = load_media(medium, policy, sampling)
    except MediaRefused:
        # The time that was left for this one may have been all that was left for the conversation.
        policy.check_time()
        raise
    if policy.budget is not None:
        if isinstance(content, Video):
            policy.budget.pixels += content.frames[..., 0].size
        elif isinstance(content, np.ndarray) and medium.kind == "audio":
            policy.budget.samples += content.size
        elif isinstance(content, np.ndarray):
            policy.budget.pixels += content[..., 0].size
    return DecodedMedia(medium.kind, content)


def _counted(spellings: Sequence[str]) -> str:
    counts = sorted(Counter(spellings).items())
    return " and ".join(f"{count} times {each!r}" for each, count in counts) or "no placeholder"
