"""Folders of models with code of their own, from a conversation to a row: tokens, arrays, and the laws of templates.

What stands for a medium is told by `test_templates_media_processors`; here it is where the model looks for it, in
training as in serving. Nothing here needs torch or transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.errors import ChatTemplateError, TemplateMismatch
from swift_templates.load import load_template
from swift_templates.messages import JSON, Conversation, Media, Message
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder
from swift_templates.truncation import truncate

pytest.importorskip("PIL")

END_OF_DEEPSEEK = "<｜end▁of▁sentence｜>"  # noqa: RUF001  # spelled with full-width characters
BEGIN_OF_DEEPSEEK = "<｜begin▁of▁sentence｜>"  # noqa: RUF001


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the small files of a model's folder say, in short, and what its rows look like."""

    config: dict[str, JSON]
    settings: dict[str, JSON]
    tokens: tuple[str, ...]
    eos: str
    bos: str | None = None
    row: str
    """For a question with two media, or one; with ... for what stands for them."""
    kind: str = "image"
    most: int = 2


MODELS: dict[str, Model] = {
    "deepseek_vl2": Model(
        config={"model_type": "deepseek_vl_v2"},
        # Small tiles: 2 x 2 tokens each.
        settings={
            "candidate_resolutions": [[16, 16], [32, 16], [16, 32]], "patch_size": 4, "downsample_ratio": 2,
            "processor_class": "DeepseekVLV2Processor",
        },
        tokens=(BEGIN_OF_DEEPSEEK, END_OF_DEEPSEEK, "<|User|>", "<|Assistant|>", "<image>"),
        eos=END_OF_DEEPSEEK,
        bos=BEGIN_OF_DEEPSEEK,
        row=f"{BEGIN_OF_DEEPSEEK}<|User|>: ...\nRed? ...\nOr that?\n\n<|Assistant|>:",
    ),
    "minicpm_v": Model(
        config={"model_type": "minicpmv"},
        settings={
            "version": 2.6, "scale_resolution": 28, "patch_size": 14, "use_image_id": True, "image_feature_size": 2,
            "auto_map": {"AutoProcessor": "processing_minicpmv.MiniCPMVProcessor"},
        },
        tokens=("<|im_start|>", "<|im_end|>", "<image>", "</image>", "<slice>", "</slice>", "<unk>", "<image_id>",
                "</image_id>"),
        eos="<|im_end|>",
        row="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n...\nRed? \n...\nOr that?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "phi3_vision": Model(
        config={"model_type": "phi3_v", "auto_map": {"AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM"}},
        settings={"num_crops": 1, "auto_map": {"AutoProcessor": "processing_phi3_v.Phi3VProcessor"}},
        tokens=("<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|image|>"),
        eos="<|endoftext|>",
        bos="<s>",
        row="<s><|user|>\n...\nRed? ...\nOr that?<|end|>\n<|assistant|>\n",
    ),
    "cogvlm": Model(
        config={
            "architectures": ["CogVLMForCausalLM"], "vision_config": {"image_size": 8, "patch_size": 4},
            "vocab_size": 300,
        },
        settings={},
        tokens=("<s>", "</s>"),
        eos="</s>",
        bos="<s>",
        row="<s>...Question: Red? Or that? Answer:",
        most=1,
    ),
    "idefics": Model(
        config={"model_type": "idefics"},
        settings={"image_size": 8, "processor_class": "IdeficsProcessor"},
        tokens=("<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"),
        eos="</s>",
        bos="<s>",
        row="<s>User:...Red?...Or that?<end_of_utterance>\nAssistant:",
    ),
    "qwen_audio": Model(
        config={"model_type": "qwen", "audio": {"audio_start_id": 155163, "n_mels": 80}},
        settings={},
        tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<audio>", "</audio>", "[[[AUDIO:modality]]]"),
        eos="<|im_end|>",
        row="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nAudio 1:...\nRed? Audio 2:...\nOr that?<|im_end|>\n<|im_start|>assistant\n",
        kind="audio",
    ),
    "qwen_vl": Model(
        config={"model_type": "qwen", "visual": {"image_start_id": 4, "image_size": 448}},
        settings={},
        tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<spare>", "<img>", "</img>", "<imgpad>"),
        eos="<|im_end|>",
        row="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nPicture 1: ...\nRed? Picture 2: ...\nOr that?<|im_end|>\n<|im_start|>assistant\n",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFT_CACHE", str(tmp_path / "cache"))


def load(name: str, path: Path) -> Template:
    model = MODELS[name]
    pad = ("<pad>",) if name != "qwen_vl" else ()  # its tokens have the numbers that its configuration says
    write_tiny_folder(path, special_tokens=(*pad, *model.tokens), eos_token=model.eos, bos_token=model.bos)
    (path / "config.json").write_text(json.dumps(model.config), encoding="utf-8")
    if model.settings:
        (path / "preprocessor_config.json").write_text(json.dumps(model.settings), encoding="utf-8")
    return load_template(path, TemplateArgs(template=name))


def medium(name: str, seed: int, at: int = 0) -> Media:
    random = np.random.default_rng(seed)
    if MODELS[name].kind == "audio":
        return Media(kind="audio", source=random.uniform(-1, 1, 2000 + 700 * seed).astype(np.float32), at=at)
    return Media(kind="image", source=random.integers(0, 256, (20, 30 + 20 * seed, 3), dtype=np.uint8), at=at)


def question(name: str) -> Conversation:
    media = (medium(name, 0), medium(name, 1, at=5))[: MODELS[name].most]
    return Conversation(messages=(Message(role="user", content="Red? Or that?", media=media),))


def dialogue(name: str) -> Conversation:
    """Return two rounds, the second with a medium of its own where the model takes more than one."""
    first = question(name).messages[0]
    more = (medium(name, 2),) if MODELS[name].most > 1 else ()
    return Conversation(
        messages=(
            first,
            Message(role="assistant", content="That."),
            Message(role="user", content="And this?", media=more),
            Message(role="assistant", content="No."),
        )
    )


@pytest.mark.parametrize("name", MODELS)
def test_media_stand_where_the_models_format_has_them(name: str, tmp_path: Path) -> None:
    template = load(name, tmp_path)
    shown = template._media.show(question(name))
    assert shown is not None
    expected = MODELS[name].row
    for text in shown.placed.seen.texts:
        expected = expected.replace("...", text, 1)
    assert template.render(question(name), generation_prompt=True) == expected
    prompt = template.encode_prompt(question(name))
    own = shown.placed.seen.own_ids
    ids = np.array(template.tokenizer.encode(expected))
    assert prompt.input_ids == (ids if own is None else own(ids)).tolist()


@pytest.mark.parametrize("name", MODELS)
def test_what_is_trained_is_what_is_served(name: str, tmp_path: Path) -> None:
    template = load(name, tmp_path)
    talk = dialogue(name)
    check_template(template, [talk, Conversation(messages=talk.messages[:2])])
    samples = template.encode(talk)
    last = samples[-1]
    served = template.encode_prompt(Conversation(messages=talk.messages[:3]))
    assert last.input_ids[: len(served.input_ids)].tolist() == served.input_ids
    assert last.media.keys() == served.media.keys() and (last.media or name == "qwen_vl")
    for key, array in served.media.items():
        told = last.media[key]
        # What is said about each token goes on behind the prompt.
        same = told[:, : len(served.input_ids)] if told.shape[1:2] == (len(last),) else told
        assert np.array_equal(same, array), key
    for sample in samples:
        assert sample.media_places is not None and all(
            (sample.labels[a:b] == -100).all() for a, b in sample.media_places
        )
        trained = template.decode(sample.input_ids[sample.labels >= 0])
        assert trained.replace("That.", "").replace("No.", "").strip() == ""


@pytest.mark.parametrize("name", MODELS)
def test_what_a_user_writes_like_a_medium_stays_text(name: str, tmp_path: Path) -> None:
    template = load(name, tmp_path)
    seen = template._media.show(question(name))
    assert seen is not None
    told = set(seen.placed.seen.texts[0].replace(">", "> ").replace("]]]", "]]] ").split()) | {seen.placed.spellings[0]}
    said = " ".join(sorted(told))
    talk = Conversation(messages=(Message(role="user", content=said), Message(role="assistant", content="Yes.")))
    [sample] = template.encode(talk)
    special = [template.tokenizer.special_text(int(each)) for each in sample.input_ids]
    assert not set(special) & (told - {MODELS[name].bos})
    with_medium = Conversation(
        messages=(Message(role="user", content=said, media=(medium(name, 0),)), talk.messages[1])
    )
    check_template(template, [with_medium])


def test_a_picture_of_deepseek_vl2_is_cut_by_how_many_there_are_so_far(tmp_path: Path) -> None:
    template = load("deepseek_vl2", tmp_path)
    first, second = template.encode(dialogue("deepseek_vl2"))
    # Two pictures are cut: 30 x 20 into 2 x 1, 50 x 20 into 2 x 1; with a third each is one tile.
    assert first.media["images_spatial_crop"].tolist() == [[[2, 1], [2, 1]]]
    assert second.media["images_spatial_crop"].tolist() == [[[1, 1]] * 3]
    image = template.tokenizer.special_ids["<image>"]
    for sample in (first, second):
        assert np.array_equal(sample.media["images_seq_mask"][0], sample.input_ids == image)
    # Of 2 lines of 3, one between, and 2 lines of 5 or 3.
    assert [int((sample.input_ids == image).sum()) for sample in (first, second)] == [2 * 17, 3 * 13]


def test_the_places_of_minicpm_vs_slices_are_those_of_the_row(tmp_path: Path) -> None:
    template = load("minicpm_v", tmp_path)
    [sample] = template.encode(dialogue("minicpm_v"))
    unknown = template.tokenizer.special_ids["<unk>"]
    [bounds] = sample.media["image_bound"]
    assert len(bounds) == sample.media["tgt_sizes"].shape[1] == sample.media["pixel_values"].shape[1] > 3
    for start, end in bounds.tolist():
        assert sample.input_ids[start:end].tolist() == [unknown] * 2


def test_the_places_of_slices_move_with_a_cut_on_the_left(tmp_path: Path) -> None:
    template = load("minicpm_v", tmp_path)
    [sample] = template.encode(dialogue("minicpm_v"))
    start = sample.media["image_bound"][0, 0, 0]
    # All but the system prompt's first ten tokens.
    [cut] = truncate(sample, len(sample) - 10, "left")
    assert start >= 20 and np.array_equal(cut.media["image_bound"], sample.media["image_bound"] - 10)
    assert cut.input_ids[start - 10] == template.tokenizer.special_ids["<unk>"]


def test_a_row_of_qwen_vl_is_left_out_where_a_picture_is_cut_off(tmp_path: Path) -> None:
    template = load("qwen_vl", tmp_path)
    [sample] = template.encode(dialogue("qwen_vl"))
    assert not sample.media and sample.media_places is not None and len(sample.media_places) == 3
    first_end = sample.media_places[0][1]
    assert truncate(sample, len(sample) - first_end, "left") == []
    [kept] = truncate(sample, len(sample) - 5, "left")
    assert len(kept) == len(sample) - 5


def test_the_tokens_of_qwen_vl_name_a_file_of_the_picture(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    template = load("qwen_vl", tmp_path)
    prompt = template.encode_prompt(question("qwen_vl"))
    # As the model's own code reads them: <img> is 4, </img> 5, <imgpad> 6.
    starts = [at for at, each in enumerate(prompt.input_ids) if each == 4 and prompt.input_ids[at + 257] == 5]
    assert len(starts) == 2
    for start, each in zip(starts, question("qwen_vl").messages[0].media, strict=True):
        span = prompt.input_ids[start + 1 : start + 256]
        with image_module.open(bytes(span[: span.index(6)]).decode("utf-8")) as image:
            assert isinstance(each.source, np.ndarray) and np.array_equal(np.asarray(image), each.source)


def test_the_picture_of_cogvlm_is_before_all_text_and_alone(tmp_path: Path) -> None:
    template = load("cogvlm", tmp_path)
    late = Conversation(
        messages=(
            Message(role="user", content="Hello"),
            Message(role="assistant", content="Hi."),
            Message(role="user", content="Red?", media=(medium("cogvlm", 0, at=4),)),
        )
    )
    # 8 // 4 squared, and 2.
    expected = "<s>" + "<pad>" * 6 + "Question: Hello Answer: Hi.\nQuestion: Red? Answer:"
    assert template.render(late, generation_prompt=True) == expected
    prompt = template.encode_prompt(late)
    types = prompt.media["token_type_ids"]
    assert types.tolist() == [[0, *[1] * 6, *[0] * (len(prompt.input_ids) - 7)]]
    two = Message(role="user", content="Red?", media=(medium("cogvlm", 0), medium("cogvlm", 1)))
    with pytest.raises(TemplateMismatch, match="has 2 pictures; the model takes 1"):
        template.encode_prompt(Conversation(messages=(two,)))


def test_a_picture_of_cogvlm_is_not_trained_into_an_answer_before_it(tmp_path: Path) -> None:
    template = load("cogvlm", tmp_path)
    talk = Conversation(
        messages=(
            Message(role="user", content="Hello"),
            Message(role="assistant", content="Hi."),
            Message(role="user", content="Red?", media=(medium("cogvlm", 0),)),
            Message(role="assistant", content="Yes."),
        )
    )
    check_template(template, [talk])
    first, second = template.encode(talk)
    assert not first.media and set(second.media) == {"images", "token_type_ids"}


def test_another_template_than_the_models_is_refused_with_media(tmp_path: Path) -> None:
    load("minicpm_v", tmp_path)
    template = load_template(tmp_path, TemplateArgs(template="chatml"))
    assert template.render(Conversation(messages=(Message(role="user", content="Hi"),)))
    with pytest.raises((TemplateMismatch, ChatTemplateError)):
        template.encode_prompt(question("minicpm_v"))
