"""What transformers' processors have of their own, read from them without importing transformers.

Most processors put one text in the place of each placeholder, whatever stands around it. Here is what is left: those
that write a beginning of text behind the pictures, or change the text between pictures; which sizes they resize to; how
they want to be told when a video's frames are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from ..errors import InvalidMedia, TemplateMismatch
from ..messages import MediaKind
from .processor import DecodedMedia
from .streams import MediaSampling, Video

PARTS: dict[MediaKind, tuple[str, ...]] = {
    "image": ("image_processor",),
    "video": ("video_processor",),
    "audio": ("feature_extractor", "audio_processor"),
}
_MILLISECONDS = 1000
# Stands in no chat template and in no medium's text.
_MARK = "\N{ASTERISM}"


def is_kind(processor: object, name: str) -> bool:
    """Whether a processor is of a class of this name, or derived from it."""
    return any(each.__name__ == name for each in type(processor).__mro__)


def part_for(processor: object, kind: MediaKind) -> Any:  # noqa: ANN401  # transformers' parts are untyped
    """Return what a processor has for a kind of media, or None; what only stands in for a part does not count."""
    parts = [part for name in PARTS[kind] if (part := getattr(processor, name, None)) is not None]
    return next((part for part in parts if not getattr(part, "stands_in", False)), None)


def read_sampling(processor: object) -> MediaSampling:
    """Return which frames and how many samples a second a processor wants."""
    sound, video = part_for(processor, "audio"), part_for(processor, "video")
    rate = _number(sound, "sampling_rate") or MediaSampling.sample_rate
    fps, num_frames = _number(video, "fps"), _number(video, "num_frames")
    most = _number(video, "max_frames")
    if num_frames and not fps:
        return MediaSampling(fps=None, num_frames=int(num_frames), sample_rate=int(rate))
    # Where both are given, as for SmolVLM, the number is the most.
    most = most or num_frames
    return MediaSampling(fps=fps or MediaSampling.fps, max_frames=int(most) if most else None, sample_rate=int(rate))


def _number(part: object, name: str) -> float | None:
    value = getattr(part, name, None)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


def check_sounds(processor: Any, media: Sequence[DecodedMedia]) -> None:  # noqa: ANN401  # untyped
    """Refuse sounds that a processor would cut without a word.

    Raises:
        InvalidMedia: one is longer than the model hears.
    """
    extractor = part_for(processor, "audio")
    most = _number(extractor, "n_samples")
    defaults = getattr(getattr(processor, "valid_processor_kwargs", None), "_defaults", {})
    if most is None or defaults.get("audio_kwargs", {}).get("truncation") is False:
        return
    for each in media:
        length = len(each.content) if isinstance(each.content, np.ndarray) else 0
        if each.kind == "audio" and length > most:
            rate = extractor.sampling_rate
            raise InvalidMedia(
                f"audio: {length / rate:g} seconds; the model hears {most / rate:g} at most: give it in pieces"
            )


class Timing(TypedDict):
    """What transformers' VideoMetadata holds."""

    total_num_frames: int
    fps: float
    frames_indices: list[int]
    duration: float
    width: int
    height: int


def timing_of(video: Video, fps: float | None) -> Timing:
    """Return a video's metadata in the words of transformers: indices of frames, and how many of them a second.

    Args:
        video: its frames, and when they are shown.
        fps: of a video with a single frame.
    """
    count = len(video.seconds)
    steps = np.diff(video.seconds)
    rate = 1 / float(steps.mean()) if count > 1 and steps.mean() > 0 else float(fps or 1.0)
    first = float(video.seconds[0])
    indices = np.arange(count) if not first else video.seconds * rate
    if not np.allclose(np.asarray(indices) / rate, video.seconds, atol=1e-6):
        # Of uneven steps: counted as frames of a millisecond, and as many in all as make the mean rate.
        indices, total = video.seconds * _MILLISECONDS, round(count * _MILLISECONDS / rate)
        rate = float(_MILLISECONDS)
    else:
        total = count
    height, width = video.frames.shape[1:3]
    return {
        "total_num_frames": total,
        "fps": rate,
        "frames_indices": [round(float(each)) for each in indices],
        "duration": total / rate,
        "width": width,
        "height": height,
    }


def frames_a_second(media: Sequence[DecodedMedia], timings: Sequence[Timing]) -> float:
    """Return the one rate of a row's videos, for processors that take a single one.

    Raises:
        TemplateMismatch: they differ.
    """
    rates = [
        len(each.content.seconds) / timing["duration"]
        for each, timing in zip((each for each in media if each.kind == "video"), timings, strict=True)
        if isinstance(each.content, Video)
    ]
    if max(rates) - min(rates) > 1e-3 * max(rates):
        raise TemplateMismatch(
            f"the videos of one row have {min(rates):g} to {max(rates):g} frames a second; "
            "the model takes one rate for all"
        )
    return rates[0]


def settle_for(processor: Any) -> Callable[[str], str] | None:  # noqa: ANN401  # untyped
    """Return what a processor does to a whole text around its pictures, if it does."""
    if not is_kind(processor, "Idefics2Processor"):
        return None
    edge = str(processor.fake_image_token)
    attached = re.compile(re.escape(edge) + r"(?=[^\s<])")

    def settle(text: str) -> str:
        """Let adjacent pictures share an edge, and put a space between a picture and a word."""
        return attached.sub(lambda found: found.group() + " ", text.replace(edge * 2, edge))

    return settle


def question_for(processor: Any, placeholders: Mapping[MediaKind, str], kinds: Sequence[MediaKind]) -> str:  # noqa: ANN401  # untyped
    """Return the text whose placeholders a processor is to fill, each between two marks.

    Raises:
        TemplateMismatch: the model takes fewer media.
    """
    if is_kind(processor, "Florence2Processor"):
        if len(kinds) > 1:
            raise TemplateMismatch(f"the conversation has {len(kinds)} pictures; the model takes one")
        # It puts its placeholder in front of every text itself.
        return ""
    around = dict.fromkeys(kinds, ("", ""))
    if "video" in around and isinstance(start := getattr(processor, "video_start_id", None), int):
        # GLM writes videos with the token of pictures, and tells them apart by what stands around them.
        around["video"] = tuple(processor.tokenizer.convert_ids_to_tokens([start, processor.video_end_id]))
    return "".join(f"{around[kind][0]}{_MARK}{placeholders[kind]}{_MARK}{around[kind][1]}" for kind in kinds)


def texts_in(processor: Any, filled: str, count: int) -> tuple[str, ...]:  # noqa: ANN401  # untyped
    """Return what stands for each medium in a filled text, without what belongs to the text behind it.

    Raises:
        TemplateMismatch: there are other texts than one for each of `count` media.
    """
    texts = filled.split(_MARK)[1::2]
    if is_kind(processor, "Florence2Processor"):
        texts = [filled.partition(str(processor.tokenizer.bos_token))[0]]
    elif is_kind(processor, "PaliGemmaProcessor"):
        # It begins the text behind the last picture; here the family does.
        texts = [each.removesuffix(str(processor.tokenizer.bos_token)) for each in texts]
    elif is_kind(processor, "Idefics2Processor"):
        texts = [each.rstrip(" ") for each in texts]
    if len(texts) != count:
        raise TemplateMismatch(f"the processor writes {len(texts)} texts for {count} media")
    return tuple(texts)


def sizes_seen(
    processor: Any,  # noqa: ANN401  # untyped
    media: Sequence[DecodedMedia],
    arrays: Mapping[str, npt.NDArray[np.generic]],
) -> tuple[tuple[int, int] | None, ...]:
    """Return the (width, height) to which each picture is resized as a whole; None where it is cut, padded or tiled."""
    pictures = [index for index, each in enumerate(media) if each.kind == "image"]
    sizes: list[tuple[int, int] | None] = [None] * len(media)
    for index, size in zip(pictures, _picture_sizes(processor, len(pictures), arrays), strict=False):
        sizes[index] = size
    return tuple(sizes)


def _picture_sizes(
    processor: Any,  # noqa: ANN401  # untyped
    count: int,
    arrays: Mapping[str, npt.NDArray[np.generic]],
) -> list[tuple[int, int]]:
    part = part_for(processor, "image")
    if "image_grid_thw" in arrays:
        side = int(part.patch_size)
        return [(int(width) * side, int(height) * side) for _, height, width in arrays["image_grid_thw"].tolist()]
    if is_kind(processor, "PixtralProcessor"):
        return [(int(width), int(height)) for height, width in arrays["image_sizes"].tolist()]
    pixels, size = arrays.get("pixel_values"), getattr(part, "size", None)
    cut = any(getattr(part, name, None) for name in ("do_center_crop", "do_pad"))
    if pixels is None or pixels.ndim != 4 or len(pixels) != count or cut or not size or not size.get("height"):
        return []
    return [(int(pixels.shape[3]), int(pixels.shape[2]))] * count
