"""Videos and sounds decoded: formats, sampling, bounds, broken files."""

from __future__ import annotations

import io
import math
import struct
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from swift_templates.errors import InvalidMedia, MediaRefused
from swift_templates.media.loading import load_media, load_sound, load_video
from swift_templates.media.policy import MediaPolicy
from swift_templates.media.sniff import sniff
from swift_templates.media.streams import MediaSampling, decode_video
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


def video(
    form: str = "mp4",
    codec: str = "mpeg4",
    frames: int = 10,
    rate: int = 5,
    size: tuple[int, int] = (64, 48),
    step: int = 1,
) -> bytes:
    """A video whose frame i is grey, of the value 20 * (i % 12)."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = stream.codec_context.codec.video_formats[0].name
        for index in range(frames):
            grey = np.full((size[1], size[0], 3), 20 * (index % 12), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = index * step, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def greys(frames: Bytes) -> list[int]:
    """Which frame each one is, by its grey."""
    return [round(float(each.mean()) / 20) for each in frames]


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mov", "mpeg4"),
        ("matroska", "mpeg4"),
        ("avi", "mpeg4"),
        # Frames that are decoded in another order than they are shown; AVI says the former alone.
        ("mp4", "libx264"),
        ("avi", "libx264"),
        ("webm", "libvpx"),
        ("mpegts", "mpeg2video"),
        ("flv", "flv"),
        ("asf", "msmpeg4v3"),
    ],
)
def test_formats_of_videos(form: str, codec: str) -> None:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this PyAV cannot write {codec}")
    rate = 25
    loaded = load_video(video(form, codec, frames=50, rate=rate), POLICY, MediaSampling(fps=5.0))
    # At 0, 0.2, 0.4... seconds frame 0, 5, 10... is on the screen.
    assert loaded.frames.shape == (10, 48, 64, 3) and loaded.frames.dtype == np.uint8
    assert greys(loaded.frames) == [index % 12 for index in range(0, 50, 5)]
    assert np.allclose(loaded.seconds, np.arange(10) / 5)


def test_a_gif_is_a_video_too() -> None:
    frames = [Image.new("RGB", (8, 8), (20 * index,) * 3) for index in range(6)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=500)
    assert greys(load_video(content, POLICY, MediaSampling(fps=1.0)).frames) == [0, 2, 4]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        # Ten frames, five a second: frame i is shown from i/5 to (i+1)/5 seconds.
        (MediaSampling(), [0, 2, 5, 7]),
        (MediaSampling(fps=1.0), [0, 5]),
        (MediaSampling(fps=0.1), [0]),
        (MediaSampling(fps=5.0), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (MediaSampling(fps=10.0), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]),
        (MediaSampling(fps=None), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (MediaSampling(fps=None, num_frames=1), [0]),
        (MediaSampling(fps=None, num_frames=4), [0, 3, 6, 9]),
        (MediaSampling(fps=None, max_frames=2), [0, 9]),
        (MediaSampling(fps=5.0, max_frames=4), [0, 3, 6, 9]),
        (MediaSampling(fps=5.0, max_frames=10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_frames_are_sampled_by_time(sampling: MediaSampling, expected: list[int]) -> None:
    assert greys(load_video(video(), POLICY, sampling).frames) == expected


def test_frames_that_stay_long_are_taken_again() -> None:
    # Frame i is shown from i * 0.6 seconds on.
    loaded = load_video(video("matroska", frames=3, step=3), POLICY, MediaSampling(fps=5.0))
    assert greys(loaded.frames)[:7] == [0, 0, 0, 1, 1, 1, 2]


def test_a_turned_video_stands_upright() -> None:
    plain = video(frames=2)
    # The matrix of the track (ISO/IEC 14496-12, 8.3.2), from "as it is" to a quarter turn clockwise.
    unit = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    place = plain.index(unit, plain.index(b"tkhd"))
    assert load_video(plain, POLICY).frames.shape == (1, 48, 64, 3)
    assert load_video(plain[:place] + turned + plain[place + 36 :], POLICY).frames.shape == (1, 64, 48, 3)


def test_a_quarter_turn_goes_clockwise() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        half = np.zeros((64, 64, 3), dtype=np.uint8)
        half[:32] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(half, format="rgb24")))
        container.mux(stream.encode())
    plain = file.getvalue()
    unit = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    place = plain.index(unit, plain.index(b"tkhd"))
    frame = load_video(plain[:place] + turned + plain[place + 36 :], POLICY).frames[0]
    # x' = 64 - y, y' = x: what was above is to the right.
    assert frame[:, 40:].mean() > 240 and frame[:, :24].mean() < 15


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        (MediaPolicy(max_frames=3), "max_frames=3"),
        (MediaPolicy(max_decoded_frames=9), "max_decoded_frames=9"),
        (MediaPolicy(max_pixels=64 * 48 - 1), "max_pixels=3071"),
        (MediaPolicy(max_video_pixels=4 * 64 * 48 - 1), "max_video_pixels=12287"),
        (MediaPolicy(max_seconds=1.9), r"max_seconds=1\.9"),
        (MediaPolicy(max_decode_s=0), "max_decode_s=0"),
    ],
)
def test_videos_are_bounded(policy: MediaPolicy, limit: str) -> None:
    with pytest.raises(MediaRefused, match=limit):
        load_video(video(), policy)


def test_a_video_at_its_bounds_is_loaded() -> None:
    policy = MediaPolicy(
        max_frames=4, max_decoded_frames=10, max_pixels=64 * 48, max_video_pixels=4 * 64 * 48, max_seconds=2.001
    )
    assert len(load_video(video(), policy).frames) == 4


def test_huge_counts_of_frames_and_long_pauses_are_refused_before_they_are_decoded() -> None:
    many = video("matroska", frames=1000, rate=1000, size=(16, 16))
    long = video("matroska", frames=3, rate=1, step=10**6)
    start = time.perf_counter()
    with pytest.raises(MediaRefused, match="max_decoded_frames=999"):
        load_video(many, MediaPolicy(max_decoded_frames=999))
    with pytest.raises(MediaRefused, match="max_frames=768"):
        load_video(many, POLICY, MediaSampling(fps=1000.0))
    with pytest.raises(MediaRefused, match="max_frames=768"):
        load_video(many, POLICY, MediaSampling(fps=None, num_frames=10**12))
    with pytest.raises(MediaRefused, match="max_seconds"):
        load_video(long, POLICY)
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    ("form", "codec"), [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("avi", "mpeg4"), ("webm", "libvpx")]
)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_videos_that_are_cut_off_are_invalid(form: str, codec: str, part: float) -> None:
    whole = video(form, codec)
    with pytest.raises(InvalidMedia):
        load_video(whole[: int(len(whole) * part)], POLICY)


@pytest.mark.parametrize("form", ["mp4", "matroska", "avi", "flv", "asf", "mpegts"])
def test_broken_videos_raise_no_other_error(form: str) -> None:
    rng = np.random.default_rng(2)
    codecs = {"flv": "flv", "asf": "msmpeg4v3", "mpegts": "mpeg2video"}
    whole = np.frombuffer(video(form, codecs.get(form, "mpeg4")), dtype=np.uint8)
    for _ in range(40):
        broken = whole.copy()
        broken[rng.integers(8, len(whole), size=20)] = rng.integers(0, 256, size=20)
        try:
            load_video(broken.tobytes(), POLICY)
        except (InvalidMedia, MediaRefused):
            continue


def test_a_file_with_sound_alone_is_no_video() -> None:
    with pytest.raises(InvalidMedia, match="no pictures"):
        load_video(sound_in("mp4", "aac"), POLICY)
    with pytest.raises(InvalidMedia, match="no sound"):
        load_sound(video(), POLICY)


RATE = 16_000
TONE = (0.5 * np.sin(2 * math.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def sound(
    samples: NDArray[np.float32] = TONE, rate: int = RATE, form: str = "WAV", subtype: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def sound_in(form: str, codec: str, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
        frame.rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def test_a_sound_comes_as_it_was_stored() -> None:
    loaded = load_media(Media(kind="audio", source=sound(subtype="FLOAT")), POLICY)
    assert loaded.dtype == np.float32 and np.array_equal(loaded, TONE)
    # Steps of 16 and of 24 bits.
    assert np.abs(load_sound(sound(), POLICY) - TONE).max() < 2**-15
    assert np.abs(load_sound(sound(form="FLAC", subtype="PCM_24"), POLICY) - TONE).max() < 2**-23


@pytest.mark.parametrize(
    "content",
    [
        lambda: sound(form="AIFF"),
        lambda: sound(form="OGG", subtype="VORBIS"),
        lambda: sound(form="OGG", subtype="OPUS"),
        lambda: sound(form="MP3"),
        lambda: sound(form="RF64"),
        lambda: sound_in("mp4", "aac"),
        lambda: sound_in("adts", "aac"),
        lambda: sound_in("matroska", "flac"),
        lambda: sound_in("webm", "libopus", rate=48_000),
    ],
    ids=["aiff", "vorbis", "opus", "mp3", "rf64", "m4a", "aac", "mkv", "webm"],
)
def test_formats_of_sounds(content: Callable[[], bytes]) -> None:
    loaded = load_sound(content(), POLICY)
    # Lossy ones pad: a tenth of a second at most. The tone keeps its height and its strength.
    assert len(loaded) + 16 >= RATE and len(loaded) < RATE * 1.15
    middle = loaded[4000:12000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 220  # 440 Hz in half a second
    assert abs(float(np.sqrt(np.mean(middle**2))) - 0.5 / math.sqrt(2)) < 0.02


def test_channels_are_mixed_evenly() -> None:
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    assert np.array_equal(load_sound(sound(stereo, subtype="FLOAT"), POLICY), TONE / 2)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_sounds_are_resampled(rate: int) -> None:
    stored = (0.5 * np.sin(2 * math.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    loaded = load_sound(sound(stored, rate, subtype="FLOAT"), POLICY)
    assert len(loaded) == RATE
    # Away from the ends, where the filter sees silence.
    assert np.abs(loaded - TONE)[1000:-1000].max() < 1e-3


def test_the_length_after_resampling_is_rounded_up() -> None:
    # ceil(1001 * 16000 / 44100) = ceil(363.17).
    assert len(load_sound(sound(TONE[:1001], 44_100), POLICY)) == 364


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        (MediaPolicy(max_samples=RATE - 1), "max_samples=15999"),
        (MediaPolicy(max_seconds=0.99), r"max_seconds=0\.99"),
    ],
)
def test_sounds_are_bounded(policy: MediaPolicy, limit: str) -> None:
    for content in (sound(), sound(form="FLAC"), sound_in("mp4", "aac")):
        with pytest.raises(MediaRefused, match=limit):
            load_sound(content, policy)


def test_a_sound_that_grows_when_resampled_is_bounded() -> None:
    with pytest.raises(MediaRefused, match="max_samples=20000"):
        load_sound(sound(), MediaPolicy(max_samples=20_000), MediaSampling(sample_rate=24_000))


def test_silence_that_packs_well_is_bounded() -> None:
    bomb = sound(np.zeros(3_000_000, dtype=np.float32), 8_000, form="FLAC")
    assert len(bomb) < 60_000
    with pytest.raises(MediaRefused, match="max_samples=1000000"):
        load_sound(bomb, MediaPolicy(max_samples=1_000_000))


@pytest.mark.parametrize("rate", [1, 999, 2_000_000])
def test_impossible_rates_are_invalid(rate: int) -> None:
    with pytest.raises(InvalidMedia, match="samples a second"):
        load_sound(sound(rate=rate), POLICY)


def test_sounds_that_hold_nothing_or_no_numbers_are_invalid() -> None:
    with pytest.raises(InvalidMedia, match="no samples"):
        load_sound(sound(TONE[:0]), POLICY)
    for value in (np.nan, np.inf):
        with pytest.raises(InvalidMedia, match="no numbers"):
            load_sound(sound(np.full(10, value, dtype=np.float32), subtype="FLOAT"), POLICY)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9])
@pytest.mark.parametrize("form", ["WAV", "FLAC", "mp4"])
def test_sounds_that_are_cut_off_are_invalid(form: str, part: float) -> None:
    whole = sound_in("mp4", "aac") if form == "mp4" else sound(form=form)
    with pytest.raises(InvalidMedia):
        load_sound(whole[: max(13, int(len(whole) * part))], POLICY)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_broken_sounds_raise_no_other_error(form: str) -> None:
    rng = np.random.default_rng(3)
    whole = np.frombuffer(sound(form=form), dtype=np.uint8)
    for _ in range(40):
        broken = whole.copy()
        broken[rng.integers(12, 400, size=6)] = rng.integers(0, 256, size=6)
        try:
            load_sound(broken.tobytes(), POLICY)
        except (InvalidMedia, MediaRefused):
            continue


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    segment = tmp_path / "segment.ts"
    segment.write_bytes(video("mpegts", "mpeg2video", rate=25))
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{segment}\n#EXT-X-ENDLIST\n".encode()
    # Left to itself, the library follows it.
    with av.open(io.BytesIO(text), format="hls") as followed:
        assert len(followed.streams.video) == 1
    # It would be refused by its bytes; so it is forced upon the decoder.
    with pytest.raises(InvalidMedia):
        decode_video(text, "hls", POLICY, MediaSampling())


def test_streams_of_unknown_length_are_not_taken_for_cut_off() -> None:
    wav = sound()
    assert sniff(wav[:4] + b"\xff" * 4 + wav[8:], "audio") == "wav"
    mkv = video("matroska")
    place = mkv.index(b"\x18S\x80g") + 4
    assert mkv[place] == 1  # eight bytes
    unknown = mkv[:place] + b"\x01" + b"\xff" * 7 + mkv[place + 8 :]
    assert greys(load_video(unknown, POLICY).frames) == [0, 2, 5, 7]
