"""Pictures to (H, W, 3) uint8: upright, in RGB, what is transparent on white, of an animation the first frame.

Size is read from the file's head and checked before room is made for a pixel.
"""

from __future__ import annotations

import io
import struct
import sys
import types
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidMedia, MediaRefused
from .policy import MediaPolicy, check_limit, need

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = NDArray[np.uint8]
"""(H, W, 3), red, green, blue."""

_EXIF_ORIENTATION = 0x0112
# A progressive JPEG has about ten; each costs a walk over all of its pixels, and hardly a byte.
_MAX_JPEG_SCANS = 64
_START_OF_SCAN = b"\xff\xda"
_PIXELS = "image: the width times the height"

# What decoders raise on files that lie.
DECODER_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def decode_picture(data: bytes, container: str, policy: MediaPolicy) -> Picture:
    """Decode the bytes of a picture file.

    Args:
        data: all of it.
        container: its format, as `sniff` tells.
        policy: has the limits.

    Returns:
        uint8 (H, W, 3).

    Raises:
        MediaRefused: it has too many pixels.
        InvalidMedia: it is broken or cut off, or of a kind whose values have no known range.
        MissingDependency: Pillow is not installed.
    """
    pillow = need("PIL.Image", "image")
    if container == "jpeg" and data.count(_START_OF_SCAN) > _MAX_JPEG_SCANS:
        raise MediaRefused(f"image: the JPEG file has more than {_MAX_JPEG_SCANS} scans; store it again")
    try:
        image: Image.Image = pillow.open(io.BytesIO(data), formats=(container.upper(),))
    except pillow.DecompressionBombError as error:
        raise MediaRefused(f"{_PIXELS} is more than Pillow opens; give a smaller one") from error
    except DECODER_FAILURES as error:
        raise _broken() from error
    with image:
        return picture_from_pillow(image, policy)


def picture_from_pillow(image: Image.Image, policy: MediaPolicy) -> Picture:
    """Turn a Pillow image into uint8 (H, W, 3); raises as `decode_picture` does."""
    check_limit(policy, "max_pixels", image.width * image.height, _PIXELS)
    try:
        image.load()
        # Frames of some formats are larger than their file's head says.
        check_limit(policy, "max_pixels", image.width * image.height, _PIXELS)
        rgb = _to_rgb(_upright(image))
        return np.array(rgb, dtype=np.uint8)
    except (MediaRefused, InvalidMedia):
        raise
    except need("PIL.Image", "image").DecompressionBombError as error:
        raise MediaRefused(f"{_PIXELS} is more than Pillow opens; give a smaller one") from error
    except DECODER_FAILURES as error:
        raise _broken() from error


def is_pillow(source: object) -> bool:
    """Say whether something is a Pillow image, without importing Pillow."""
    module: types.ModuleType | None = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)


def _upright(image: Image.Image) -> Image.Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except DECODER_FAILURES:
        # Notes that cannot be read say nothing; the picture itself is whole.
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise InvalidMedia("image: its values are floats, whose range is unknown; store it with 8 bits a channel")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; Pillow's own conversion cuts off at 255."""
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    # Mode I is 32 bits wide, but Pillow has it for PNG pictures of 16 bits.
    if image.mode == "I" and getattr(image, "format", None) != "PNG":
        raise InvalidMedia("image: its values have 32 bits, whose range is unknown; store it with 8 bits a channel")
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise InvalidMedia("image: its values are beyond 16 bits; store it with 8 bits a channel")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _broken() -> InvalidMedia:
    return InvalidMedia("image: the file is broken or cut off; give a whole one")
