"""DeepSeek-VL2's pictures: one view of the whole, then tiles of the size that wastes least of a list of sizes.

    <image> x (14 * 15 + 1 + rows * 14 * (columns * 14 + 1))

for 384 pixels a side, patches of 14 and every other one kept: a line of tokens ends with one for its end, and one
stands between the whole and the tiles. A conversation with more than two pictures has one tile for each, so what
stands for a picture depends on the others.

The model's own code takes `images` (1, views, 3, S, S), `images_spatial_crop` (1, pictures, 2), columns first, and
`images_seq_mask` (1, T).

Source: processing_deepseek_vl_v2.py of deepseek-ai/DeepSeek-VL2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import InvalidModelFolder
from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, floats, pictures_in, whole
from ..pixels import normalize, to_pillow
from ..policy import need
from ..processor import DecodedMedia, SeenMedia
from ..token_arrays import Marks

if TYPE_CHECKING:
    from PIL import Image

_MOST_IN_TILES = 2


class DeepseekVl2(FolderProcessor):
    """Shows pictures to DeepSeek-VL2."""

    placeholders: Mapping[MediaKind, str] = {"image": "<image>"}
    is_joint = True

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        settings = folder.settings
        self._sizes = _read_sizes(settings.get("candidate_resolutions"))
        self._side = self._sizes[0][0]
        self._mean = floats(settings, "image_mean", (0.5, 0.5, 0.5))
        self._std = floats(settings, "image_std", (0.5, 0.5, 0.5))
        patches = self._side // whole(settings, "patch_size")
        self._tokens = math.ceil(patches / whole(settings, "downsample_ratio"))
        self._token_id = folder.token_id("<image>")

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of DeepSeek-VL2; DeepSeek-OCR gives itself the same type, and names its class."""
        is_other = bool(folder.config.get("architectures")) and not folder.is_class("DeepseekVLV2ForCausalLM")
        needed = ("candidate_resolutions", "patch_size", "downsample_ratio")
        return (
            folder.model_type == "deepseek_vl_v2" and not is_other and all(name in folder.settings for name in needed)
        )

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens and tiles of pictures."""
        pictures = pictures_in(media)
        views: list[npt.NDArray[np.float32]] = []
        crops, texts = [], []
        for picture in pictures:
            image = to_pillow(picture)
            width, height = self._side, self._side
            if len(pictures) <= _MOST_IN_TILES:
                width, height = self._choose(*image.size)
            views += [self._view(image, self._side, self._side), *self._tiles(self._padded(image, width, height))]
            columns, rows = width // self._side, height // self._side
            crops.append((columns, rows))
            texts.append("<image>" * self._count(columns, rows))
        return SeenMedia(
            texts=tuple(texts),
            arrays={"images": np.stack(views)[None], "images_spatial_crop": np.array(crops, dtype=np.int64)[None]},
            token_arrays={"images_seq_mask": Marks(self._token_id, sum(self._count(*each) for each in crops))},
        )

    def _count(self, columns: int, rows: int) -> int:
        line = self._tokens + 1
        return self._tokens * line + 1 + rows * self._tokens * (columns * self._tokens + 1)

    def _choose(self, width: int, height: int) -> tuple[int, int]:
        """Return the size in which most of a picture's pixels are kept, and of those the one with least to spare."""

        def rank(size: tuple[int, int]) -> tuple[int, int]:
            scale = min(size[0] / width, size[1] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return -kept, size[0] * size[1] - kept

        return min(self._sizes, key=rank)

    def _padded(self, image: Image.Image, width: int, height: int) -> Image.Image:
        color = tuple(int(each * 255) for each in self._mean)
        padded: Image.Image = need("PIL.ImageOps", "image").pad(image, (width, height), color=color)
        return padded

    def _view(self, image: Image.Image, width: int, height: int) -> npt.NDArray[np.float32]:
        return normalize(self._padded(image, width, height), self._mean, self._std)

    def _tiles(self, image: Image.Image) -> list[npt.NDArray[np.float32]]:
        side = self._side
        corners = [(x, y) for y in range(0, image.height, side) for x in range(0, image.width, side)]
        return [normalize(image.crop((x, y, x + side, y + side)), self._mean, self._std) for x, y in corners]


def _read_sizes(value: object) -> list[tuple[int, int]]:
    """Return (width, height) of each size that the tiles of a picture may have together."""
    sizes = [
        (each[0], each[1])
        for each in (value if isinstance(value, list) else [])
        if isinstance(each, list) and len(each) == 2 and all(isinstance(side, int) and side > 0 for side in each)
    ]
    side = sizes[0][0] if sizes else 0
    if not sizes or not isinstance(value, list) or len(sizes) != len(value):
        raise InvalidModelFolder(f"candidate_resolutions is {value!r:.80}; expected a list of [width, height]")
    if any(width % side or height % side for width, height in sizes):
        raise InvalidModelFolder(f"candidate_resolutions is {value!r:.80}; expected multiples of its first width")
    return sizes
