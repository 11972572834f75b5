"""Arguments of models that say something about each token of a row: which are a picture's, and who may look at what.

They are made for the tokens that a row really has, since a processor only ever saw the media without the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import TemplateMismatch

BY_TOKEN = (
    "mm_token_type_ids",
    "token_type_ids",
    "cross_attention_mask",
    "images_seq_mask",
    "image_attention_mask",
)
"""The names of such arguments. All others say something about the media, whatever their shapes look like."""

PLACES = ("image_bound",)
"""The names of arguments that hold places of tokens in their row; whoever moves the tokens moves these numbers."""


@dataclass(frozen=True)
class Numbers:
    """A number for each token; 0 for all but the media's own tokens."""

    token_ids: tuple[int, ...]
    """Those that may have another number than 0."""
    numbers: tuple[int, ...]
    """Of each of those tokens in a row, in order."""

    @classmethod
    def read(cls, input_ids: Sequence[int], numbers: Sequence[int]) -> Numbers:
        """Take from an example which of its tokens have a number."""
        token_ids = sorted({token for token, number in zip(input_ids, numbers, strict=True) if number})
        found = [number for token, number in zip(input_ids, numbers, strict=True) if token in token_ids]
        return cls(tuple(token_ids), tuple(found))

    def __call__(self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        """Return (1, T)."""
        made = np.zeros((1, len(input_ids)), dtype=np.int64)
        places = np.flatnonzero(np.isin(input_ids, self.token_ids))
        if len(places) != len(self.numbers):
            raise TemplateMismatch(f"the row has {len(places)} tokens of media; the processor made {len(self.numbers)}")
        made[0, places] = self.numbers
        return made


@dataclass(frozen=True)
class AnswerTypes:
    """1 from the first trained token on, and 0 before it, where all tokens see each other."""

    def __call__(self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        """Return (1, T)."""
        trained = np.flatnonzero(labels >= 0) if labels is not None else np.array([], dtype=np.int64)
        made = np.zeros((1, len(input_ids)), dtype=np.int64)
        made[0, trained[0] if len(trained) else len(input_ids) :] = 1
        return made


@dataclass(frozen=True)
class CrossAttention:
    """Which pictures a token looks at: those of the last group of adjacent picture tokens at or before it.

    Source: Llama 3.2 Vision's processor in transformers, which the tests compare.
    """

    token_id: int
    """Stands for a picture."""
    num_tiles: tuple[int, ...]
    """Of each picture."""
    max_tiles: int

    def __call__(self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        """Return (1, T, pictures, tiles)."""
        places = np.flatnonzero(input_ids == self.token_id).tolist()
        if len(places) != len(self.num_tiles):
            raise TemplateMismatch(f"the row has {len(places)} pictures; the processor saw {len(self.num_tiles)}")
        made = np.zeros((1, len(input_ids), len(places), self.max_tiles), dtype=np.int64)
        end = after = len(input_ids)
        for index, place in reversed(list(enumerate(places))):
            # Adjacent pictures are seen by the same tokens.
            end = end if after == place + 1 else after
            after = place
            made[0, place:end, index, : self.num_tiles[index]] = 1
        return made


@dataclass(frozen=True)
class Marks:
    """Which tokens stand for pictures."""

    token_id: int
    count: int
    """Of them in a row."""

    def __call__(self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None) -> npt.NDArray[np.bool_]:
        """Return (1, T)."""
        made: npt.NDArray[np.bool_] = (input_ids == self.token_id)[None]
        if made.sum() != self.count:
            raise TemplateMismatch(f"the row has {made.sum()} tokens of pictures; the processor made {self.count}")
        return made


@dataclass(frozen=True)
class Bounds:
    """Where the tokens of each slice of a picture begin, and where they have ended."""

    opening_ids: tuple[int, ...]
    """Of the tokens before a slice."""
    closing_ids: tuple[int, ...]
    """Of the tokens behind one."""
    count: int
    """Of slices in a row."""

    def __call__(self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        """Return (1, slices, 2)."""
        starts = np.flatnonzero(np.isin(input_ids, self.opening_ids)) + 1
        ends = np.flatnonzero(np.isin(input_ids, self.closing_ids))
        if not len(starts) == len(ends) == self.count:
            raise TemplateMismatch(f"the row has {len(starts)} slices of pictures; the processor made {self.count}")
        return np.stack([starts, ends], axis=1)[None].astype(np.int64)


@dataclass(frozen=True)
class LastPicture:
    """Which picture a token looks at: the last one at or before it, unless a text has ended in between.

    Source: Idefics' processor in transformers, which the tests compare.
    """

    token_id: int
    """Stands for a picture."""
    end_id: int | None
    """Ends a text."""
    count: int
    """Of pictures in a row."""

    def __call__(self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        """Return (1, T, pictures)."""
        places = np.flatnonzero(input_ids == self.token_id)
        if len(places) != self.count:
            raise TemplateMismatch(f"the row has {len(places)} pictures; the processor saw {self.count}")
        made = np.zeros((1, len(input_ids), self.count), dtype=np.int64)
        ends = np.flatnonzero(input_ids == self.end_id) if self.end_id is not None else places[:0]
        for index, place in enumerate(places):
            after = [len(input_ids), *places[index + 1 : index + 2], *(ends[ends > place][:1] + 1)]
            made[0, place : min(after), index] = 1
        return made


@dataclass(frozen=True)
class Overwrite:
    """Tokens that no text spells, put over those that keep their places."""

    token_id: int
    """Keeps the places."""
    ids: tuple[tuple[int, ...], ...]
    """What each medium has instead, in order."""

    def __call__(self, input_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return (T,)."""
        own = np.array([each for medium in self.ids for each in medium], dtype=np.int64)
        places = np.flatnonzero(input_ids == self.token_id)
        if len(places) != len(own):
            raise TemplateMismatch(
                f"the row has places for {len(places)} tokens of media; the processor made {len(own)}"
            )
        made = input_ids.copy()
        made[places] = own
        return made
