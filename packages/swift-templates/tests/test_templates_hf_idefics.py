"""The first Idefics, with transformers' processor and model: the same tokens and arrays, and a model that sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.load import load_template
from swift_templates.messages import Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
image_module = pytest.importorskip("PIL.Image")
hf = pytest.importorskip("swift_templates.hf")

SPECIAL = ("<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>")
SIDE = 28


def build(path: Path) -> tuple[Template, Any]:
    """Return a template for a tiny folder, and the processor of transformers that the same folder holds."""
    write_tiny_folder(path, special_tokens=SPECIAL, eos_token="</s>", bos_token="<s>")
    (path / "config.json").write_text(json.dumps({"model_type": "idefics"}), encoding="utf-8")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path / "tokenizer.json"), eos_token="</s>", bos_token="<s>", pad_token="<unk>"
    )
    # Without torchvision transformers has its other one, for Pillow.
    images = transformers.AutoImageProcessor.from_pretrained(
        str(write_images(path)), trust_remote_code=False, local_files_only=True
    )
    processor = transformers.IdeficsProcessor(image_processor=images, tokenizer=tokenizer)
    return load_template(path, TemplateArgs(template="idefics")), processor


def write_images(path: Path) -> Path:
    size = {"height": SIDE, "width": SIDE}
    settings = {"image_processor_type": "IdeficsImageProcessor", "image_size": SIDE, "size": size}
    (path / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def picture(seed: int, at: int = 0) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + 3 * seed, 30, 3), dtype=np.uint8)
    return Media(kind="image", source=pixels, at=at)


def image(seed: int) -> Any:  # noqa: ANN401  # what Pillow holds
    return image_module.fromarray(picture(seed).source)


def talk(*, late: int = 3) -> Conversation:
    return Conversation(
        messages=(
            Message(role="user", content="Red?", media=(picture(0), picture(1))),
            Message(role="assistant", content="Yes."),
            Message(role="user", content="Is this it? Or this?", media=(picture(2, at=11), picture(late, at=11))),
            Message(role="assistant", content="No."),
        )
    )


def test_a_dialogue_is_what_the_processor_makes_of_the_published_prompts(tmp_path: Path) -> None:
    template, processor = build(tmp_path)
    end = "<end_of_utterance>"
    # As the model card has them: texts and pictures in a list.
    prompt = [
        "User:", image(0), image(1), f"Red?{end}", f"\nAssistant: Yes.{end}", "\nUser: Is this it?", image(2), image(3),
        f"Or this?{end}", "\nAssistant:",
    ]  # fmt: skip
    expected = processor(text=[prompt], add_end_of_utterance_token=False, add_special_tokens=False, return_tensors="pt")
    question = Conversation(messages=talk().messages[:3])
    made = template.encode_prompt(question)
    assert made.input_ids == expected["input_ids"][0].tolist()
    assert set(made.media) == {"pixel_values", "image_attention_mask"}
    assert np.array_equal(made.media["image_attention_mask"], expected["image_attention_mask"].numpy())
    pixels = expected["pixel_values"].numpy()
    # That processor multiplies by 1/255 and divides once more: a rounding of float32.
    assert made.media["pixel_values"].shape == pixels.shape and np.allclose(
        made.media["pixel_values"], pixels, atol=1e-6
    )


def test_a_folder_that_holds_a_processor_of_transformers_too_is_read_alike(tmp_path: Path) -> None:
    template, _ = build(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    question = Conversation(messages=talk().messages[:3])
    one = template.encode_prompt(question)
    other = hf.load_template(tmp_path, TemplateArgs(template="idefics")).encode_prompt(question)
    assert one.input_ids == other.input_ids and one.media.keys() == other.media.keys()
    assert all(np.array_equal(array, other.media[name]) for name, array in one.media.items())


def test_a_token_behind_the_end_of_a_text_sees_no_picture(tmp_path: Path) -> None:
    template, processor = build(tmp_path)
    prompt = ["a", image(0), "b</s>c", image(1), "d"]
    expected = processor(text=[prompt], add_end_of_utterance_token=False, add_special_tokens=False, return_tensors="pt")
    shown = template._media.show(Conversation(messages=talk().messages[:1]))
    assert shown is not None
    ids = expected["input_ids"][0].numpy()
    made = shown.placed.seen.arrays_for(ids)["image_attention_mask"]
    assert np.array_equal(made, expected["image_attention_mask"].numpy()) and not made[0].any(axis=1).all()


def tiny_model() -> Any:  # noqa: ANN401  # transformers is untyped
    torch.manual_seed(0)
    config = transformers.IdeficsConfig(
        vocab_size=512, additional_vocab_size=0, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, cross_layer_interval=1, alpha_initializer="ones", use_resampler=False,
        vision_config={"image_size": SIDE, "patch_size": 14, "embed_dim": 16, "intermediate_size": 16,
                       "num_hidden_layers": 1, "num_attention_heads": 2},
    )  # fmt: skip
    return transformers.IdeficsForVisionText2Text(config).eval()


def test_an_answer_depends_on_the_pictures_before_it_and_not_on_those_behind(tmp_path: Path) -> None:
    template, _ = build(tmp_path)
    model = tiny_model()

    def logits(late: int) -> tuple[Any, list[int]]:
        [sample] = template.encode(talk(late=late))
        ids = torch.from_numpy(sample.input_ids)[None]
        given = {name: torch.from_numpy(array) for name, array in sample.media.items()}
        with torch.no_grad():
            made = model(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits[0]
        return made, np.flatnonzero(sample.labels >= 0).tolist()

    (one, trained), (other, _) = logits(3), logits(4)
    early, late = trained[0], trained[-1]
    # The same computation but for pictures that these tokens do not look at.
    assert torch.allclose(one[early], other[early], atol=1e-6)
    assert not torch.allclose(one[late], other[late], atol=1e-4)


def test_a_prompt_is_continued_by_what_the_model_sees_at_its_end(tmp_path: Path) -> None:
    template, _ = build(tmp_path)
    model = tiny_model()
    prompt = template.encode_prompt(Conversation(messages=talk().messages[:3]))
    ids = torch.tensor([prompt.input_ids])
    given = {name: torch.from_numpy(array) for name, array in prompt.media.items()}
    made = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False, **given
    )
    for step in range(made.shape[1] - ids.shape[1]):
        # As in training, where the whole row is seen at once: the last picture is seen by all tokens behind it.
        row = made[:, : ids.shape[1] + step]
        mask = given["image_attention_mask"]
        mask = torch.cat([mask, mask[:, -1:].expand(-1, step, -1)], dim=1)
        with torch.no_grad():
            logits = model(
                input_ids=row,
                attention_mask=torch.ones_like(row),
                pixel_values=given["pixel_values"],
                image_attention_mask=mask,
            ).logits
        assert int(logits[0, -1].argmax()) == int(made[0, ids.shape[1] + step])
