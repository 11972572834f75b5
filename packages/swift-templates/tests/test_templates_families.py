"""Every family writes what the models' own format writes, and keeps the laws with a tokenizer that has its tokens.

The texts in `families/` come from the official formats, not from our files; its README says from where.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import pytest
from swift_templates.args import TemplateArgs
from swift_templates.encoded import IGNORED
from swift_templates.errors import ChatTemplateError, TemplateMismatch
from swift_templates.family import families
from swift_templates.messages import JSON, Conversation, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder

GOLDEN = Path(__file__).parent / "families"
NAMES = families.names()


class GoldenMessage(TypedDict, total=False):
    """A message as the official templates take it."""

    role: str
    content: str
    reasoning_content: str
    tool_calls: list[dict[str, dict[str, JSON]]]


class GoldenConversation(TypedDict):
    """What is rendered."""

    generation_prompt: bool
    messages: list[GoldenMessage]
    tools: list[dict[str, JSON]]


class Golden(TypedDict):
    """What a family's model makes of the conversations; None is refused."""

    model: str
    special_tokens: list[str]
    bos_token: str | None
    eos_token: str
    stop_token: str
    texts: dict[str, str | None]


def read_golden(family: str) -> Golden:
    golden: Golden = json.loads((GOLDEN / f"{family}.json").read_text(encoding="utf-8"))
    return golden


CONVERSATIONS: dict[str, GoldenConversation] = json.loads((GOLDEN / "conversations.json").read_text(encoding="utf-8"))
CASES = [(family, name) for family in NAMES for name in read_golden(family)["texts"]]
TemplateOf = Callable[..., Template]


def to_conversation(name: str) -> Conversation:
    golden = CONVERSATIONS[name]
    return Conversation(messages=tuple(map(to_message, golden["messages"])), tools=tuple(golden.get("tools", [])))


def to_message(golden: GoldenMessage) -> Message:
    calls = [ToolCall(**call["function"]) for call in golden.get("tool_calls", [])]  # type: ignore[arg-type]  # JSON
    return Message(
        role=golden["role"],  # type: ignore[arg-type]  # JSON
        content=golden["content"],
        reasoning_content=golden.get("reasoning_content"),
        tool_calls=tuple(calls),
    )


@pytest.fixture(scope="module", name="family_template")
def family_template_fixture(tmp_path_factory: pytest.TempPathFactory) -> TemplateOf:
    """Give a family's template by name, for a tiny tokenizer with its model's control tokens."""
    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def folder(family: str) -> Path:
        golden = read_golden(family)
        return write_tiny_folder(
            root / family,
            special_tokens=golden["special_tokens"],
            eos_token=golden["eos_token"],
            bos_token=golden["bos_token"],
        )

    def build(family: str, **args: object) -> Template:
        return Template.from_folder(folder(family), TemplateArgs(template=family, **args))  # type: ignore[arg-type]  # passed through

    return build


@pytest.mark.parametrize(("family", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_family_writes_the_official_text(family: str, name: str, family_template: TemplateOf) -> None:
    template = family_template(family)
    expected = read_golden(family)["texts"][name]
    generation_prompt = CONVERSATIONS[name]["generation_prompt"]
    if expected is None:
        with pytest.raises(ChatTemplateError):
            template.render(to_conversation(name), generation_prompt=generation_prompt)
    else:
        assert template.render(to_conversation(name), generation_prompt=generation_prompt) == expected


@pytest.mark.parametrize("family", NAMES)
def test_family_keeps_the_laws_with_its_own_tokens(family: str, family_template: TemplateOf) -> None:
    check_template(family_template(family))


def test_the_channels_of_harmony_are_streamed_as_they_are_parsed(family_template: TemplateOf) -> None:
    template = family_template("gpt_oss")
    answer = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi 🎉.<|return|>"
    ids = template.tokenizer.encode(answer)
    assert template.parse(ids) == Message(role="assistant", content="Hi 🎉.", reasoning_content="Hm.")
    pieces = list(template.stream_text(ids))
    assert "".join(pieces) == "<think>\nHm.\n</think>\n\nHi 🎉." and len(pieces) > 3
    assert "".join(template.stream_text(template.tokenizer.encode("Hi."))) == "Hi."


# Tokenizers that put a space before what they are given are not to make a difference to formats of that time.
@pytest.mark.parametrize(
    "family", ["llama2", "mistral_v1", "vicuna", "zephyr", "alpaca", "minicpm", "plain_text"], ids=str
)
def test_family_keeps_the_laws_with_a_sentencepiece_tokenizer(family: str, template_of: TemplateOf) -> None:
    check_template(template_of("inst_sentencepiece", template=family))


@pytest.mark.parametrize("family", NAMES)
def test_a_sample_is_the_official_question_and_then_the_official_answer(
    family: str, family_template: TemplateOf
) -> None:
    template, golden = family_template(family), read_golden(family)
    question, whole = golden["texts"]["question"], golden["texts"]["answer"]
    assert question is not None
    assert whole is not None
    [sample] = template.encode(to_conversation("answer"))
    trained = sample.labels != IGNORED
    stop = golden["stop_token"]
    answer = whole[len(question) : whole.index(stop, len(question)) + len(stop)]
    assert template.decode(sample.input_ids[~trained], skip_special=False) == question
    assert template.decode(sample.input_ids[trained], skip_special=False) == answer
    assert sample.labels[-1] == template.tokenizer.special_ids[stop]


@pytest.mark.parametrize("family", ["qwen3", "deepseek_r1", "gpt_oss"])
def test_thinking_is_trained_in_a_branch_for_each_answer(family: str, family_template: TemplateOf) -> None:
    template = family_template(family)
    conversation = to_conversation("reasoning_later_answer")
    first, second = template.encode(conversation)
    for sample, reasoning in ((first, "Two and two is four."), (second, "Four and three.")):
        trained = template.decode(sample.input_ids[sample.labels != IGNORED], skip_special=False)
        assert reasoning in trained
    assert "Two and two is four." not in template.decode(second.input_ids, skip_special=False)


@pytest.mark.parametrize("name", ["mistral_v3", "chatglm2", "minicpm", "falcon", "baichuan2", "plain_text"])
def test_formats_that_end_only_the_last_answer_or_move_the_system_prompt_branch(
    name: str, family_template: TemplateOf
) -> None:
    assert not family_template(name).extends(to_conversation("later_answer"))


@pytest.mark.parametrize(
    "name", ["llama2", "llama3", "mistral_v1", "phi3", "chatglm3", "glm4", "deepseek_v3", "qwen2_5"]
)
def test_other_formats_train_a_dialogue_in_one_sample(name: str, family_template: TemplateOf) -> None:
    assert family_template(name).extends(to_conversation("later_answer"))


def test_qwen3_without_thinking_ends_its_prompt_with_an_empty_think_block(family_template: TemplateOf) -> None:
    template = family_template("qwen3", enable_thinking=False)
    # As Qwen/Qwen3-8B's own template does.
    assert template.render(to_conversation("question"), generation_prompt=True) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    check_template(template)


WITH_TOOLS = ("chatml", "deepseek_v3", "gpt_oss", "qwen2_5", "qwen3")


@pytest.mark.parametrize("family", [name for name in NAMES if name not in WITH_TOOLS])
def test_a_family_without_tools_refuses_calls_rather_than_drop_them(family: str, family_template: TemplateOf) -> None:
    messages = (
        Message(role="user", content="Rome?"),
        Message(role="assistant", content="I look.", tool_calls=(ToolCall("weather", {"city": "Rome"}),), loss=False),
        Message(role="tool", content="sunny"),
        Message(role="assistant", content="Sunny."),
    )
    with pytest.raises((ChatTemplateError, TemplateMismatch), match=r"no place for role tool|leaves out such"):
        family_template(family).encode(Conversation(messages=messages))


@pytest.mark.parametrize(
    ("written", "family"),
    [("deepseek-r1", "deepseek_r1"), ("Qwen2-5", "qwen2_5"), ("gpt-oss", "gpt_oss"), ("Plain-Text", "plain_text")],
)
def test_families_are_found_by_names_with_hyphens(written: str, family: str) -> None:
    assert families.load(written) is families.load(family)


def test_a_family_for_other_control_tokens_is_refused(template_of: TemplateOf) -> None:
    with pytest.raises(TemplateMismatch, match=r"'llama3' ends an answer with '<\|eot_id\|>'"):
        template_of("chatml", template="llama3")
