"""All media of a conversation: what they may be together, and that each stands in a place of its own kind."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_templates.errors import MediaRefused, TemplateMismatch
from swift_templates.media.fetch import fetch
from swift_templates.media.policy import MediaPolicy
from swift_templates.media.processor import DecodedMedia, MediaProcessor, MediaShow, SeenMedia
from swift_templates.media.token_arrays import Numbers
from swift_templates.messages import Conversation, Media, MediaKind, Message
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

IN_ORDER = "{% for part in m.content %}{{ '<%s>' % part.type if part.type != 'text' else part.text }}{% endfor %}"
IMAGES_FIRST = (
    "{% for part in m.content if part.type == 'image' %}<image>{% endfor %}"
    "{% for part in m.content if part.type == 'video' %}<video>{% endfor %}"
    "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
)
VIDEOS_AS_IMAGES = IMAGES_FIRST.replace("<video>", "<image>")


class Named(MediaProcessor):
    """Shows each medium as its kind and its height, or its length."""

    def __init__(self, *, numbers: bool = False) -> None:
        self.placeholders: dict[MediaKind, str] = {"image": "<image>", "video": "<video>", "audio": "<audio>"}
        self._numbers = numbers

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return what stands for them."""
        texts = []
        for kind, content in media:
            frames = getattr(content, "frames", None)
            texts.append(f"[{kind} {np.asarray(content).shape[0] if frames is None else frames.shape[1]}]")
        makers = {"kinds": Numbers((1,), (1,))} if self._numbers else {}
        return SeenMedia(texts=tuple(texts), arrays={}, token_arrays=makers)


def image(height: int, at: int = 0) -> Media:
    return Media(kind="image", source=np.zeros((height, 10, 3), dtype=np.uint8), at=at)


def video(height: int, at: int = 0, frames: int = 2) -> Media:
    return Media(kind="video", source=np.zeros((frames, height, 10, 3), dtype=np.uint8), at=at)


def sound(length: int, at: int = 0) -> Media:
    return Media(kind="audio", source=np.zeros(length, dtype=np.float32), at=at)


def ask(*media: Media) -> Conversation:
    return Conversation(messages=(Message(role="user", content="Which?", media=media),))


def build(folder: Path, body: str, processor: MediaProcessor | None = None) -> Template:
    chat = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
        + body
        + "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    write_tiny_folder(folder, chat_template=chat)
    return Template.from_folder(folder, media=processor or Named())


def show(policy: MediaPolicy, *media: Media) -> None:
    shown = MediaShow(Named(), policy).show(ask(*media))
    assert shown is not None and len(shown.media) == len(media)


def test_each_medium_stands_in_a_place_of_its_kind(tmp_path: Path) -> None:
    made = build(tmp_path, IMAGES_FIRST)
    text = made.render(ask(video(30), image(40), video(50, 3), image(60, 5)), generation_prompt=True)
    assert text == "<|im_start|>user\n[image 40][image 60][video 30][video 50]Which?<|im_end|>\n<|im_start|>assistant\n"


def test_media_in_order_stand_in_order(tmp_path: Path) -> None:
    text = build(tmp_path, IN_ORDER).render(ask(video(30), image(40), video(50, 3)), generation_prompt=True)
    assert "[video 30][image 40]Whi[video 50]ch?" in text


def test_places_are_counted_for_each_kind(tmp_path: Path) -> None:
    made = build(tmp_path, VIDEOS_AS_IMAGES)
    with pytest.raises(TemplateMismatch, match="writes 2 times '<image>' for the conversation's 1 times '<image>' and"):
        made.render(ask(video(30), image(40)), generation_prompt=True)


def test_another_order_is_refused_where_the_model_counts_the_tokens_in_order(tmp_path: Path) -> None:
    made = build(tmp_path, IMAGES_FIRST, Named(numbers=True))
    with pytest.raises(TemplateMismatch, match="in the order <image>, <video>, and the conversation has them"):
        made.render(ask(video(30), image(40)), generation_prompt=True)
    assert "[image 40][video 30]" in made.render(ask(image(40), video(30)), generation_prompt=True)


def test_media_of_a_conversation_are_counted_before_one_is_loaded() -> None:
    policy = MediaPolicy(max_media=2)
    show(policy, image(5), sound(5))
    with pytest.raises(MediaRefused, match=r"has 3 pictures, videos and sounds, more than max_media=2; give fewer"):
        show(policy, Media(kind="image", source=b"broken"), image(5), sound(5))


def test_pixels_of_pictures_and_videos_are_counted_together() -> None:
    policy = MediaPolicy(max_pixels=1000, max_video_pixels=1000, max_total_pixels=1000)
    show(policy, image(30), video(15, frames=2), image(40))  # 300 + 300 + 400
    for media in ((image(30), video(15), image(41)), (image(71), video(15)), (image(50), image(50), image(1))):
        with pytest.raises(MediaRefused, match=r"media before it, is more than max_total_pixels=1000; give fewer"):
            show(policy, *media)
    with pytest.raises(MediaRefused, match=r"max_pixels=1000; give a smaller one"):
        show(policy, image(101))
    # Each conversation has the whole of it.
    show(policy, image(100))
    show(policy, image(100))


def test_files_are_refused_before_their_pixels_are_made() -> None:
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.new("RGB", (30, 30))
    policy = MediaPolicy(max_total_pixels=1500)
    show(policy, Media(kind="image", source=picture), image(60))
    with pytest.raises(MediaRefused, match="max_total_pixels=1500"):
        show(policy, Media(kind="image", source=picture), Media(kind="image", source=picture))


def test_samples_of_sounds_are_counted_together() -> None:
    policy = MediaPolicy(max_total_samples=1000)
    show(policy, sound(400), sound(600))
    with pytest.raises(MediaRefused, match="max_total_samples=1000"):
        show(policy, sound(400), sound(601))


def test_time_is_counted_for_all_media_together() -> None:
    with pytest.raises(MediaRefused, match=r"the conversation's media take longer than max_total_s=0; give fewer"):
        show(MediaPolicy(max_total_s=0), image(5))
    policy = MediaPolicy(max_total_s=60.0).for_conversation(2)
    now = time.monotonic()
    assert policy.deadline(5.0) == pytest.approx(now + 5, abs=1.0)
    assert policy.deadline(math.inf) == pytest.approx(now + 60, abs=1.0)
    assert MediaPolicy().deadline(math.inf) == math.inf


def test_a_host_that_does_not_answer_ends_with_the_time_of_all_media() -> None:
    def hang(host: str, port: int) -> Sequence[str]:
        time.sleep(1.0)
        return ()

    policy = MediaPolicy(allow_remote=True, resolver=hang, timeout_s=30.0, max_total_s=0.1)
    begin = time.monotonic()
    with pytest.raises(MediaRefused, match=r"max_total_s=0\.1"):
        show(policy, Media(kind="image", source="http://example.org/a.png"))
    with pytest.raises(MediaRefused):
        fetch("http://example.org/a.png", "image", policy.for_conversation(1))
    assert time.monotonic() - begin < 0.9


def test_the_policy_itself_is_not_used_up() -> None:
    policy = MediaPolicy()
    started = policy.for_conversation(1)
    assert policy.budget is None and started.budget is not None
    assert started == policy and dataclasses.replace(started, budget=None) == policy
