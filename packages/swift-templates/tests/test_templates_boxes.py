"""Boxes in conversations: written as the model writes them, by control tokens that text cannot hold, and read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.errors import InvalidObjects, TemplateMismatch, UnknownName
from swift_templates.grounding import Objects, PictureSize
from swift_templates.media.processor import DecodedMedia, MediaProcessor, SeenMedia
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|box_start|>", "<|box_end|>",
    "<|object_ref_start|>", "<|object_ref_end|>",
)  # fmt: skip
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ '<|image_pad|>' if part.type == 'image' else part.text }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class TwoTokens(MediaProcessor):
    """Shows each picture as two tokens, at half its size."""

    placeholders = {"image": "<|image_pad|>"}  # noqa: RUF012  # as the base has it

    def see(self, media: Any) -> SeenMedia:  # noqa: ANN401  # decoded media
        """Return them."""
        seen: list[DecodedMedia] = list(media)
        sizes = [(each.content.shape[1] // 2, each.content.shape[0] // 2) for each in seen]  # type: ignore[attr-defined]  # arrays
        return SeenMedia(texts=("<|image_pad|>" * 2,) * len(seen), arrays={}, resized=tuple(sizes))


def picture(width: int, height: int) -> Media:
    return Media(kind="image", source=np.zeros((height, width, 3), dtype=np.uint8))


def talk() -> Conversation:
    return Conversation(
        messages=(
            Message(
                role="user",
                content="Compare. Where is <ref-object>? Say <|box_start|>",
                media=(picture(200, 100), dataclasses.replace(picture(100, 100), at=8)),
            ),
            Message(role="assistant", content="<ref-object><bbox> and <bbox>"),
        ),
        objects=Objects(
            refs=("the dog", "dog"), boxes=((20, 10, 100, 50), (0, 50, 50, 100)), units="real", image_ids=(0, 1)
        ),
    )


def template(folder: Path, **options: Any) -> Template:  # noqa: ANN401  # options of a test
    write_tiny_folder(folder, chat_template=CHAT, special_tokens=SPECIAL)
    return Template.from_folder(folder, TemplateArgs(**options), media=TwoTokens())


def test_boxes_are_control_tokens_and_look_alikes_are_text(tmp_path: Path) -> None:
    made = template(tmp_path, box_notation="qwen2_vl")
    [sample] = made.encode(talk())
    assert made.decode(sample.input_ids, skip_special=False) == (
        "<|im_start|>user\n<|image_pad|><|image_pad|>Compare.<|image_pad|><|image_pad|> Where is "
        "<|object_ref_start|>the dog<|object_ref_end|>? Say <|box_start|><|im_end|>\n<|im_start|>assistant\n"
        "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(100,100),(500,500)<|box_end|> and "
        "<|box_start|>(0,500),(500,999)<|box_end|><|im_end|>"
    )
    assert (sample.input_ids == made.tokenizer.special_ids["<|box_start|>"]).sum() == 2
    answer = sample.input_ids[sample.labels >= 0].tolist()
    found = made.parse_boxes(answer, PictureSize(200, 100)).found
    assert found[0].label == "dog" and found[0].shape.x1 == pytest.approx(20, abs=0.2)  # type: ignore[union-attr]  # a box


def test_the_size_that_the_model_sees_counts_where_the_notation_wants_it(tmp_path: Path) -> None:
    made = template(tmp_path, box_notation="qwen2_5_vl")
    text = made.decode(made.encode(talk())[0].input_ids)
    assert "[10, 5, 50, 25]" in text and "[0, 25, 25, 50]" in text


def test_the_models_own_type_names_its_notation(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path, chat_template=CHAT, special_tokens=SPECIAL)
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    made = Template.from_folder(tmp_path, media=TwoTokens())
    assert "[100, 100, 500, 500]" in made.decode(made.encode(talk())[0].input_ids)


def test_a_prompt_is_the_beginning_of_the_sample(tmp_path: Path) -> None:
    made = template(tmp_path, box_notation="qwen2_vl")
    [sample] = made.encode(talk())
    asked = dataclasses.replace(
        talk(), messages=talk().messages[:1], objects=Objects(refs=("the dog",), boxes=(), units="real")
    )
    prompt = made.encode_prompt(asked).input_ids
    assert sample.input_ids[: len(prompt)].tolist() == prompt


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateMismatch, match="name one with box_notation"):
        template(tmp_path).encode(talk())
    with pytest.raises(UnknownName, match="qwen2_vl"):
        template(tmp_path, box_notation="qwen2")
    outside = dataclasses.replace(
        talk(), objects=Objects(refs=("a", "b"), boxes=((0, 0, 500, 50), (0, 0, 1, 1)), image_ids=(0, 1))
    )
    with pytest.raises(InvalidObjects, match="box 1"):
        template(tmp_path, box_notation="qwen2_vl").encode(outside)


def test_placeholders_without_objects_are_text(tmp_path: Path) -> None:
    made = template(tmp_path)
    [sample] = made.encode(dataclasses.replace(talk(), objects=None))
    assert "<ref-object><bbox> and <bbox>" in made.decode(sample.input_ids)
