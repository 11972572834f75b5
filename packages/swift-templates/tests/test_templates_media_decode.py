"""Pictures, videos and sounds of every kind that is read, made here; and what is broken, huge, or lies."""

from __future__ import annotations

import functools
import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from swift_templates.errors import InvalidMedia, MediaRefused
from swift_templates.media.loading import load_media, load_picture
from swift_templates.media.policy import MediaPolicy
from swift_templates.messages import Media

Image = pytest.importorskip("PIL.Image")
av = pytest.importorskip("av")
soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

Bytes: TypeAlias = NDArray[np.uint8]
POLICY = MediaPolicy()
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encode(image: object, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)  # type: ignore[attr-defined]  # a Pillow image
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "AVIF"])
def test_formats_of_pictures(form: str) -> None:
    flat = np.full((16, 16, 3), (200, 30, 90), dtype=np.uint8)
    loaded = load_picture(encode(Image.fromarray(flat), form, **({"lossless": True} if form == "WEBP" else {})), POLICY)
    assert loaded.dtype == np.uint8 and loaded.shape == flat.shape
    # JPEG and AVIF lose up to 3 of 256 steps in a flat colour.
    assert np.abs(loaded.astype(int) - flat).max() <= (3 if form in ("JPEG", "AVIF") else 0)


def test_a_picture_comes_as_it_was_stored() -> None:
    assert (load_picture(encode(Image.fromarray(PICTURE), "PNG"), POLICY) == PICTURE).all()
    assert (load_picture(Image.fromarray(PICTURE), POLICY) == PICTURE).all()
    assert (load_media(Media(kind="image", source=Image.fromarray(PICTURE)), POLICY) == PICTURE).all()


# What stands upright on the screen, for each way in which a camera was held. Source: EXIF 2.32, tag 0x0112: where the
# first row and the first column of what is stored are to be seen.
TURNED: dict[int, Callable[[Bytes], Bytes]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    loaded = load_picture(encode(Image.fromarray(PICTURE), form, exif=exif, **options), POLICY)
    assert np.array_equal(loaded, TURNED[orientation](PICTURE))


def test_exif_orientation_of_a_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_picture(encode(Image.new("RGB", (8, 4)), "JPEG", exif=exif), POLICY).shape == (8, 4, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_leaves_the_picture(exif: bytes) -> None:
    assert load_picture(encode(Image.new("RGB", (8, 4)), "JPEG", exif=exif), POLICY).shape == (4, 8, 3)


def pixel(image: object, form: str = "PNG", **options: object) -> list[int]:
    loaded = load_picture(encode(image, form, **options), POLICY)
    assert loaded.shape == (2, 2, 3)
    return [int(each) for each in loaded[0, 0]]


def test_modes_become_rgb() -> None:
    size = (2, 2)
    assert pixel(Image.new("L", size, 77)) == [77, 77, 77]
    assert pixel(Image.new("1", size, 1)) == [255, 255, 255]
    palette = Image.new("P", size, 3)
    palette.putpalette([0] * 9 + [9, 8, 7])
    assert pixel(palette) == [9, 8, 7]
    assert pixel(Image.new("CMYK", size, (0, 255, 255, 0)), "TIFF") == [255, 0, 0]
    # On white: 255 + (0 - 255) * 51 / 255 = 204.
    assert pixel(Image.new("RGBA", size, (0, 255, 0, 51))) == [204, 255, 204]
    assert pixel(Image.new("RGBA", size, (1, 2, 3, 0))) == [255, 255, 255]
    assert pixel(Image.new("LA", size, (0, 51))) == [204, 204, 204]
    assert pixel(palette, transparency=3) == [255, 255, 255]
    assert pixel(Image.new("RGB", size, (9, 8, 7)), transparency=(9, 8, 7)) == [255, 255, 255]
    assert pixel(Image.new("L", size, 9), transparency=9) == [255, 255, 255]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (128, 0), (129, 1), (257, 1), (32896, 128), (65535, 255)])
def test_sixteen_bits_are_scaled_and_not_cut_off(form: str, value: int, expected: int) -> None:
    grey = Image.fromarray(np.full((2, 2), value, dtype=np.uint16))
    assert pixel(grey, form) == [expected] * 3


def test_sixteen_bits_of_colour_are_scaled() -> None:
    rows = (b"\0" + struct.pack(">HHH", 65535, 32896, 257) * 2) * 2
    loaded = load_picture(png(2, 2, rows, depth=16), POLICY)
    assert loaded[0, 0].tolist() == [255, 128, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_known_range_are_invalid(dtype: type[np.generic]) -> None:
    with pytest.raises(InvalidMedia, match="8 bits a channel"):
        load_picture(encode(Image.fromarray(np.ones((2, 2), dtype=dtype)), "TIFF"), POLICY)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    assert pixel(frames[0], form, save_all=True, append_images=frames[1:], **options) == [255, 0, 0]


def png(width: int, height: int, rows: bytes, depth: int = 8) -> bytes:
    """A PNG of RGB pixels by hand, whatever its head says."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@functools.cache
def bombs() -> dict[str, bytes]:
    huge = struct.pack("<HH", 60_000, 60_000)
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + b"\xff\x3f\0" * 2
    lossless = b"VP8L" + struct.pack("<IBI", 5, 0x2F, 16383 | 16383 << 14)
    lossy = b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)
    webp = {
        f"webp {name.decode().strip()}": b"RIFF" + struct.pack("<I", 4 + len(body) + 4) + b"WEBP" + body + b"\0" * 4
        for name, body in ((b"VP8X", vp8x), (b"VP8L", lossless), (b"VP8", lossy))
    }
    return {
        "png": png(60_000, 60_000, b"\0" * 1000),
        # Were it decoded first, it would be found to be cut off.
        "png without its pixels": png(8_000, 8_000, b"\0"),
        "png beyond Pillow": png(2**30, 2**30, b"\0"),
        "png that is really large": png(6_500, 6_500, b"\0" * 6_500 * 19_501),
        "gif": b"GIF89a" + huge + b"\0\0\0," + b"\0" * 4 + huge + b"\0\2\0\0;",
        "gif with a large frame": b"GIF89a\1\0\1\0\0\0\0," + b"\0" * 4 + huge + b"\0\2\0\0;",
        "bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        **webp,
    }


@pytest.mark.parametrize("name", bombs())
def test_pictures_that_unfold_to_too_many_pixels_are_refused_at_once(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(MediaRefused, match="image: the width times the height is more than"):
        load_picture(bombs()[name], POLICY)
    assert time.perf_counter() - start < 1.0


def test_a_jpeg_of_countless_scans_is_refused_at_once() -> None:
    whole = encode(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    assert load_picture(whole, POLICY).shape == (2000, 2000, 3)
    with pytest.raises(MediaRefused, match="more than 64 scans"):
        load_picture(whole[:-2] + whole[last:-2] * 1000 + whole[-2:], POLICY)


def test_pixels_are_bounded_exactly() -> None:
    content = encode(Image.fromarray(PICTURE), "PNG")
    assert load_picture(content, MediaPolicy(max_pixels=35)).shape == (5, 7, 3)
    for source in (content, Image.fromarray(PICTURE)):
        with pytest.raises(MediaRefused, match="max_pixels=34"):
            load_picture(source, MediaPolicy(max_pixels=34))


def noise(form: str) -> bytes:
    return encode(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), form)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_pictures_that_are_cut_off_are_invalid(form: str, part: float) -> None:
    whole = noise(form)
    with pytest.raises(InvalidMedia):
        load_picture(whole[: int(len(whole) * part)], POLICY)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_broken_pictures_raise_no_other_error(form: str) -> None:
    rng = np.random.default_rng(1)
    whole = np.frombuffer(noise(form), dtype=np.uint8)
    for _ in range(60):
        broken = whole.copy()
        # The head is where the lies hurt most.
        places = rng.integers(4, min(len(whole), 400), size=4)
        broken[places] = rng.integers(0, 256, size=4)
        try:
            load_picture(broken.tobytes(), POLICY)
        except (InvalidMedia, MediaRefused):
            continue
