"""Media through transformers' own processors, built tiny: the tokens and arrays are what the processor itself makes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swift_templates.errors import InvalidMedia, InvalidModelFolder, TemplateMismatch
from swift_templates.media.policy import MediaPolicy
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder

transformers = pytest.importorskip("transformers")
image_module = pytest.importorskip("PIL.Image")
hf = pytest.importorskip("swift_templates.hf")
tiny = pytest.importorskip("hf_tiny_processors")

Arrays = Mapping[str, Any]


@pytest.fixture(params=tiny.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(kind: str, tmp_path: Path) -> tuple[Template, Any]:
    """The template of a tiny model, and its processor."""
    return build(kind, tmp_path)


def build(name: str, folder: Path) -> tuple[Template, Any]:
    kind = tiny.KINDS[name]
    processor = kind.build(kind.tokenizer(folder))
    return Template.from_folder(folder, media=hf.HfMedia(processor, {"default": kind.chat})), processor


def picture(width: int, height: int, seed: int = 0) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Media(kind="image", source=pixels)


def sound(length: int, seed: int = 0) -> Media:
    wave = np.random.default_rng(seed).uniform(-1, 1, length)
    return Media(kind="audio", source=wave.astype(np.float32))


def two_rounds(kind: str = "llava") -> Conversation:
    """Three media in two rounds; two of them stand side by side in the second one."""
    first, second, third, fourth = picture(60, 40), picture(20, 90, 1), picture(33, 3, 2), picture(33, 33, 3)
    if not tiny.KINDS[kind].image:
        first, second, third, fourth = sound(9000), sound(16000, 1), sound(700, 2), sound(20000, 3)
    return Conversation(
        messages=(
            Message(
                role="user",
                content="Which is redder?\nSay.",
                media=(first, dataclasses.replace(second, at=17)),
            ),
            Message(role="assistant", content="The first."),
            Message(
                role="user",
                content="And this?",
                media=(dataclasses.replace(third, at=4), dataclasses.replace(fourth, at=4)),
            ),
            Message(role="assistant", content="No."),
        )
    )


def given_to(processor: Any, media: list[Media]) -> dict[str, Any]:  # noqa: ANN401  # transformers is untyped
    """Return media as the processor's own arguments."""
    if media[0].kind == "audio":
        return {"audio": [each.source for each in media], "sampling_rate": 16000}
    images = [image_module.fromarray(each.source) for each in media]
    # The processor's own apply_chat_template hands over the pictures of a conversation in a list of their own.
    return {"images": [images] if "Onevision" in type(processor).__name__ else images}


def ask_processor(processor: Any, template: Template, conversation: Conversation) -> Arrays:  # noqa: ANN401
    """Return what the processor makes of the text that transformers renders."""
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        parts: list[dict[str, str]] = []
        begin = 0
        for medium in message.media:
            parts += [{"type": "text", "text": message.content[begin : medium.at]}] if medium.at > begin else []
            parts.append({"type": medium.kind})
            begin = medium.at
        parts += [{"type": "text", "text": message.content[begin:]}] if begin < len(message.content) else []
        messages.append({"role": message.role, "content": parts})
    text = processor.tokenizer.apply_chat_template(
        messages, chat_template=template._renderer._templates["default"].source, tokenize=False
    )
    media = [each for message in conversation.messages for each in message.media]
    # The line break behind the last answer is no part of a sample.
    written = processor(text=[text.removesuffix("\n")], return_tensors="np", **given_to(processor, media))
    return {name: np.asarray(value) for name, value in written.items()}


def test_tokens_and_arrays_are_those_of_the_processor(made: tuple[Template, Any], kind: str) -> None:
    template, processor = made
    conversation = two_rounds(kind)
    samples = template.encode(conversation)
    expected = ask_processor(processor, template, conversation)
    assert samples[-1].input_ids.tolist() == expected["input_ids"][0].tolist()
    assert set(samples[-1].media) == set(expected) - {"input_ids", "attention_mask"}
    for name, array in samples[-1].media.items():
        assert array.dtype.kind == expected[name].dtype.kind, name
        assert np.array_equal(array, expected[name]), name


def test_each_medium_has_its_own_place_between_those_of_its_neighbours(made: tuple[Template, Any], kind: str) -> None:
    template, _ = made
    conversation = two_rounds(kind)
    sample = template.encode(conversation)[-1]
    places = sample.media_places or ()
    if places == ((0, len(sample)),):
        pytest.skip("a medium without a token of its own")
    assert len(places) == sum(len(message.media) for message in conversation.messages)
    assert all(before[1] <= after[0] for before, after in pairwise(places))
    # No medium reaches over the answer between the rounds.
    answers = sample.labels >= 0
    assert not any(answers[start:end].any() for start, end in places)


def test_a_prompt_is_what_the_processor_makes_of_it(made: tuple[Template, Any], kind: str) -> None:
    template, processor = made
    whole = two_rounds(kind)
    conversation = dataclasses.replace(whole, messages=whole.messages[:1])
    prompt = template.encode_prompt(conversation)
    expected = ask_processor(processor, template, conversation)
    question = expected["input_ids"][0].tolist()
    assert prompt.input_ids[: len(question)] == question
    assert template.decode(prompt.input_ids[len(question) :], skip_special=False) == "\n<|im_start|>assistant\n"
    for name, array in prompt.media.items():
        # What says something about each token goes on for the generation prompt.
        assert np.array_equal(array[:, : len(question)] if "type_ids" in name or "cross" in name else array,
                              expected[name]), name  # fmt: skip
    [sample] = template.encode(dataclasses.replace(whole, messages=whole.messages[:2]))
    assert sample.input_ids[: len(prompt.input_ids)].tolist() == prompt.input_ids


def test_answers_are_trained_and_nothing_of_the_media(made: tuple[Template, Any], kind: str) -> None:
    template, _ = made
    trained = [template.decode(each.input_ids[each.labels >= 0], skip_special=False) for each in
               template.encode(two_rounds(kind))]  # fmt: skip
    assert "".join(trained) == "The first.<|im_end|>No.<|im_end|>"
    # Between one picture and several, LLaVA-OneVision changes what it makes of each; here there are several in both.
    assert len(trained) == 1


def test_text_like_a_placeholder_is_text(made: tuple[Template, Any], kind: str) -> None:
    template, _ = made
    medium = picture(20, 20) if tiny.KINDS[kind].image else sound(3000)
    placeholder = template._media._processor.placeholders[medium.kind]  # type: ignore[union-attr]  # it has one
    message = Message(role="user", content=f"Is {placeholder} here?", media=(medium,))
    plain = Conversation(messages=(message, Message(role="assistant", content=f"Yes, {placeholder}.")))
    [sample] = template.encode(plain)
    [other] = template.encode(
        Conversation(
            messages=(
                dataclasses.replace(message, content="Is it here?"),
                Message(role="assistant", content="Yes, it."),
            )
        )
    )
    for token in [template.tokenizer.special_ids[each] for each in tiny.KINDS[kind].special]:
        assert (sample.input_ids == token).sum() == (other.input_ids == token).sum()
    assert placeholder in template.decode(sample.input_ids)


def test_templates_with_media_keep_the_laws(made: tuple[Template, Any], kind: str) -> None:
    check_template(made[0], [two_rounds(kind)])


@pytest.mark.parametrize("name", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_pictures_and_sounds_stand_in_one_row(name: str, tmp_path: Path) -> None:
    template, processor = build(name, tmp_path)
    kind = tiny.KINDS[name]
    heard, seen, more = sound(9000), picture(60, 40), sound(16000, 1)
    messages = (
        Message(role="user", content="Who?", media=(heard, seen, dataclasses.replace(more, at=4))),
        Message(role="assistant", content="He."),
    )
    [sample] = template.encode(Conversation(messages=messages))
    text = f"<|im_start|>user\n{kind.audio}{kind.image}Who?{kind.audio}<|im_end|>\n<|im_start|>assistant\nHe.<|im_end|>"
    arguments = {**given_to(processor, [heard, more]), **given_to(processor, [seen])}
    expected = processor(text=[text], return_tensors="np", **arguments)
    assert sample.input_ids.tolist() == expected["input_ids"][0].tolist()
    assert set(sample.media) == set(expected) - {"input_ids", "attention_mask"}
    for key, array in sample.media.items():
        assert np.array_equal(array, expected[key]), key


def test_a_lone_picture_is_taken_apart_and_the_dialogue_with_more_of_them_branches(tmp_path: Path) -> None:
    template, processor = build("llava_onevision", tmp_path)
    talk = Conversation(
        messages=(
            Message(role="user", content="Red?", media=(picture(60, 20),)),
            Message(role="assistant", content="Yes."),
            Message(role="user", content="And?", media=(picture(20, 20),)),
            Message(role="assistant", content="No."),
        )
    )
    first, second = template.encode(talk)
    for sample, count in ((first, 2), (second, 4)):
        expected = ask_processor(processor, template, dataclasses.replace(talk, messages=talk.messages[:count]))
        assert sample.input_ids.tolist() == expected["input_ids"][0].tolist()
        assert np.array_equal(sample.media["pixel_values"], expected["pixel_values"])
    image = template.tokenizer.special_ids["<image>"]
    # By hand: 4 tokens of the whole, 2 x 4 of two tiles, 2 line ends; then 4 and a line end for each of two.
    assert [(each.input_ids == image).sum() for each in (first, second)] == [4 + 8 + 2, 2 * 5]


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("qwen2_vl", (56, 28)), ("qwen3_vl", (64, 32)), ("glm4v", (56, 28)), ("gemma3", (16, 16)),
        ("pixtral", (32, 24)), ("llava", None), ("internvl", None), ("mllama", None),
    ],
)  # fmt: skip
def test_the_size_that_the_model_sees_is_told_where_it_sees_the_whole(
    kind: str, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    template, _ = build(kind, tmp_path)
    shown = template._media.show(two_rounds(kind))
    assert shown is not None
    assert shown.placed.seen.resized[0] == size
    assert len(shown.placed.seen.resized) == 4


def test_sounds_are_resampled_to_what_the_model_hears(tmp_path: Path) -> None:
    kind = tiny.KINDS["qwen2_audio"]
    tokenizer = kind.tokenizer(tmp_path)
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=2, sampling_rate=8000)
    media = hf.HfMedia(transformers.Qwen2AudioProcessor(extractor, tokenizer), {"default": kind.chat})
    assert media.sampling.sample_rate == 8000
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    wave = np.sin(np.arange(16000) / 20).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16000)
    template = Template.from_folder(tmp_path, media=media, media_policy=MediaPolicy.trusted([tmp_path]))
    shown = template._media.show(
        Conversation(messages=(Message(role="user", content="", media=(Media(kind="audio", source="a.wav"),)),))
    )
    assert shown is not None
    assert len(shown.media[0].content) == 8000  # type: ignore[arg-type]  # an array


def test_a_sound_that_the_processor_would_cut_is_refused(tmp_path: Path) -> None:
    template, _ = build("qwen2_audio", tmp_path)
    long = Message(role="user", content="", media=(sound(32001),))
    with pytest.raises(InvalidMedia, match=r"2\.00006 seconds; the model hears 2 at most"):
        template.encode_prompt(Conversation(messages=(long,)))


def test_a_folder_with_a_processor_is_loaded_whole(tmp_path: Path) -> None:
    kind = tiny.KINDS["llava"]
    kind.build(kind.tokenizer(tmp_path)).save_pretrained(tmp_path)
    template = hf.load_template(tmp_path, media_policy=MediaPolicy.trusted([tmp_path]))
    [sample] = template.encode(two_rounds())
    assert sample.media["pixel_values"].shape == (4, 3, 16, 16)


@pytest.mark.parametrize("name", ["qwen2_vl", "smolvlm", "glm4v", "internvl", "qwen2_5_omni"])
def test_a_folder_that_wants_videos_is_loaded_for_the_rest_without_torchvision(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("torchvision") is not None:
        pytest.skip("torchvision is there")
    kind = tiny.KINDS[name]
    processor = kind.build(kind.tokenizer(tmp_path))
    # As hubs have them: the parts' configurations in one file, of the processors that need torchvision.
    told = {**processor.image_processor.to_dict(), "processor_class": type(processor).__name__}
    told["image_processor_type"] = told["image_processor_type"].removesuffix("Pil")
    if kind.audio:
        told |= processor.feature_extractor.to_dict()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": name}), encoding="utf-8")
    processor.tokenizer.save_pretrained(tmp_path)
    template = hf.load_template(tmp_path)
    whole, _ = build(name, tmp_path / "whole")
    [sample], [expected] = template.encode(two_rounds(name)), whole.encode(two_rounds(name))
    assert sample.media["pixel_values"].shape == expected.media["pixel_values"].shape
    film = Media(kind="video", source=np.zeros((2, 28, 28, 3), dtype=np.uint8))
    with pytest.raises(TemplateMismatch, match="media of kind 'video'"):
        template.encode_prompt(Conversation(messages=(Message(role="user", content="", media=(film,)),)))


def test_fingerprints_tell_processors_apart(tmp_path: Path) -> None:
    kind = tiny.KINDS["llava"]
    tokenizer = kind.tokenizer(tmp_path)
    first, same, other = kind.build(tokenizer), kind.build(tokenizer), kind.build(tokenizer)
    other.image_processor.crop_size = {"height": 8, "width": 8}
    made = [hf.HfMedia(each, {"default": kind.chat}).fingerprint for each in (first, same, other)]
    assert made[0] == made[1] != made[2]


def test_a_model_without_media_and_a_kind_that_it_lacks_are_refused(tmp_path: Path) -> None:
    template, processor = build("llava", tmp_path)
    heard = Message(role="user", content="", media=(sound(10),))
    with pytest.raises(TemplateMismatch, match="media of kind 'audio'; the model takes: image"):
        template.encode_prompt(Conversation(messages=(heard,)))
    with pytest.raises(InvalidModelFolder, match="writes no placeholder"):
        hf.HfMedia(processor, {"default": "{{ messages[0].content[1].text }}"})
    with pytest.raises(InvalidModelFolder, match="name a template family"):
        hf.HfMedia(processor, {})
    write_tiny_folder(tmp_path / "text", chat_template=tiny.KINDS["llava"].chat)
    with pytest.raises(TemplateMismatch, match="nothing here shows them"):
        Template.from_folder(tmp_path / "text").encode(two_rounds())
