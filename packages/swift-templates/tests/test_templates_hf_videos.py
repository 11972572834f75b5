"""Videos through transformers' processors, as far as that goes without torchvision.

The video processors need torchvision, which is not there: a stand-in makes the grids. All else is the real thing: the
texts with the frames' times, the arrays by token, and what the processors are told about the frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swift_templates.errors import TemplateMismatch
from swift_templates.media.hf_processors import read_sampling, timing_of
from swift_templates.media.processor import DecodedMedia
from swift_templates.media.streams import Video
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import check_template

pytest.importorskip("torch")
image_module = pytest.importorskip("PIL.Image")
hf = pytest.importorskip("swift_templates.hf")
video_utils = pytest.importorskip("transformers.video_utils")
tiny = pytest.importorskip("hf_tiny_processors")

KINDS = [name for name, kind in tiny.KINDS.items() if kind.video]


def build(name: str, folder: Path) -> tuple[Template, Any]:
    kind = tiny.KINDS[name]
    processor = kind.build(kind.tokenizer(folder))
    return Template.from_folder(folder, media=hf.HfMedia(processor, {"default": kind.chat})), processor


def film(count: int, side: int, seed: int = 0) -> Media:
    frames = np.random.default_rng(seed).integers(0, 256, (count, 2 * side, 4 * side, 3), dtype=np.uint8)
    return Media(kind="video", source=frames)


def talk(name: str) -> Conversation:
    side = 16 if name == "qwen3_vl" else 14
    picture = np.random.default_rng(5).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    first, second = film(4, side), film(6, side, 1)
    return Conversation(
        messages=(
            Message(role="user", content="Who?", media=(first, Media(kind="image", source=picture, at=4))),
            Message(role="assistant", content="He."),
            Message(role="user", content="And?", media=(second,)),
            Message(role="assistant", content="She."),
        )
    )


@pytest.mark.parametrize("name", KINDS)
def test_tokens_and_arrays_of_videos_are_those_of_the_processor(name: str, tmp_path: Path) -> None:
    template, processor = build(name, tmp_path)
    conversation = talk(name)
    [sample] = template.encode(conversation)
    kind = tiny.KINDS[name]
    text = (
        f"<|im_start|>user\n{kind.video}Who?{kind.image}<|im_end|>\n<|im_start|>assistant\nHe.<|im_end|>\n"
        f"<|im_start|>user\n{kind.video}And?<|im_end|>\n<|im_start|>assistant\nShe.<|im_end|>"
    )
    (first, picture), (second,) = conversation.messages[0].media, conversation.messages[2].media
    told = [
        video_utils.VideoMetadata(total_num_frames=count, fps=2.0, frames_indices=list(range(count)))
        for count in (4, 6)
    ]
    expected = processor(
        text=[text],
        images=[image_module.fromarray(picture.source)],
        videos=[first.source, second.source],
        video_metadata=told,
        do_sample_frames=False,
        fps=2.0,
        return_tensors="pt",
    )
    assert sample.input_ids.tolist() == expected["input_ids"][0].tolist()
    assert set(sample.media) == set(expected) - {"input_ids", "attention_mask", "video_metadata"}
    for key, array in sample.media.items():
        assert np.array_equal(array, np.asarray(expected[key])), key
    check_template(template, [conversation])


def test_the_times_of_frames_stand_in_the_text_where_the_model_reads_them(tmp_path: Path) -> None:
    template, _ = build("qwen3_vl", tmp_path)
    shown = template._media.show(talk("qwen3_vl"))
    assert shown is not None
    # By hand: frames at 0, 0.5, 1 and 1.5 s, two of which are one patch in time; 64 by 32 pixels, two merged patches.
    pads = "<|vision_start|><|video_pad|><|video_pad|><|vision_end|>"
    assert shown.placed.seen.texts[0] == f"<0.2 seconds>{pads}<1.2 seconds>{pads}"


def test_pictures_and_videos_are_told_apart_where_both_are_written_with_one_token(tmp_path: Path) -> None:
    template, _ = build("glm4v", tmp_path)
    [sample] = template.encode(talk("glm4v"))
    types = sample.media["mm_token_type_ids"][0]
    image = template.tokenizer.special_ids["<|image|>"]
    # By hand: 2 x 2 tokens of the first film, 2 of the picture (56 x 28), 3 x 2 of the second film.
    assert types[sample.input_ids == image].tolist() == [2] * 4 + [1] * 2 + [2] * 6


def frames(seconds: list[float]) -> Video:
    return Video(np.zeros((len(seconds), 4, 6, 3), dtype=np.uint8), np.array(seconds))


@pytest.mark.parametrize(
    ("seconds", "fps", "indices", "total"),
    [
        ([0.0, 0.5, 1.0], 2.0, [0, 1, 2], 3),
        ([0.0, 4.0], 0.25, [0, 1], 2),
        ([0.0], 2.0, [0], 1),
        # Uneven: milliseconds, and so many of them that 3 frames in them are one a second on average.
        ([0.0, 0.5, 2.0], 1000.0, [0, 500, 2000], 3000),
    ],
)
def test_what_processors_are_told_of_a_videos_times(
    seconds: list[float], fps: float, indices: list[int], total: int
) -> None:
    told = video_utils.VideoMetadata(**timing_of(frames(seconds), 2.0))
    assert (told.fps, told.frames_indices, told.total_num_frames) == (fps, indices, total)
    assert told.timestamps == pytest.approx(seconds)
    mean = 2.0 if len(seconds) == 1 else (len(seconds) - 1) / seconds[-1]
    assert told.sampled_fps == pytest.approx(mean)
    assert (told.width, told.height) == (6, 4)


def test_frames_are_taken_as_the_processor_wants_them(tmp_path: Path) -> None:
    _, processor = build("qwen2_5_omni", tmp_path)
    sampling = read_sampling(processor)
    assert (sampling.fps, sampling.num_frames, sampling.max_frames, sampling.sample_rate) == (2.0, None, 768, 16000)
    processor.video_processor.fps = None
    processor.video_processor.num_frames = 8
    sampling = read_sampling(processor)
    assert (sampling.fps, sampling.num_frames) == (None, 8)
    assert read_sampling(object()).sample_rate == 16000


def test_videos_of_two_rates_are_refused_where_the_model_takes_one(tmp_path: Path) -> None:
    template, _ = build("qwen2_5_omni", tmp_path)
    processor = template._media._processor
    assert processor is not None
    pixels = np.zeros((2, 28, 56, 3), dtype=np.uint8)
    media = [DecodedMedia("video", Video(pixels, np.array(seconds))) for seconds in ([0.0, 0.5], [0.0, 1.0])]
    with pytest.raises(TemplateMismatch, match="1 to 2 frames a second; the model takes one rate"):
        processor.see(media)
    assert processor.see(media[:1]).arrays["video_second_per_grid"].tolist() == [1.0]
