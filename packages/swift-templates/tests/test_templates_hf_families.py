"""Families for models whose processors have no chat template, and what is said where there is no processor at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.errors import ChatTemplateError, InvalidModelFolder, TemplateMismatch
from swift_templates.family import Family, families
from swift_templates.media.processor import DecodedMedia, MediaProcessor, SeenMedia
from swift_templates.messages import Conversation, Media, MediaKind, Message
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
image_module = pytest.importorskip("PIL.Image")
hf = pytest.importorskip("swift_templates.hf")
tiny = pytest.importorskip("hf_tiny_processors")
models = pytest.importorskip("hf_tiny_models")


def picture(seed: int = 0) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Media(kind="image", source=pixels)


def family(name: str) -> Family:
    found = families.load(name)
    assert isinstance(found, Family)
    return found


def build(name: str, folder: Path) -> tuple[Template, Any]:
    kind = tiny.NEEDS_FAMILY[name]
    processor = kind.build(kind.tokenizer(folder))
    # The tiny folders' own eos is another one.
    processor.tokenizer.eos_token = {"paligemma": "<eos>", "florence2": "</s>"}[name]
    media = hf.HfMedia(processor, {"default": family(name).chat_template})
    return Template.from_folder(folder, TemplateArgs(template=name), media=media), processor


def ask(text: str, *media: Media) -> Conversation:
    return Conversation(messages=(Message(role="user", content=text, media=media),))


def answered(conversation: Conversation, answer: str) -> Conversation:
    return Conversation(messages=(*conversation.messages, Message(role="assistant", content=answer)))


def images(conversation: Conversation) -> list[Any]:
    return [image_module.fromarray(each.source) for each in conversation.messages[0].media]


def arrays_of(template: Template, conversation: Conversation, labels: npt.NDArray[np.int64] | None) -> dict[str, Any]:
    """Return the arrays for a conversation's one sample, whose labels are handed over."""
    shown = template._media.show(conversation)
    assert shown is not None
    [sample] = template.encode(conversation)
    return dict(shown.placed.seen.arrays_for(sample.input_ids, labels))


def test_paligemma_is_what_its_processor_makes_of_question_and_answer(tmp_path: Path) -> None:
    template, processor = build("paligemma", tmp_path)
    question = ask("answer en Which\nis redder?", picture(), picture(1))
    prompt = template.encode_prompt(question)
    text = "<image><image>answer en Which\nis redder?"
    expected = processor(text=[text], images=[images(question)], return_tensors="np")
    assert prompt.input_ids == expected["input_ids"][0].tolist()
    assert set(prompt.media) == {"pixel_values", "token_type_ids"}
    for name, array in prompt.media.items():
        assert np.array_equal(array, expected[name]), name
    whole = answered(question, "The\nfirst.")
    expected = processor(text=[text], suffix=["The\nfirst."], images=[images(question)], return_tensors="np")
    [sample] = template.encode(whole)
    assert sample.input_ids.tolist() == expected["input_ids"][0].tolist()
    assert sample.labels.tolist() == expected["labels"][0].tolist()
    types = arrays_of(template, whole, sample.labels)["token_type_ids"]
    assert types.tolist() == expected["token_type_ids"].tolist()
    check_template(template, [whole])


def test_paligemma_reads_the_question_as_a_whole_and_the_answer_word_by_word(tmp_path: Path) -> None:
    template, _ = build("paligemma", tmp_path)
    model = models.tiny_model(models.FAMILY_MODELS["paligemma"], template.tokenizer.special_ids)

    def logits(answer: str, seed: int = 0) -> tuple[Any, int]:
        whole = answered(ask("Red?", picture(seed)), answer)
        [sample] = template.encode(whole)
        ids = torch.from_numpy(sample.input_ids)[None]
        arrays = arrays_of(template, whole, sample.labels)
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        labels = torch.from_numpy(sample.labels)[None]
        with torch.no_grad():
            made = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, **given).logits[0]
        return made, int(np.flatnonzero(sample.labels >= 0)[0])

    (yes, start), (other, _), (redder, _) = logits("Yes."), logits("Yes!"), logits("Yes.", seed=1)
    assert torch.allclose(yes[: start + 1], other[: start + 1], atol=1e-6)
    assert not torch.allclose(yes[-1], other[-1], atol=1e-4)
    assert not torch.allclose(yes[start], redder[start], atol=1e-4)


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("<CAPTION>", "<CAPTION>"),
        ("<CAPTION_TO_PHRASE_GROUNDING> a dog ", "<CAPTION_TO_PHRASE_GROUNDING> a dog "),
        ("<OPEN_VOCABULARY_DETECTION>a dog", "<OPEN_VOCABULARY_DETECTION>a dog"),
        ("Is it red?", "Is it red?"),
    ],
)
def test_the_prompt_of_florence_2_is_the_row_of_its_encoder(said: str, sent: str, tmp_path: Path) -> None:
    template, processor = build("florence2", tmp_path)
    question = ask(said, picture())
    expected = processor(text=[sent], images=images(question), return_tensors="np")
    prompt = template.encode_prompt(question)
    assert prompt.input_ids == expected["input_ids"][0].tolist()
    assert np.array_equal(prompt.media["pixel_values"], expected["pixel_values"])
    [sample] = template.encode(answered(question, "A dog."))
    assert sample.input_ids[: len(prompt.input_ids)].tolist() == prompt.input_ids
    labels = sample.labels[len(prompt.input_ids) :].tolist()
    assert template.decode(labels, skip_special=False) == "<s>A dog.</s>"
    assert template.parse(labels).content == "A dog."


def test_florence_2_reads_the_prompt_with_its_encoder_and_the_answer_with_its_decoder(tmp_path: Path) -> None:
    template, _ = build("florence2", tmp_path)
    model = models.tiny_model(models.FAMILY_MODELS["florence2"], template.tokenizer.special_ids)

    def loss(seed: int) -> float:
        question = ask("<CAPTION>", picture(seed))
        length = len(template.encode_prompt(question).input_ids)
        [sample] = template.encode(answered(question, "A dog."))
        given = {name: torch.from_numpy(array) for name, array in sample.media.items() if name == "pixel_values"}
        ids, labels = (torch.from_numpy(each)[None] for each in (sample.input_ids, sample.labels))
        with torch.no_grad():
            return float(model(input_ids=ids[:, :length], labels=labels[:, length:], **given).loss)

    assert np.isfinite(loss(0)) and loss(0) == pytest.approx(loss(0)) and abs(loss(0) - loss(1)) > 1e-6


def test_all_tasks_of_florence_2_are_the_processors(tmp_path: Path) -> None:
    template, processor = build("florence2", tmp_path)
    tasks = [*processor.task_prompts_without_inputs, *(f"{each}a dog" for each in processor.task_prompts_with_input)]
    for task in tasks:
        [prompt] = processor._construct_prompts(task)
        assert template.render(ask(task), generation_prompt=True) == f"<s>{prompt}</s>"


def test_second_questions_and_pictures_are_refused_where_the_model_has_no_place_for_them(tmp_path: Path) -> None:
    template, _ = build("florence2", tmp_path)
    with pytest.raises(TemplateMismatch, match="has 2 pictures; the model takes one"):
        template.encode_prompt(ask("Red?", picture(), picture(1)))
    for name in ("florence2", "paligemma"):
        template, _ = build(name, tmp_path / name)
        talk = answered(ask("Red?", picture()), "Yes.")
        with pytest.raises(ChatTemplateError, match="no place for a second question"):
            template.encode_prompt(Conversation(messages=(*talk.messages, Message(role="user", content="And?"))))


@pytest.mark.parametrize(("name", "kind"), [("llava1_5", "llava"), ("llava_onevision", "llava_onevision")])
def test_families_for_chat_templates_that_cannot_be_trained_place_pictures(
    name: str, kind: str, tmp_path: Path
) -> None:
    stop, bos = ("</s>", "<s>") if name == "llava1_5" else ("<|im_end|>", None)
    special = ("<pad>", "<s>", "</s>", "<image>", "<video>", "<|im_start|>", "<|im_end|>")
    write_tiny_folder(tmp_path, special_tokens=special, eos_token=stop, bos_token=bos)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token=stop)
    media = hf.HfMedia(tiny.KINDS[kind].build(tokenizer), {"default": family(name).chat_template})
    template = Template.from_folder(tmp_path, TemplateArgs(template=name), media=media)
    talk = answered(ask("Red? Or that?", picture(), picture(1)), "That.")
    talk = Conversation(messages=(*talk.messages, *answered(ask("Why?"), "So.").messages))
    [sample] = template.encode(talk)
    text = template.decode(sample.input_ids, skip_special=False)
    shown = template._media.show(talk)
    assert shown is not None
    first, second = shown.placed.seen.texts
    assert f"{first}\n{second}\nRed? Or that?" in text
    trained = template.decode(sample.input_ids[sample.labels >= 0], skip_special=False)
    assert trained == (" That.</s> So.</s>" if name == "llava1_5" else "That.<|im_end|>So.<|im_end|>")
    check_template(template, [talk])


def test_a_folder_of_a_model_without_a_chat_template_is_loaded_with_a_family(tmp_path: Path) -> None:
    kind = tiny.NEEDS_FAMILY["paligemma"]
    processor = kind.build(kind.tokenizer(tmp_path))
    processor.tokenizer.eos_token = "<eos>"
    processor.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InvalidModelFolder, match="name a template family"):
        hf.load_template(tmp_path)
    template = hf.load_template(tmp_path, TemplateArgs(template="paligemma"))
    assert template.encode_prompt(ask("Red?", picture())).media["pixel_values"].shape == (1, 3, 16, 16)


def write_own_code(folder: Path, config: dict[str, object], processor: dict[str, object] | None = None) -> None:
    write_tiny_folder(folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")


# As their config.json and preprocessor_config.json have it, in short.
OWN_CODE: dict[str, tuple[dict[str, object], dict[str, object] | None]] = {
    "qwen_vl": (
        {"model_type": "qwen", "auto_map": {"AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
         "visual": {"width": 1664}},
        None,
    ),
    "minicpm_v": (
        {"model_type": "minicpmv", "auto_map": {"AutoModel": "modeling_minicpmv.MiniCPMV"}, "vision_config": {"a": 1}},
        {"auto_map": {"AutoProcessor": "processing_minicpmv.MiniCPMVProcessor"},
         "processor_class": "MiniCPMVProcessor"},
    ),
    "phi3_vision": (
        {"model_type": "phi3_v", "auto_map": {"AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM"}},
        {"auto_map": {"AutoProcessor": "processing_phi3_v.Phi3VProcessor"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN_CODE)
def test_pictures_that_only_a_models_own_code_can_show_are_refused_and_texts_are_not(name: str, tmp_path: Path) -> None:
    write_own_code(tmp_path, *OWN_CODE[name])
    template = hf.load_template(tmp_path, TemplateArgs(template="chatml"))
    assert template.decode(template.encode_prompt(ask("Hello")).input_ids) == "user\nHello\nassistant\n"
    kind = OWN_CODE[name][0]["model_type"]
    with pytest.raises(TemplateMismatch, match=f"to a model of type '{kind}' is code in the model's folder"):
        template.encode_prompt(ask("Red?", picture()))


def test_a_text_model_with_code_of_its_own_takes_no_media(tmp_path: Path) -> None:
    write_own_code(tmp_path, {"model_type": "qwen", "auto_map": {"AutoModelForCausalLM": "m.Q"}})
    template = hf.load_template(tmp_path, TemplateArgs(template="chatml"))
    with pytest.raises(TemplateMismatch, match="nothing here shows them"):
        template.encode_prompt(ask("Red?", picture()))


class ThreeTokens(MediaProcessor):
    """Somebody's own processor, for a model whose code is in its folder."""

    def __init__(self, kind: MediaKind, placeholder: str, text: str) -> None:
        self.placeholders = {kind: placeholder}
        self._text = text

    def see(self, media: Any) -> SeenMedia:  # noqa: ANN401  # decoded media
        seen: list[DecodedMedia] = list(media)
        return SeenMedia(texts=(self._text,) * len(seen), arrays={})


END_OF_DEEPSEEK = family("deepseek_vl2").stop_tokens[0]
OWN: dict[str, tuple[MediaKind, str, tuple[str, ...], str]] = {
    # The lines that the models' own code writes, with its addresses or numbers replaced by tokens.
    "qwen_vl": ("image", "<img></img>", ("<|im_end|>", "<p>"),
                "Picture 1: <p><p><p>\nRed?Picture 2: <p><p><p>\n Or that?"),
    "qwen_audio": ("audio", "<audio></audio>", ("<|im_end|>", "<p>"),
                   "Audio 1:<p><p><p>\nRed?Audio 2:<p><p><p>\n Or that?"),
    "minicpm_v": ("image", "(<image>./</image>)", ("<|im_end|>", "<p>"), "<p><p><p>\nRed?\n<p><p><p>\n Or that?"),
    "phi3_vision": ("image", "<|image|>", ("<|end|>", "<p>"), "<p><p><p>\nRed?<p><p><p>\n Or that?"),
    "deepseek_vl2": ("image", "<image>", (END_OF_DEEPSEEK, "<p>"), "<p><p><p>\nRed?<p><p><p>\n Or that?"),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_families_of_models_with_own_code_leave_a_place_for_each_medium(name: str, tmp_path: Path) -> None:
    kind, placeholder, special, written = OWN[name]
    write_tiny_folder(tmp_path, special_tokens=("<pad>", *special), eos_token=special[0])
    media = ThreeTokens(kind, placeholder, "<p>" * 3)
    template = Template.from_folder(tmp_path, TemplateArgs(template=name), media=media)
    source = np.zeros((8, 8, 3), dtype=np.uint8) if kind == "image" else np.zeros(9, dtype=np.float32)
    question = ask("Red? Or that?", Media(kind=kind, source=source), Media(kind=kind, source=source, at=4))
    text = template.decode(template.encode_prompt(question).input_ids, skip_special=False)
    assert written in text
    check_template(template, [answered(question, "That.")])
