"""MiniCPM-V 2.6's pictures: the whole, numbered, then slices in a grid that has nearly the picture's proportions.

    <image_id>0</image_id><image><unk> x 64</image><slice><unk> x 64</slice><slice>...</slice>
    <slice>...

A line of slices for each row of the grid. The model's own code takes `pixel_values`, a row of patches for each slice:
(1, slices, 3, 14, 14 * patches), filled up with zeros to the longest as that code does next; `tgt_sizes`
(1, slices, 2), rows and columns of patches; `image_bound` (1, slices, 2), where the tokens of each begin and end.

Source: image_processing_minicpmv.py and processing_minicpmv.py of openbmb/MiniCPM-V-2_6. Deviation: pictures of
one row are one padded array instead of a list of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, floats, pictures_in, whole
from ..pixels import normalize, resize, to_pillow
from ..processor import DecodedMedia, SeenMedia
from ..token_arrays import Bounds

if TYPE_CHECKING:
    from PIL import Image

_VERSIONS = (2.5, 2.6)
_HALF = (0.5, 0.5, 0.5)


class MiniCpmV(FolderProcessor):
    """Shows pictures to MiniCPM-V 2.6."""

    placeholders: Mapping[MediaKind, str] = {"image": "(<image>./</image>)"}

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        settings = folder.settings
        self._most = whole(settings, "max_slice_nums", 9)
        self._side = whole(settings, "scale_resolution", 448)
        self._patch = whole(settings, "patch_size", 14)
        self._tokens = whole(settings, "image_feature_size", 64)
        self._is_numbered = bool(settings.get("use_image_id"))
        self._is_sliced = bool(settings.get("slice_mode", True))
        self._mean = floats(settings, "norm_mean", _HALF)
        self._std = floats(settings, "norm_std", _HALF)
        usual = {"im_start": "<image>", "im_end": "</image>", "slice_start": "<slice>", "slice_end": "</slice>"}
        usual |= {"unk": "<unk>", "im_id_start": "<image_id>", "im_id_end": "</image_id>"}
        self._words = {name: str(settings.get(name, text)) for name, text in usual.items()}
        self._opening = tuple(folder.token_id(self._words[name]) for name in ("im_start", "slice_start"))
        self._closing = tuple(folder.token_id(self._words[name]) for name in ("im_end", "slice_end"))

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of MiniCPM-V 2.5 or 2.6; later versions are transformers', earlier ones differ."""
        return folder.model_type == "minicpmv" and folder.settings.get("version") in _VERSIONS

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens and slices of pictures."""
        slices: list[Image.Image] = []
        texts = []
        for index, picture in enumerate(pictures_in(media)):
            image = to_pillow(picture)
            grid = self._grid(image) if self._is_sliced else None
            slices += self._slice(image, grid) if self._is_sliced else [image]
            texts.append(self._text(index, grid))
        patches = [self._patches(each) for each in slices]
        pixels = np.zeros((1, len(patches), 3, self._patch, max(each.shape[2] for each in patches)), dtype=np.float32)
        for index, each in enumerate(patches):
            pixels[0, index, :, :, : each.shape[2]] = each
        sizes = [(each.height // self._patch, each.width // self._patch) for each in slices]
        return SeenMedia(
            texts=tuple(texts),
            arrays={"pixel_values": pixels, "tgt_sizes": np.array(sizes, dtype=np.int64)[None]},
            token_arrays={"image_bound": Bounds(self._opening, self._closing, len(slices))},
        )

    def _text(self, index: int, grid: tuple[int, int] | None) -> str:
        words, features = self._words, self._words["unk"] * self._tokens
        number = f"{words['im_id_start']}{index}{words['im_id_end']}" if self._is_numbered else ""
        text = f"{number}{words['im_start']}{features}{words['im_end']}"
        if grid is None:
            return text
        line = f"{words['slice_start']}{features}{words['slice_end']}" * grid[0]
        return text + "\n".join([line] * grid[1])

    def _grid(self, image: Image.Image) -> tuple[int, int] | None:
        """Return (columns, rows) of slices, or None for a picture that is small enough as it is."""
        wanted = min(math.ceil(image.width * image.height / self._side**2), self._most)
        if wanted <= 1:
            return None
        counts = [each for each in (wanted - 1, wanted, wanted + 1) if 1 < each <= self._most]
        grids = [(columns, each // columns) for each in counts for columns in range(1, each + 1) if not each % columns]
        proportion = math.log(image.width / image.height)
        return min(grids, key=lambda grid: abs(proportion - math.log(grid[0] / grid[1])), default=(1, 1))

    def _slice(self, image: Image.Image, grid: tuple[int, int] | None) -> list[Image.Image]:
        """Return the whole picture and its slices, in rows, each with sides that are multiples of a patch."""
        if grid is None:
            return [resize(image, *self._fit(image.width, image.height, is_enlarged=True))]
        columns, rows = grid
        # The sides are brought to multiples of the grid before a slice is fitted.
        width, height = _nearest(image.width, columns) / columns, _nearest(image.height, rows) / rows
        width, height = self._fit(width, height, is_enlarged=True)
        large = resize(image, width * columns, height * rows)
        corners = [(x * width, y * height) for y in range(rows) for x in range(columns)]
        whole_picture = resize(image, *self._fit(image.width, image.height, is_enlarged=False))
        return [whole_picture, *(large.crop((x, y, x + width, y + height)) for x, y in corners)]

    def _fit(self, width: float, height: float, *, is_enlarged: bool) -> tuple[int, int]:
        """Return sides in patches whose product is about the size that the model was trained with."""
        if width * height > self._side**2 or is_enlarged:
            proportion = width / height
            height = int(self._side / math.sqrt(proportion))
            width = int(height * proportion)
        return _nearest(width, self._patch), _nearest(height, self._patch)

    def _patches(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the patches of a slice side by side: (3, side, side * patches)."""
        side = self._patch
        rows, columns = image.height // side, image.width // side
        values = normalize(image, self._mean, self._std)[:, : rows * side, : columns * side]
        values = values.reshape(3, rows, side, columns, side).transpose(0, 2, 1, 3, 4)
        return values.reshape(3, side, rows * columns * side)


def _nearest(length: float, unit: int) -> int:
    return max(round(length / unit) * unit, unit)
