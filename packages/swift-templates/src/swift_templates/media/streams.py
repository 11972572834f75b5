"""Videos and sounds to arrays: frames by the time at which they are shown, sounds as one channel at the wanted rate.

A video is walked twice. The first walk counts what is really there, without decoding, since heads lie about length;
the second decodes, and keeps only the frames that were chosen.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidMedia, InvalidMediaPolicy, MediaRefused, SwiftTemplatesError
from .decode import DECODER_FAILURES
from .policy import MediaPolicy, check_limit, need

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SAME_TIME_S = 1e-6  # clocks of files tick in fractions that floats round
_SOUNDFILE = ("wav", "flac", "mp3", "ogg", "aiff")
_ROUNDING_PIXELS = 1 << 20
_MIN_RATE, _MAX_RATE = 1_000, 1_000_000
_BLOCK_SAMPLES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class MediaSampling:
    """Which frames of a video to take, and how many samples a second of a sound.

    Raises:
        InvalidMediaPolicy: a number is not positive, or both `fps` and `num_frames` are given.
    """

    fps: float | None = 2.0
    """Frames a second: the one on the screen at 0, 1/fps, 2/fps...; None, without num_frames: every frame."""
    num_frames: int | None = None
    """Instead of fps=None: so many, evenly from the first to the last frame."""
    max_frames: int | None = None
    """Where there would be more, take so many evenly. (The policy's max_frames refuses instead.)"""
    sample_rate: int = 16_000
    """Samples a second."""

    def __post_init__(self) -> None:
        for name in ("fps", "num_frames", "max_frames", "sample_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidMediaPolicy(f"{name} is {value!r}; expected a positive number")
        if self.fps is not None and self.num_frames is not None:
            raise InvalidMediaPolicy("fps and num_frames are both given; set fps=None to take num_frames")


@dataclass(frozen=True)
class Video:
    """Frames of a video, and when they are shown."""

    frames: NDArray[np.uint8]
    """(frames, H, W, 3), red, green, blue."""
    seconds: NDArray[np.float64]
    """(frames,): the moments that were asked for, from the start of the video."""


@dataclass(frozen=True)
class _Timeline:
    """What the first walk found, in seconds."""

    start: float
    stamps: NDArray[np.float64]
    """(frames,), ascending, the first is 0."""
    duration: float
    ordered: bool
    """Whether frames say when they are shown. In AVI they don't: there, PyAV tells when they are decoded."""


def decode_video(data: bytes, container: str, policy: MediaPolicy, sampling: MediaSampling) -> Video:
    """Decode the chosen frames of a video.

    Args:
        data: the file.
        container: its format, as `sniff` tells.
        policy: has the limits.
        sampling: says which frames.

    Raises:
        MediaRefused: it is too long, has too many frames or pixels, or takes too long to decode.
        InvalidMedia: it is broken, or has no frames.
        MissingDependency: PyAV is not installed.
    """
    deadline = policy.deadline(policy.max_decode_s)
    with _opened(data, container, "video", policy) as opened:
        timeline = _read_timeline(opened, policy, deadline)
    moments = _choose(timeline, policy, sampling)
    with _opened(data, container, "video", policy) as opened:
        return Video(_decode_frames(opened, timeline, moments, policy, deadline), moments)


def decode_sound(data: bytes, container: str, policy: MediaPolicy, sampling: MediaSampling) -> NDArray[np.float32]:
    """Decode a sound, mix its channels evenly, and resample it (soxr, 'HQ').

    Returns:
        float32 (samples,), full scale is -1 to 1.

    Raises:
        MediaRefused: it is too long, or has too many samples.
        InvalidMedia: it is broken, or has no samples.
        MissingDependency: soundfile, PyAV or soxr is not installed, whichever this file needs.
    """
    blocks: list[NDArray[np.float32]] = []
    count, rate = 0, 0
    read = _read_soundfile(data) if container in _SOUNDFILE else _read_av(data, container, policy)
    for rate, channels_CS in read:
        if not _MIN_RATE <= rate <= _MAX_RATE:
            raise InvalidMedia(f"audio: has {rate} samples a second; expected {_MIN_RATE} to {_MAX_RATE}")
        count += channels_CS.shape[1]
        check_limit(policy, "max_samples", count * len(channels_CS), "audio: the number of samples")
        check_limit(policy, "max_seconds", count / rate, "audio: its length in seconds")
        blocks.append(channels_CS.mean(axis=0, dtype=np.float32))
    if not count:
        raise InvalidMedia("audio: has no samples; give a whole file")
    mono = np.concatenate(blocks)
    if not np.isfinite(mono).all():
        raise InvalidMedia("audio: holds values that are no numbers; store it again")
    return _resample(mono, rate, policy, sampling.sample_rate)


def _resample(mono: NDArray[np.float32], rate: int, policy: MediaPolicy, wanted: int) -> NDArray[np.float32]:
    if rate == wanted:
        return mono
    length = math.ceil(len(mono) * wanted / rate)
    check_limit(policy, "max_samples", length, f"audio: the number of samples at {wanted} a second")
    resampled = np.asarray(need("soxr", "audio").resample(mono, rate, wanted, quality="HQ"), dtype=np.float32)
    # The resampler may round the length down.
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


@contextlib.contextmanager
def _opened(data: bytes, container: str, kind: str, policy: MediaPolicy) -> Iterator[InputContainer]:
    """Open a container for PyAV; what goes wrong while it is open is about the file."""
    av = need("av", kind)
    try:
        # The format is told, so that no playlist is guessed; what else a file names is not opened.
        # Decoders round sizes up before they compare; the exact limit is ours, frame by frame.
        options = {"max_pixels": str(min(2 * policy.max_pixels + _ROUNDING_PIXELS, 2**31 - 1))}
        with av.open(io.BytesIO(data), format=container, options=options, io_open=_open_nothing) as opened:
            for stream in opened.streams.video[:1]:
                stream.codec_context.options = options
            yield opened
    except SwiftTemplatesError:
        raise
    except (av.FFmpegError, *DECODER_FAILURES) as error:
        raise InvalidMedia(f"{kind}: the file is broken, cut off, or of a codec that is not known") from error


def _open_nothing(*_: object) -> NoReturn:
    raise PermissionError


def _video_stream(opened: InputContainer, policy: MediaPolicy) -> VideoStream:
    if not opened.streams.video:
        raise InvalidMedia("video: the file has no pictures; give a video")
    stream = opened.streams.video[0]
    _check_pixels(stream.codec_context, policy)
    return stream


def _check_pixels(sized: VideoCodecContext | VideoFrame, policy: MediaPolicy) -> None:
    check_limit(policy, "max_pixels", sized.width * sized.height, "video: the width times the height")


def _check_time(deadline: float, policy: MediaPolicy) -> None:
    if time.monotonic() > deadline:
        raise MediaRefused(
            f"video: takes longer to decode than max_decode_s={policy.max_decode_s}; give a smaller one, "
            "or raise max_decode_s in the MediaPolicy"
        )


def _read_timeline(opened: InputContainer, policy: MediaPolicy, deadline: float) -> _Timeline:
    stream = _video_stream(opened, policy)
    step = 1 / float(stream.average_rate or 25)
    ticks: list[float] = []
    last, ordered = 0.0, opened.format.name != "avi"
    for packet in opened.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.is_corrupt:
            raise InvalidMedia("video: a frame is broken or cut off; give a whole file")
        _check_time(deadline, policy)
        ordered = ordered and packet.pts is not None
        stamp = packet.pts if packet.pts is not None else packet.dts
        ticks.append(len(ticks) * step if stamp is None else float(stamp * packet.time_base))
        last = float((packet.duration or 0) * packet.time_base) or step
        check_limit(policy, "max_decoded_frames", len(ticks), "video: the number of its frames")
        check_limit(policy, "max_seconds", max(ticks[-1] - ticks[0], 0.0), "video: its length in seconds")
    if not ticks:
        raise InvalidMedia("video: has no frames; give a whole file")
    stamps = np.sort(np.array(ticks))
    duration = float(stamps[-1] - stamps[0]) + last
    check_limit(policy, "max_seconds", duration, "video: its length in seconds")
    return _Timeline(float(stamps[0]), stamps - stamps[0], duration, ordered)


def _choose(timeline: _Timeline, policy: MediaPolicy, sampling: MediaSampling) -> NDArray[np.float64]:
    """Give the moments whose frames are taken, ascending."""
    wanted = sampling.num_frames or len(timeline.stamps)
    if sampling.fps is not None:
        wanted = max(1, math.ceil(timeline.duration * sampling.fps - _SAME_TIME_S))
    evenly = sampling.num_frames is not None
    if sampling.max_frames is not None and wanted > sampling.max_frames:
        wanted, evenly = sampling.max_frames, True
    check_limit(policy, "max_frames", wanted, "video: the number of frames to take (choose a lower fps)")
    if evenly:
        return np.linspace(0.0, float(timeline.stamps[-1]), wanted)
    return timeline.stamps if sampling.fps is None else np.arange(wanted) / sampling.fps


def _decode_frames(
    opened: InputContainer, timeline: _Timeline, moments: NDArray[np.float64], policy: MediaPolicy, deadline: float
) -> NDArray[np.uint8]:
    """Take for each moment the frame that is on the screen then: the last that was shown before or at it."""
    _video_stream(opened, policy)
    taken: _Taken | None = None
    shown: VideoFrame | None = None
    for count, frame in enumerate(opened.decode(video=0)):
        _check_time(deadline, policy)
        check_limit(policy, "max_decoded_frames", count + 1, "video: the number of its frames")
        _check_pixels(frame, policy)
        if frame.is_corrupt:
            raise InvalidMedia("video: a frame is broken or cut off; give a whole file")
        if taken is None:
            taken = _Taken(frame, moments, policy)
        if timeline.ordered and frame.time is not None:
            now = frame.time - timeline.start
        else:
            now = float(timeline.stamps[min(count, len(timeline.stamps) - 1)])
        if shown is not None:
            taken.take(shown, until=now)
        if taken.count == len(moments):
            break
        shown = frame
    if taken is None or shown is None:
        raise InvalidMedia("video: no frame can be decoded; give a whole file")
    taken.take(shown, until=math.inf)
    return taken.frames


class _Taken:
    """The frames that are kept, all of the first one's size."""

    def __init__(self, first: VideoFrame, moments: NDArray[np.float64], policy: MediaPolicy) -> None:
        self.count = 0
        self._moments = moments
        self._size = first.width, first.height
        pixels = first.width * first.height * len(moments)
        check_limit(policy, "max_video_pixels", pixels, "video: the pixels of the frames to take")
        self.frames = np.empty((len(moments), *self._to_rgb(first).shape), dtype=np.uint8)

    def take(self, frame: VideoFrame, *, until: float) -> None:
        """Keep a frame for each moment that is left before the next one is shown."""
        end = int(np.searchsorted(self._moments, until - _SAME_TIME_S))
        if end > self.count:
            self.frames[self.count : end] = self._to_rgb(frame)
            self.count = end

    def _to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert a frame, scaled where the video changes its size, and upright."""
        width, height = self._size
        pixels = np.asarray(frame.to_ndarray(format="rgb24", width=width, height=height), dtype=np.uint8)
        return np.rot90(pixels, round(frame.rotation / 90) % 4)


def _read_soundfile(data: bytes) -> Iterator[tuple[int, NDArray[np.float32]]]:
    soundfile = need("soundfile", "audio")
    try:
        with soundfile.SoundFile(_CalledFromC(data)) as opened:
            while len(block := opened.read(_BLOCK_SAMPLES // opened.channels, dtype="float32", always_2d=True)):
                yield opened.samplerate, block.T
    except DECODER_FAILURES as error:
        raise InvalidMedia("audio: the file is broken, cut off, or of a codec that is not known") from error


class _CalledFromC(io.BytesIO):
    """Stays where it is where a broken file leads before the start: an error in libsndfile's call is only printed."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OverflowError, ValueError):
            return self.tell()


def _read_av(data: bytes, container: str, policy: MediaPolicy) -> Iterator[tuple[int, NDArray[np.float32]]]:
    with _opened(data, container, "audio", policy) as opened:
        if not opened.streams.audio:
            raise InvalidMedia("audio: the file has no sound; give one that has")
        resampler = need("av", "audio").AudioResampler(format="fltp")
        for frame in opened.decode(audio=0):
            for each in resampler.resample(frame):
                yield each.sample_rate, np.asarray(each.to_ndarray(), dtype=np.float32)
