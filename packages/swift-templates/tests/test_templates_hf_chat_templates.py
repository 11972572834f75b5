"""Chat templates as models have them: those that take texts only as parts, and what is known by an answer's place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.encoded import Encoded
from swift_templates.family import Family, families
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import check_template
from swift_templates.truncation import truncate

transformers = pytest.importorskip("transformers")
image_module = pytest.importorskip("PIL.Image")
hf = pytest.importorskip("swift_templates.hf")
tiny = pytest.importorskip("hf_tiny_processors")


def picture(seed: int = 0) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Media(kind="image", source=pixels)


def talk(first: Media) -> Conversation:
    return Conversation(
        messages=(
            Message(role="user", content="Red?", media=(first,)),
            Message(role="assistant", content="Yes."),
            Message(role="user", content="And <image> now?"),
            Message(role="assistant", content="No."),
        )
    )


@pytest.mark.parametrize("name", ["smolvlm", "idefics3", "idefics2"])
def test_texts_are_parts_where_the_chat_template_knows_nothing_else(name: str, tmp_path: Path) -> None:
    kind = tiny.KINDS[name]
    tokenizer = kind.tokenizer(tmp_path)
    # The one that transformers keeps for these models.
    chat = transformers.models.smolvlm.processing_smolvlm.DEFAULT_CHAT_TEMPLATE
    (tmp_path / "chat_template.jinja").write_text(chat, encoding="utf-8")
    stop = tokenizer.convert_tokens_to_ids("<end_of_utterance>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}), encoding="utf-8")
    processor = kind.build(tokenizer)
    template = Template.from_folder(tmp_path, media=hf.HfMedia(processor, {"default": chat}))
    conversation = talk(picture())
    [sample] = template.encode(conversation)
    trained = template.decode(sample.input_ids[sample.labels >= 0], skip_special=False)
    assert trained == " Yes.<end_of_utterance> No.<end_of_utterance>"
    messages = [
        {"role": each.role, "content": [{"type": "image"}] * len(each.media) + [{"type": "text", "text": said}]}
        for each in conversation.messages
        for said in [each.content.replace("<image>", "it")]
    ]
    text = tokenizer.apply_chat_template(messages, chat_template=chat, tokenize=False)
    image = image_module.fromarray(conversation.messages[0].media[0].source)
    expected = processor(text=[text.removesuffix("\n")], images=[image], return_tensors="np")
    [plain] = template.encode(
        dataclasses.replace(
            conversation,
            messages=(
                *conversation.messages[:2],
                Message(role="user", content="And it now?"),
                conversation.messages[3],
            ),
        )
    )
    assert plain.input_ids.tolist() == expected["input_ids"][0].tolist()
    check_template(template, [conversation])
    check_template(template)


def test_sounds_are_numbered_as_the_chat_template_of_qwen2_audio_does(tmp_path: Path) -> None:
    kind = tiny.KINDS["qwen2_audio"]
    processor = kind.build(kind.tokenizer(tmp_path))
    chat = processor.default_chat_template
    (tmp_path / "chat_template.jinja").write_text(chat, encoding="utf-8")
    template = Template.from_folder(tmp_path, media=hf.HfMedia(processor, {"default": chat}))
    wave = np.random.default_rng(0).uniform(-1, 1, 900).astype(np.float32)
    sound = Media(kind="audio", source=wave)
    conversation = Conversation(
        messages=(
            Message(role="user", content="What is it?", media=(sound, sound)),
            Message(role="assistant", content="Rain."),
        )
    )
    [sample] = template.encode(conversation)
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nAudio 2: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
        "What is it?<|im_end|>\n<|im_start|>assistant\nRain.<|im_end|>"
    )
    expected = processor(text=[text], audio=[wave, wave], sampling_rate=16000, return_tensors="np")
    assert sample.input_ids.tolist() == expected["input_ids"][0].tolist()


def test_a_sample_knows_where_its_answer_begins(tmp_path: Path) -> None:
    kind = tiny.NEEDS_FAMILY["paligemma"]
    processor = kind.build(kind.tokenizer(tmp_path))
    processor.tokenizer.eos_token = "<eos>"
    family = families.load("paligemma")
    assert isinstance(family, Family)
    media = hf.HfMedia(processor, {"default": family.chat_template})
    template = Template.from_folder(tmp_path, TemplateArgs(template="paligemma"), media=media)
    question = Message(role="user", content="Red?", media=(picture(),))
    [sample] = template.encode(Conversation(messages=(question, Message(role="assistant", content="Yes."))))
    image = image_module.fromarray(question.media[0].source)
    expected = processor(text=["<image>Red?"], suffix=["Yes."], images=[[image]], return_tensors="np")
    assert sample.media["token_type_ids"].tolist() == expected["token_type_ids"].tolist()


def test_arrays_by_token_are_cut_with_the_tokens_and_no_others() -> None:
    ids = np.arange(6)
    media = {
        "mm_token_type_ids": np.array([[0, 1, 1, 0, 0, 0]]),
        "cross_attention_mask": np.arange(6).reshape(1, 6, 1, 1),
        # As long as the row by chance.
        "feature_attention_mask": np.ones((1, 6), dtype=np.int64),
    }
    sample = Encoded(ids, ids.copy(), np.ones(6, dtype=np.float32), media, ((1, 3),))
    [cut] = truncate(sample, 4, "right")
    assert cut.media["mm_token_type_ids"].tolist() == [[0, 1, 1, 0]]
    assert cut.media["cross_attention_mask"].ravel().tolist() == [0, 1, 2, 3]
    assert cut.media["feature_attention_mask"].shape == (1, 6)
