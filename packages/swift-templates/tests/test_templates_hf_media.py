"""Media through transformers' own processors, built tiny: the tokens and arrays are what the processor itself makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swift_templates.errors import TemplateMismatch
from swift_templates.media.policy import MediaPolicy
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder

transformers = pytest.importorskip("transformers")
pytest.importorskip("PIL")
hf = pytest.importorskip("swift_templates.hf")

BASE = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}{{ IMAGE }}{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Build = Callable[[Any], Any]


def llava(tokenizer: Any) -> Any:  # noqa: ANN401  # transformers' processors are untyped
    return transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def llava_next(tokenizer: Any) -> Any:  # noqa: ANN401
    return transformers.LlavaNextProcessor(
        transformers.LlavaNextImageProcessor(
            size={"shortest_edge": 16}, crop_size=16, image_grid_pinpoints=[[32, 16], [16, 32]]
        ),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def qwen2_vl(tokenizer: Any) -> Any:  # noqa: ANN401
    class Images(transformers.Qwen2VLProcessor):  # type: ignore[misc,name-defined]  # untyped
        # Its video processor needs torchvision; pictures do not.
        def check_argument_for_proper_class(self, *_: object) -> None:
            """Take what there is."""

    images = transformers.Qwen2VLImageProcessor(min_pixels=784, max_pixels=3136)
    return Images(image_processor=images, tokenizer=tokenizer, video_processor=None)


def idefics3(tokenizer: Any) -> Any:  # noqa: ANN401
    for name, text in (
        ("image", "<image>"),
        ("fake_image", "<fake_token_around_image>"),
        ("global_image", "<global-img>"),
        ("end_of_utterance", "<end_of_utterance>"),
    ):
        setattr(tokenizer, f"{name}_token", text)
        setattr(tokenizer, f"{name}_token_id", tokenizer.convert_tokens_to_ids(text))
    images = transformers.Idefics3ImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    return transformers.Idefics3Processor(images, tokenizer, image_seq_len=4)


KINDS: dict[str, tuple[Build, str, tuple[str, ...]]] = {
    "llava": (llava, "<image>\n", ("<image>",)),
    "llava_next": (llava_next, "<image>\n", ("<image>",)),
    "qwen2_vl": (
        qwen2_vl,
        "<|vision_start|><|image_pad|><|vision_end|>",
        ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    ),
    "idefics3": (
        idefics3,
        "<image>",
        ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"),
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(kind: str, tmp_path: Path) -> tuple[Template, Any]:
    """The template of a tiny model, and its processor."""
    build, image, special = KINDS[kind]
    write_tiny_folder(tmp_path, chat_template=CHAT.replace("IMAGE", repr(image)), special_tokens=(*BASE, *special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    processor = build(tokenizer)
    media = hf.HfMedia(processor, {"default": CHAT.replace("IMAGE", repr(image))})
    return Template.from_folder(tmp_path, media=media), processor


def picture(width: int, height: int, seed: int = 0) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Media(kind="image", source=pixels)


def two_rounds() -> Conversation:
    first, second, third = picture(60, 40), picture(20, 90, 1), picture(33, 33, 2)
    return Conversation(
        messages=(
            Message(
                role="user",
                content="Which is redder?\nSay.",
                media=(first, dataclasses.replace(second, at=17)),
            ),
            Message(role="assistant", content="The first."),
            Message(role="user", content="And this?", media=(dataclasses.replace(third, at=9),)),
            Message(role="assistant", content="No."),
        )
    )


def test_tokens_and_arrays_are_those_of_the_processor(made: tuple[Template, Any]) -> None:
    template, processor = made
    conversation = two_rounds()
    [sample] = template.encode(conversation)
    pictures = [each.source for message in conversation.messages for each in message.media]
    said: list[list[str | None]] = [
        [None, "Which is redder?\n", None, "Say."], ["The first."], ["And this?", None], ["No."]
    ]  # fmt: skip
    messages = [
        {
            "role": message.role,
            "content": [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts],
        }
        for message, parts in zip(conversation.messages, said, strict=True)
    ]
    text = processor.tokenizer.apply_chat_template(
        messages, chat_template=template._renderer._templates["default"].source, tokenize=False
    )
    expected = processor(text=[text.removesuffix("\n")], images=pictures, return_tensors="np")
    assert sample.input_ids.tolist() == np.asarray(expected["input_ids"])[0].tolist()
    for name, array in expected.items():
        if name not in ("input_ids", "attention_mask"):
            assert np.array_equal(sample.media[name], array), name


def test_answers_are_trained_and_nothing_of_the_pictures(made: tuple[Template, Any]) -> None:
    template, _ = made
    [sample] = template.encode(two_rounds())
    trained = sample.input_ids[sample.labels >= 0].tolist()
    assert template.tokenizer.decode(trained) == "The first.<|im_end|>No.<|im_end|>"


def test_a_prompt_holds_the_pictures_up_to_it(made: tuple[Template, Any]) -> None:
    template, _ = made
    conversation = two_rounds()
    [sample] = template.encode(conversation)
    prompt = template.encode_prompt(dataclasses.replace(conversation, messages=conversation.messages[:1]))
    assert sample.input_ids[: len(prompt.input_ids)].tolist() == prompt.input_ids
    assert set(prompt.media) == set(sample.media)
    assert prompt.media["pixel_values"].size < sample.media["pixel_values"].size


def test_text_like_a_placeholder_is_text(made: tuple[Template, Any], kind: str) -> None:
    template, _ = made
    placeholder = next(iter(template._media._processor.placeholders.values()))  # type: ignore[union-attr]  # it has one
    message = Message(role="user", content=f"Is {placeholder} here?", media=(picture(20, 20),))
    plain = Conversation(messages=(message, Message(role="assistant", content="Yes.")))
    [sample] = template.encode(plain)
    [other] = template.encode(
        dataclasses.replace(plain, messages=(dataclasses.replace(message, content="Is it here?"), plain.messages[1]))
    )
    token = template.tokenizer.special_ids[placeholder]
    assert (sample.input_ids == token).sum() == (other.input_ids == token).sum() > 0


def test_templates_with_media_keep_the_laws(made: tuple[Template, Any]) -> None:
    check_template(made[0])
    check_template(made[0], [two_rounds()])


def test_a_folder_with_a_processor_is_loaded_whole(tmp_path: Path) -> None:
    build, image, special = KINDS["llava"]
    write_tiny_folder(tmp_path, chat_template=CHAT.replace("IMAGE", repr(image)), special_tokens=(*BASE, *special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    build(tokenizer).save_pretrained(tmp_path)
    template = hf.load_template(tmp_path, media_policy=MediaPolicy.trusted([tmp_path]))
    [sample] = template.encode(two_rounds())
    assert sample.media["pixel_values"].shape == (3, 3, 16, 16)


def test_a_model_without_media_and_a_kind_that_it_lacks_are_refused(made: tuple[Template, Any], tmp_path: Path) -> None:
    template, _ = made
    sound = Message(role="user", content="", media=(Media(kind="audio", source=np.zeros(10, dtype=np.float32)),))
    with pytest.raises(TemplateMismatch, match="media of kind 'audio'; the model takes: image"):
        template.encode_prompt(Conversation(messages=(sound,)))
    write_tiny_folder(tmp_path / "text", chat_template=CHAT.replace("IMAGE", "''"))
    with pytest.raises(TemplateMismatch, match="nothing here shows them"):
        Template.from_folder(tmp_path / "text").encode(two_rounds())
