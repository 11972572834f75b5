"""Pictures as Pillow holds them, resized, and as the numbers that vision encoders take.

The arithmetic is torchvision's `ToTensor` and `Normalize`, one for one in float32, so that nothing differs but the
library. C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .policy import need

if TYPE_CHECKING:
    from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# The constant of torch's bicubic interpolation; Pillow's is -0.5.
_CUBIC = -0.75


def to_pillow(picture: object) -> Image.Image:
    """Return a decoded picture, uint8 (H, W, 3), as Pillow holds it.

    Raises:
        MissingDependency: Pillow is not installed.
    """
    image: Image.Image = need("PIL.Image", "image").fromarray(picture)
    return image


def resize(image: Image.Image, width: int, height: int, *, bilinear: bool = False) -> Image.Image:
    """Return a picture in another size: bicubic as Pillow does it, or bilinear."""
    ways = need("PIL.Image", "image").Resampling
    return image.resize((width, height), ways.BILINEAR if bilinear else ways.BICUBIC)


def normalize(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return (x / 255 - mean) / std for each channel.

    Returns:
        float32 (C, H, W).
    """
    shares_HWC: npt.NDArray[np.float32] = np.asarray(image, dtype=np.float32) / np.float32(255)
    values_HWC = (shares_HWC - np.asarray(mean, dtype=np.float32)) / np.asarray(std, dtype=np.float32)
    return np.ascontiguousarray(values_HWC.transpose(2, 0, 1))


def interpolate(values_CHW: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Resize numbers as `torch.nn.functional.interpolate(..., mode="bicubic")` does: without smoothing.

    Returns:
        float32 (C, height, width).
    """
    rows, columns = (_cubic_weights(*each) for each in ((values_CHW.shape[1], height), (values_CHW.shape[2], width)))
    made: npt.NDArray[np.float64] = np.einsum("yh,chw,xw->cyx", rows, values_CHW, columns, optimize=True)
    return made.astype(np.float32)


def _cubic_weights(size: int, new_size: int) -> npt.NDArray[np.float64]:
    """Return what each old place counts for each new one: (new_size, size), rows of sum 1."""
    centers = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    first = np.floor(centers).astype(np.int64)
    weights = np.zeros((new_size, size))
    for step in (-1, 0, 1, 2):
        distance = np.abs(centers - (first + step))
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
        # What lies outside is the edge again.
        places = np.clip(first + step, 0, size - 1)
        np.add.at(weights, (np.arange(new_size), places), np.where(distance <= 1, near, far))
    return weights
