"""An answer's text in pieces: joined, they are what `parse` sees."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_templates.args import TemplateArgs
from swift_templates.messages import Message
from swift_templates.reasoning import join_reasoning, split_reasoning
from swift_templates.streaming import trim_stream
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

TemplateOf = Callable[..., Template]

KINDS = ["chatml", "inst", "inst_sentencepiece", "headers", "opens_thinking", "final_eos_rstrip"]


def tokens_of(template: Template, text: str) -> list[int]:
    return template.tokenizer.encode_after("]", text)


def message_of(template: Template, text: str, *, opened: bool = False) -> Message:
    reasoning, content = split_reasoning(text, opened=opened)
    return Message(role="assistant", content=content, reasoning_content=reasoning)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["Hi.", "Héé 🎉🎉 日本語!", "hello  world \n\n you", "a", " ", "\n", "", "🎉"])
def test_joined_pieces_are_the_text_that_parse_takes_apart(kind: str, text: str, template_of: TemplateOf) -> None:
    template = template_of(kind)
    tokens = tokens_of(template, text)
    streamed = "".join(template.stream_text(tokens))
    opened = kind == "opens_thinking"
    assert message_of(template, streamed, opened=opened) == template.parse(tokens)
    assert streamed.strip() == text.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_any_tokens_at_all_stream_as_they_parse(kind: str, template_of: TemplateOf) -> None:
    template = template_of(kind)
    stops = template.stop_token_ids
    size = max(template.tokenizer.encode("hello world you é 🎉")) + 1
    drawn = random.Random(0)
    for _ in range(200):
        tokens = [token for token in drawn.choices(range(size), k=30) if token not in stops]
        streamed = "".join(template.stream_text(tokens))
        assert message_of(template, streamed, opened=kind == "opens_thinking") == template.parse(tokens)


def test_a_character_of_several_tokens_comes_out_once_and_whole(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    tokens = tokens_of(template, "a🎉b")
    assert len(tokens) == 6  # 🎉 is four bytes, which this tokenizer has a token each for
    assert [piece for piece in template.stream_text(tokens) if piece] == ["a", "🎉", "b"]


def test_bytes_that_never_become_a_character_are_not_lost(template_of: TemplateOf) -> None:
    for kind in ("chatml", "inst_sentencepiece"):
        template = template_of(kind)
        cut = tokens_of(template, "a🎉")[:-1]
        streamed = "".join(template.stream_text(cut))
        assert streamed == template.parse(cut).content
        assert streamed.startswith("a\ufffd")


def test_a_byte_that_spoils_the_ones_before_it_is_waited_for(template_of: TemplateOf) -> None:
    # A decoder of byte tokens gives up a whole run of them if it is no valid text.
    template = template_of("inst_sentencepiece")
    emoji, cut = tokens_of(template, "🎉"), tokens_of(template, "🎉")[:-1]
    tokens = [*emoji, *cut, *tokens_of(template, "hello")]
    assert "".join(template.stream_text(tokens)) == template.parse(tokens).content
    assert "\ufffd" in template.parse(tokens).content


def test_the_response_prefix_comes_first_and_before_any_token(template_of: TemplateOf) -> None:
    template = template_of("chatml", response_prefix="Well, ")

    tokens = tokens_of(template, "é 🎉")
    waiting = iter(tokens)
    assert next(template.stream_text(waiting)) == "Well, "
    assert list(waiting) == tokens
    assert "".join(template.stream_text(tokens)) == "Well, é 🎉" == template.parse(tokens).content


def test_control_tokens_are_left_out_and_nothing_is_asked_for_after_a_stop(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    tokens = iter([*template.tokenizer.encode("A <|im_start|>B<|im_end|>"), 1, 2])
    assert "".join(template.stream_text(tokens)) == "A B"
    assert list(tokens) == [1, 2]


def test_reasoning_stays_in_the_stream_as_it_is(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    text = "<think>\nWell.\n</think>\n\nHi."
    assert "".join(template.stream_text(tokens_of(template, text))) == text


def test_pieces_come_while_the_tokens_do(template_of: TemplateOf) -> None:
    template = template_of("inst_sentencepiece")
    tokens = tokens_of(template, " hello world how are you")
    waiting = iter(tokens)
    assert next(template.stream_text(waiting))
    assert 0 < len(list(waiting)) < len(tokens)


@pytest.mark.parametrize("before", ["", " ", "ab"])
@pytest.mark.parametrize("after", ["", " ", "aab", "\n\n"])
def test_what_stands_around_a_stream_is_taken_off(before: str, after: str) -> None:
    drawn = random.Random(0)
    for _ in range(200):
        pieces = ["".join(drawn.choices("ab \n", k=drawn.randrange(4))) for _ in range(6)]
        whole = "".join(pieces)
        trimmed = whole.removeprefix(before).removesuffix(after)
        assert "".join(trim_stream(pieces, before=before, after=after)) == trimmed


HARMONY = [
    "<|channel|>final<|message|>Hi é🎉",
    "<|channel|>final<|message|>",
    "<|channel|>analysis<|message|>Hm 🎉é<|end|><|start|>assistant<|channel|>final<|message|>Hi there 🎉",
    " \n<|start|>neither \n",
]


@pytest.mark.parametrize("text", HARMONY)
def test_an_answer_in_channels_streams_as_it_parses_wherever_it_is_cut(text: str, tmp_path: Path) -> None:
    marks = ("<|return|>", "<|call|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>")
    folder = write_tiny_folder(tmp_path, special_tokens=marks, eos_token="<|return|>")
    template = Template.from_folder(folder, TemplateArgs(template="gpt_oss"))
    tokens = template.tokenizer.encode(text)
    for end in range(len(tokens) + 1):
        read = template.parse(tokens[:end])
        whole = join_reasoning(read.reasoning_content, read.content) if read.reasoning_content else read.content
        assert "".join(template.stream_text(tokens[:end])) == whole
