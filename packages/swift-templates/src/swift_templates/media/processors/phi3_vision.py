"""Phi-3 and Phi-3.5 vision's pictures: brought to rows of squares of 336 pixels, and a small view of the whole before.

    <|image|> x ((rows * columns + 1) * 144 + 1 + (rows + 1) * 12)<s>

The tokenizer of the model's own code begins the text behind each picture anew; so a <s> stands there. That code has
the numbers -1, -2, ... in the places of the first, the second, ... picture's tokens, which no vocabulary holds; here
as in vLLM they are `<|image|>`, so whoever runs that code replaces them. It takes `pixel_values`
(pictures, 1 + most squares, 3, 336, 336), zeros where a picture has fewer, and `image_sizes` (pictures, 2), height
first.

Source: image_processing_phi3_v.py and processing_phi3_v.py of microsoft/Phi-3.5-vision-instruct. Deviation: the small
view is computed in float64, and differs by rounding only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, floats, pictures_in, whole
from ..pixels import CLIP_MEAN, CLIP_STD, interpolate, normalize, resize, to_pillow
from ..policy import need
from ..processor import DecodedMedia, SeenMedia

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 336
_WHITE = (255, 255, 255)


class Phi3Vision(FolderProcessor):
    """Shows pictures to Phi-3 and Phi-3.5 vision."""

    placeholders: Mapping[MediaKind, str] = {"image": "<|image|>"}

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        self._most = whole(folder.settings, "num_crops")
        self._mean = floats(folder.settings, "image_mean", CLIP_MEAN)
        self._std = floats(folder.settings, "image_std", CLIP_STD)
        self._bos = folder.named_tokens.get("bos_token", "<s>")

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of Phi-3 or Phi-3.5 vision."""
        return folder.model_type == "phi3_v" and "num_crops" in folder.settings

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens and squares of pictures."""
        pictures = [normalize(self._enlarge(to_pillow(each)), self._mean, self._std) for each in pictures_in(media)]
        pixels = np.zeros((len(pictures), 1 + self._most, 3, _SIDE, _SIDE), dtype=np.float32)
        texts = []
        for index, values_CHW in enumerate(pictures):
            rows, columns = values_CHW.shape[1] // _SIDE, values_CHW.shape[2] // _SIDE
            pixels[index, 0] = interpolate(values_CHW, _SIDE, _SIDE)
            pixels[index, 1 : 1 + rows * columns] = _squares(values_CHW, rows, columns)
            texts.append("<|image|>" * ((rows * columns + 1) * 144 + 1 + (rows + 1) * 12) + self._bos)
        sizes = np.array([each.shape[1:] for each in pictures], dtype=np.int64)
        return SeenMedia(texts=tuple(texts), arrays={"pixel_values": pixels, "image_sizes": sizes})

    def _enlarge(self, image: Image.Image) -> Image.Image:
        """Return a picture as wide, or as high, as the squares allow, and white where it does not fill the last."""
        is_high = image.width < image.height
        long, short = (image.height, image.width) if is_high else (image.width, image.height)
        ratio = long / short
        count = 1
        while (count + 1) * np.ceil((count + 1) / ratio) <= self._most:
            count += 1
        long = count * _SIDE
        # As flat as it is, it has a row of pixels.
        short = max(1, int(long / ratio))
        margin = -short % _SIDE
        before, after = margin // 2, margin - margin // 2
        pillow = need("PIL.ImageOps", "image")
        made: Image.Image
        if is_high:
            made = pillow.expand(_turned(image, long, short), border=(0, before, 0, after), fill=_WHITE)
            return _transposed(made)
        made = pillow.expand(resize(image, long, short, bilinear=True), border=(0, before, 0, after), fill=_WHITE)
        return made


def _turned(image: Image.Image, long: int, short: int) -> Image.Image:
    return resize(_transposed(image), long, short, bilinear=True)


def _transposed(image: Image.Image) -> Image.Image:
    return image.transpose(need("PIL.Image", "image").Transpose.TRANSPOSE)


def _squares(values_CHW: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Return the squares of a picture, row by row: (rows * columns, 3, 336, 336)."""
    split = values_CHW.reshape(3, rows, _SIDE, columns, _SIDE).transpose(1, 3, 0, 2, 4)
    return split.reshape(rows * columns, 3, _SIDE, _SIDE)
