"""Idefics (the first)'s pictures: one token between two edges, which pictures side by side share.

    <fake_token_around_image><image><fake_token_around_image><image><fake_token_around_image>

transformers has the model and a processor, which takes its pictures inside of lists of texts; here they stand in a
text, and the arrays are that processor's: `pixel_values` (1, pictures, 3, 224, 224) and `image_attention_mask`
(1, T, pictures), each token's last picture.

Source: transformers' IdeficsProcessor, which the tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, floats, pictures_in, whole
from ..pixels import CLIP_MEAN, CLIP_STD, normalize, resize, to_pillow
from ..processor import DecodedMedia, SeenMedia
from ..token_arrays import LastPicture

_EDGE, _PICTURE = "<fake_token_around_image>", "<image>"


class Idefics(FolderProcessor):
    """Shows pictures to the first Idefics."""

    placeholders: Mapping[MediaKind, str] = {"image": _EDGE + _PICTURE + _EDGE}

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        size = folder.settings.get("size")
        self._side = whole(size, "height") if isinstance(size, dict) else whole(folder.settings, "image_size", 224)
        self._mean = floats(folder.settings, "image_mean", CLIP_MEAN)
        self._std = floats(folder.settings, "image_std", CLIP_STD)
        self._token_id = folder.token_id(_PICTURE)
        end = folder.named_tokens.get("eos_token")
        self._end_id = None if end is None else folder.token_id(end)

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of Idefics; Idefics 2 and 3 say so."""
        return folder.model_type == "idefics"

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens and pixels of pictures."""
        pictures = pictures_in(media)
        side = self._side
        images = [normalize(resize(to_pillow(each), side, side), self._mean, self._std) for each in pictures]
        attention = LastPicture(self._token_id, self._end_id, len(pictures))
        return SeenMedia(
            texts=(_EDGE + _PICTURE + _EDGE,) * len(pictures),
            arrays={"pixel_values": np.stack(images)[None]},
            resized=((side, side),) * len(pictures),
            token_arrays={"image_attention_mask": attention},
            settle=lambda text: text.replace(_EDGE * 2, _EDGE),
        )
