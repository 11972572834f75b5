"""Load a picture, a video or a sound, wherever it comes from, as an array.

First its bytes, by the policy's rules; then its format, by the bytes alone; then the decoder of that format.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidMedia, MediaRefused
from ..messages import Media, MediaKind
from .address import scheme_of
from .decode import Picture, decode_picture, is_pillow, picture_from_pillow
from .fetch import fetch
from .policy import MediaPolicy, check_limit
from .sniff import sniff
from .streams import MediaSampling, Video, decode_sound, decode_video

Decoded: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""A picture's uint8 (H, W, 3), a video's uint8 (frames, H, W, 3), or a sound's float32 (samples,)."""

_MAX_DATA_HEAD = 1024


def load_media(media: Media, policy: MediaPolicy, sampling: MediaSampling | None = None) -> Decoded:
    """Load what a message holds.

    Args:
        media: its kind says what it must be, whatever its name or a server says.
        policy: where it may come from, and how large it may be.
        sampling: which frames of a video, and the rate of a sound; by default 2 frames and 16,000 samples a second.

    Returns:
        For 'image' uint8 (H, W, 3); for 'video' uint8 (frames, H, W, 3); for 'audio' float32 (samples,).

    Raises:
        MediaRefused: the policy forbids it.
        InvalidMedia: there is nothing, or it is broken, or something else than it should be.
        MissingDependency: a package of the extra 'media' is needed for it and not installed.
    """
    sampling = sampling or MediaSampling()
    if media.kind == "image":
        return load_picture(media.source, policy)
    if media.kind == "video":
        return load_video(media.source, policy, sampling).frames
    return load_sound(media.source, policy, sampling)


def load_picture(source: object, policy: MediaPolicy) -> Picture:
    """Load a picture as uint8 (H, W, 3); raises as `load_media` does."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise _not_decoded("image", source, "uint8 (H, W, 3)")
        check_limit(policy, "max_pixels", source.shape[0] * source.shape[1], "image: the width times the height")
        return source
    if is_pillow(source):
        return picture_from_pillow(source, policy)  # type: ignore[arg-type]  # just checked, without importing Pillow
    data = read_source(source, "image", policy)
    return decode_picture(data, sniff(data, "image"), policy)


def load_video(source: object, policy: MediaPolicy, sampling: MediaSampling | None = None) -> Video:
    """Load frames of a video, and when they are shown.

    Args:
        source: as in `Media`; or a list of pictures, which are the frames.
        policy: where it may come from, and how large it may be.
        sampling: which frames to take. Decoded ones are taken all, and counted as `fps` a second.

    Raises:
        MediaRefused: the policy forbids it.
        InvalidMedia: there is nothing, or it is broken, or no video.
        MissingDependency: PyAV is not installed.
    """
    sampling = sampling or MediaSampling()
    if isinstance(source, (list, tuple)):
        source = _stack(source, policy)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3 or not source.size:
            raise _not_decoded("video", source, "uint8 (frames, H, W, 3)")
        count, height, width = source.shape[:3]
        check_limit(policy, "max_frames", count, "video: the number of frames")
        check_limit(policy, "max_pixels", height * width, "video: the width times the height")
        check_limit(policy, "max_video_pixels", count * height * width, "video: the pixels of all frames")
        return Video(source, np.arange(count) / (sampling.fps or 1.0))
    data = read_source(source, "video", policy)
    return decode_video(data, sniff(data, "video"), policy, sampling)


def load_sound(source: object, policy: MediaPolicy, sampling: MediaSampling | None = None) -> NDArray[np.float32]:
    """Load a sound as float32 (samples,); raises as `load_media` does. A decoded one has the wanted rate already."""
    sampling = sampling or MediaSampling()
    if isinstance(source, np.ndarray):
        if source.dtype.kind != "f" or source.ndim != 1 or not source.size or not np.isfinite(source).all():
            raise _not_decoded("audio", source, "finite floats (samples,)")
        check_limit(policy, "max_samples", len(source), "audio: the number of samples")
        check_limit(policy, "max_seconds", len(source) / sampling.sample_rate, "audio: its length in seconds")
        return source.astype(np.float32, copy=False)
    data = read_source(source, "audio", policy)
    return decode_sound(data, sniff(data, "audio"), policy, sampling)


def read_source(source: object, kind: MediaKind, policy: MediaPolicy) -> bytes:
    """Get the bytes of a file that is given as bytes, a path, a data: address, or an http(s) address.

    Raises:
        MediaRefused: the policy forbids it.
        InvalidMedia: there is nothing, or `source` is something else.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        check_limit(policy, "max_bytes", memoryview(source).nbytes, f"{kind}: the number of bytes")
        return bytes(source)
    if isinstance(source, os.PathLike):
        return _read_local(os.fsdecode(source), kind, policy)
    if not isinstance(source, str):
        raise InvalidMedia(
            f"{kind}: given as {type(source).__name__}; expected a path, an address, bytes, or what is decoded"
        )
    if source[:5].lower() == "data:":
        return _read_data_address(source, kind, policy)
    scheme = scheme_of(source)
    if scheme is None:
        return _read_local(source, kind, policy)
    if scheme not in ("http", "https"):
        raise MediaRefused(f"{kind}: the scheme of the address is not allowed; use http, https, or send the bytes")
    return fetch(source, kind, policy)


def _read_data_address(address: str, kind: MediaKind, policy: MediaPolicy) -> bytes:
    """Decode base64; also its alphabet for addresses, without the padding, in lines, or with %2B for +.

    Source: RFC 2397, RFC 4648 sections 4 and 5.
    """
    what = f"{kind}: the number of bytes"
    comma = address.find(",", 0, _MAX_DATA_HEAD)
    if comma < 0 or not address[5:comma].lower().rstrip().endswith(";base64"):
        raise InvalidMedia(f"{kind}: the data: address has no ';base64,' near its start; encode the bytes so")
    # A byte is four thirds of a letter, and a letter three where it is written with %.
    check_limit(policy, "max_bytes", (len(address) - comma - 1) // 6, what)
    try:
        letters = unquote_to_bytes(address[comma + 1 :])
    except UnicodeError:
        raise InvalidMedia(f"{kind}: the data: address holds no base64; encode the bytes so") from None
    letters = letters.translate(bytes.maketrans(b"-_", b"+/"), delete=b" \t\r\n").rstrip(b"=")
    check_limit(policy, "max_bytes", len(letters) * 3 // 4, what)
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except binascii.Error:
        raise InvalidMedia(f"{kind}: the data: address holds no base64; encode the bytes so") from None


def _read_local(path: str, kind: MediaKind, policy: MediaPolicy) -> bytes:
    if not policy.roots:
        raise MediaRefused(f"{kind}: local files are not allowed; send the bytes, or set roots in the MediaPolicy")
    # Windows asks a foreign machine as soon as such a path is looked at.
    if path.startswith(("//", "\\\\")):
        raise MediaRefused(f"{kind}: paths to other machines are not allowed; send the bytes")
    roots = [Path(root) for root in policy.roots]
    try:
        real = Path(os.path.realpath(roots[0] / path))
        root = next((each for each in roots if real.is_relative_to(each)), None)
        if root is None:
            raise MediaRefused(
                f"{kind}: the file is not inside of an allowed folder; send the bytes, or add its folder to roots "
                "in the MediaPolicy"
            )
        descriptor = _open_below(root, real.relative_to(root).parts)
        try:
            return _read_file(descriptor, kind, policy)
        finally:
            os.close(descriptor)
    except (MediaRefused, InvalidMedia):
        raise
    except FileNotFoundError:
        raise InvalidMedia(f"{kind}: the file does not exist; check the path") from None
    except (OSError, ValueError):
        # Without its cause, which knows the path.
        raise InvalidMedia(f"{kind}: the file cannot be opened; check the path and its permissions") from None


def _open_below(root: Path, parts: Sequence[str]) -> int:
    """Open a file whose links are resolved already, following none: one made a moment ago leads nowhere."""
    here = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        return os.open(root.joinpath(*parts), here)
    # A pipe without a writer would wait forever.
    flags = here | os.O_NOFOLLOW | os.O_NONBLOCK
    folder = os.open(root, here | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1] if parts else ".", flags, dir_fd=folder)
    finally:
        os.close(folder)


def _read_file(descriptor: int, kind: MediaKind, policy: MediaPolicy) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise MediaRefused(f"{kind}: not a regular file; give one")
    check_limit(policy, "max_bytes", status.st_size, f"{kind}: the number of bytes")
    data = bytearray()
    while block := os.read(descriptor, min(1 << 24, status.st_size - len(data) + 1)):
        data += block
        # It may grow while it is read.
        check_limit(policy, "max_bytes", len(data), f"{kind}: the number of bytes")
        if len(data) > status.st_size:
            raise InvalidMedia(f"{kind}: the file changed while it was read; try again")
    return bytes(data)


def _stack(pictures: Sequence[object], policy: MediaPolicy) -> Picture:
    check_limit(policy, "max_frames", len(pictures), "video: the number of frames")
    frames: list[Picture] = []
    for each in pictures:
        frames.append(load_picture(each, policy))
        if frames[-1].shape != frames[0].shape:
            raise InvalidMedia(f"video: frame {len(frames)} has another size than the first; expected one size for all")
        pixels = len(frames) * frames[0].shape[0] * frames[0].shape[1]
        check_limit(policy, "max_video_pixels", pixels, "video: the pixels of all frames")
    if not frames:
        raise InvalidMedia("video: has no frames; give one at least")
    return np.stack(frames)


def _not_decoded(kind: MediaKind, array: NDArray[np.generic], expected: str) -> InvalidMedia:
    return InvalidMedia(f"{kind}: given as {array.dtype} {array.shape}; expected {expected}, or the bytes of a file")
