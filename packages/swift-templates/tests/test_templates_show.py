"""Samples and whole rows shown as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.errors import InvalidObjects
from swift_templates.grounding import Objects
from swift_templates.media.processor import DecodedMedia, MediaProcessor, SeenMedia
from swift_templates.messages import Conversation, Media, Message
from swift_templates.show import describe_conversation, describe_sample
from swift_templates.template import Template
from swift_templates.terminal import escape_control
from swift_templates.testing import write_tiny_folder

TemplateOf = Callable[..., Template]

ROWS = Conversation(
    messages=(
        Message(role="user", content="Hé"),
        Message(role="assistant", content="🎉", loss_scale=2.5),
        Message(role="user", content="\x1b[2J"),
        Message(role="assistant", content="Ok"),
    )
)


def test_trained_text_stands_between_quotation_marks_with_its_weight(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    [sample] = template.encode(ROWS)
    # The escape character of the row is shown, not sent to the terminal.
    assert describe_sample(template, sample, color=False) == (
        "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n«🎉<|im_end|>»(x2.5)\n"
        "<|im_start|>user\n\\x1b[2J<|im_end|>\n<|im_start|>assistant\n«Ok<|im_end|>»"
    )


def test_trained_text_is_coloured_by_its_weight(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    [sample] = template.encode(ROWS)
    shown = describe_sample(template, sample, color=True)
    assert "assistant\n\x1b[1;33m🎉<|im_end|>\x1b[0m(x2.5)" in shown  # more than 1 is yellow
    assert "assistant\n\x1b[1;32mOk<|im_end|>\x1b[0m" in shown  # 1 is green
    assert shown.count("\x1b") == 4 and "«" not in shown
    less = Conversation(messages=(ROWS.messages[0], Message(role="assistant", content="No", loss_scale=0.5)))
    [sample] = template.encode(less)
    assert "\x1b[1;36mNo<|im_end|>\x1b[0m(x0.5)" in describe_sample(template, sample, color=True)


def test_a_page_has_the_template_the_counts_and_the_text(template_of: TemplateOf) -> None:
    # 🎉 is four tokens here, one for each byte.
    assert describe_conversation(template_of("chatml"), ROWS, color=False) == (
        "template: family 'chatml'; tools: no known dialect; loss_scale: default; max_length: 2048\n"
        "--- sample: 38 tokens, 8 trained (3 x1, 5 x2.5)\n"
        "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n«🎉<|im_end|>»(x2.5)\n"
        "<|im_start|>user\n\\x1b[2J<|im_end|>\n<|im_start|>assistant\n«Ok<|im_end|>»"
    )


def test_each_branch_is_shown(template_of: TemplateOf, talk: Callable[..., Conversation]) -> None:
    page = describe_conversation(template_of("strips_thinking"), talk("a", "b", "c", "d", reasoning="hm"), color=False)
    assert page.startswith("template: the model's own chat template;")
    first, second = page.split("\n--- ")[1:]
    assert first.startswith("branch 1 of 2: ") and second.startswith("branch 2 of 2: ")
    assert first.count("hm") == 1 and second.count("hm") == 1
    assert second.endswith("d<|im_end|>»")


def test_token_ids_are_marked_as_their_text_is(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    question = Message(role="user", content="x")
    conversation = Conversation(messages=(question, Message(role="assistant", content="y", loss_scale=2.0)))
    [sample] = template.encode(conversation)
    page = describe_conversation(template, conversation, color=False, ids=True)
    prompt, answer = sample.input_ids[:-2].tolist(), sample.input_ids[-2:].tolist()
    expected = f"{' '.join(map(str, prompt))} «{' '.join(map(str, answer))}»(x2)"
    assert page.endswith(f"--- token ids\n{expected}")


def test_a_question_is_shown_as_the_prompt_of_a_server(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    asked = Conversation(messages=(Message(role="user", content="x"),))
    page = describe_conversation(template, asked, color=False)
    size = len(template.encode_prompt(asked).input_ids)
    assert page.endswith(f"--- prompt: {size} tokens, 0 trained\n{template.render(asked, generation_prompt=True)}")


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("delete", "'delete' it is left out"),
        ("left", "'left' it becomes 30 tokens"),
        ("split", "'split' it becomes 30 + 8 tokens"),
        ("raise", "too long: a sample has 38 tokens; expected at most max_length=30"),
    ],
)
def test_what_becomes_of_a_long_sample_is_said(template_of: TemplateOf, strategy: str, said: str) -> None:
    template = template_of("chatml", max_length=30, truncation_strategy=strategy)
    assert said in describe_conversation(template, ROWS, color=False)


def test_a_row_of_which_nothing_is_trained_says_so(template_of: TemplateOf) -> None:
    untrained = Conversation(messages=(ROWS.messages[0], Message(role="assistant", content="No", loss=False)))
    assert "nothing of this row is trained" in describe_conversation(template_of("chatml"), untrained, color=False)


SEES = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{{ part.text if part.type == 'text' else '<|' + part.type + '|>' }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Eye(MediaProcessor):
    """Sees a picture at half its size, and of that a token for each 4 x 4 pixels; a video is 3, a sound 5."""

    def __init__(self) -> None:
        self.placeholders = {"image": "<|image|>", "video": "<|video|>", "audio": "<|audio|>"}

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        texts, resized = [], []
        for kind, content in media:
            height, width = np.asarray(content).shape[:2] if kind == "image" else (0, 0)
            number = {"image": height * width // 64, "video": 3, "audio": 5}[kind]
            texts.append(f"<|{kind}|>" * number)
            resized.append((width // 2, height // 2) if kind == "image" else None)
        return SeenMedia(texts=tuple(texts), arrays={"pixel_values": np.zeros((2, 3))}, resized=tuple(resized))


@pytest.fixture
def seeing(tmp_path: Path) -> Callable[..., Template]:
    """Gives the template of a model that sees and hears, with arguments."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>", "<|audio|>", "<|box_start|>")
    folder = write_tiny_folder(tmp_path, chat_template=SEES, special_tokens=special)
    return lambda **args: Template.from_folder(folder, TemplateArgs(**args), media=Eye())


def picture(width: int, height: int, at: int = 0) -> Media:
    return Media(kind="image", source=np.zeros((height, width, 3), dtype=np.uint8), at=at)


def test_media_are_named_instead_of_their_tokens(seeing: TemplateOf) -> None:
    media = (
        picture(32, 16),
        picture(64, 64, at=4),
        Media(kind="video", source=np.zeros((3, 4, 6, 3), dtype=np.uint8), at=4),
        Media(kind="audio", source=np.zeros(50, dtype=np.float32), at=4),
    )
    conversation = Conversation(
        messages=(Message(role="user", content="and ?", media=media), Message(role="assistant", content="So."))
    )
    template = seeing()
    page = describe_conversation(template, conversation, color=False)
    assert (
        "[image: 8 tokens, 32x16]and [image: 64 tokens, 64x64][video: 3 tokens, 3 frames of 6x4]"
        "[audio: 5 tokens, 50 samples]?<|im_end|>" in page
    )
    assert "<|image|>" not in page
    [sample] = template.encode(conversation)
    start = sample.input_ids.tolist().index(template.tokenizer.special_ids["<|image|>"])
    assert f"--- media\ntokens {start} to {start + 7}: image: 8 tokens, 32x16\n" in page
    assert "pixel_values: float64 (2, 3)" in page


def test_boxes_are_shown_as_the_row_has_them_and_as_they_are_written(seeing: TemplateOf) -> None:
    question = Message(role="user", content="Find <ref-object>: !", media=(picture(16, 32, at=19),))
    answer = Message(role="assistant", content="<bbox>")
    objects = Objects(refs=("dog\x1b",), boxes=((4, 8, 12, 16),))
    conversation = Conversation(messages=(question, answer), objects=objects)
    page = describe_conversation(seeing(box_notation="qwen2_vl"), conversation, color=False)
    # By hand: 4 of 16 pixels is 250 thousandths, 8 of 32 is 250, 12 of 16 is 750, 16 of 32 is 500.
    written = "<|box_start|>(250,250),(750,500)<|box_end|>"
    name = "<|object_ref_start|>dog\\x1b<|object_ref_end|>"
    assert f"Find {name}: [image: 8 tokens, 16x32]!" in page and f"«{written}<|im_end|>»" in page
    assert page.endswith(f"--- boxes\nname 1: dog\\x1b, written {name}\nbox 1: 4, 8, 12, 16 (real), written {written}")


def test_boxes_count_the_pixels_that_the_model_sees(seeing: TemplateOf) -> None:
    question = Message(role="user", content="?", media=(picture(16, 32), picture(8, 8)))
    answer = Message(role="assistant", content="<bbox>")
    objects = Objects(boxes=((0.25, 0.25, 0.75, 0.5),), units="norm_1", image_ids=(0,))
    conversation = Conversation(messages=(question, answer), objects=objects)
    page = describe_conversation(seeing(box_notation="qwen2_5_vl"), conversation, color=False)
    # By hand: the model sees 8 x 16 pixels.
    assert page.endswith("box 1: 0.25, 0.25, 0.75, 0.5 (norm_1, picture 0), written [2, 4, 6, 8]")


def test_boxes_that_no_text_speaks_of_are_told(seeing: TemplateOf) -> None:
    question = Message(role="user", content="?", media=(picture(16, 32),))
    objects = Objects(refs=("dog",), boxes=((4, 8, 12, 16),))
    conversation = Conversation(messages=(question, Message(role="assistant", content="A dog.")), objects=objects)
    page = describe_conversation(seeing(), conversation, color=False)
    assert page.endswith("--- boxes\nname 1: dog\nbox 1: 4, 8, 12, 16 (real)\nno text has a place for them")


def test_boxes_out_of_their_picture_are_refused(seeing: TemplateOf) -> None:
    question = Message(role="user", content="?", media=(picture(16, 32),))
    objects = Objects(boxes=((4, 8, 99, 16),))
    conversation = Conversation(messages=(question, Message(role="assistant", content="<bbox>")), objects=objects)
    with pytest.raises(InvalidObjects, match="box 1"):
        describe_conversation(seeing(box_notation="qwen2_vl"), conversation, color=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[2Jb\x07", "a\\x1b[2Jb\\x07"),
        ("a\r\x08b\x9bc\x85", "a\\x0d\\x08b\\x9bc\\x85"),
        ("\u202ea\u2066\u2028", "\\u202ea\\u2066\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("a\n\tb é 日本\u3000語 10\u00a0km 👩\u200d🚀", "a\n\tb é 日本\u3000語 10\u00a0km 👩\u200d🚀"),
    ],
    ids=["escape codes", "other control characters", "invisible reordering", "invisible tags", "text as it is"],
)
def test_what_a_terminal_would_obey_is_written_as_an_escape(text: str, expected: str) -> None:
    assert escape_control(text) == expected
