"""Rounds with calls in the families of harmony and DeepSeek V3: rendered, trained, read back and streamed.

What is trained is what the model says after just the prompt that a server sends, up to the token at which it stops.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.dialect import join_events
from swift_templates.dialects._typescript import namespace
from swift_templates.encoded import IGNORED
from swift_templates.errors import ChatTemplateError
from swift_templates.messages import JSON, Conversation, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

# ruff: noqa: RUF001  (DeepSeek's tokens have such bars)

GOLDEN = Path(__file__).parent / "families"
TOOL: dict[str, JSON] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Look out of\nthe window.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": ["integer", "null"], "default": 3},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                "parts": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}},
                "place": {"type": "object", "properties": {"x": {"type": "boolean"}, "y": True}, "required": ["x"]},
                "lists": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
                "other": {"type": "object"},
                "what": {},
            },
            "required": ["city"],
        },
    },
}
NOW: dict[str, JSON] = {"type": "function", "function": {"name": "now"}}
TOOLS = (TOOL, NOW)

SYSTEM = Message(role="system", content="Be brief.")
USER = Message(role="user", content="Rome?")
RESULT = Message(role="tool", content="sunny <|end|>")
ROME = ToolCall("weather", {"city": "Rome <|call|>", "days": 2})


def answer(content: str, reasoning: str | None = None, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=content, reasoning_content=reasoning, tool_calls=calls)


TALK = (
    *(SYSTEM, USER, answer("I look.", "Look.", ROME), RESULT, answer("", "And now?", ToolCall("now", {})), RESULT),
    *(answer("Sunny.", "I know."), Message(role="user", content="Thanks"), answer("Welcome.", "Polite.")),
)
PLAIN_TALK = tuple(answer(each.content, None, *each.tool_calls) if each.role == "assistant" else each for each in TALK)
CALLED = '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Rome <|call|>", "days": 2}'
# By hand, from docs/format.md of openai/harmony and from the chat template of DeepSeek-V3-0324.
TRAINED = {
    "gpt_oss": [
        "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        f"<|start|>assistant{CALLED}<|call|>",
        "<|channel|>analysis<|message|>And now?<|end|><|start|>assistant<|channel|>commentary to=functions.now "
        "<|constrain|>json<|message|>{}<|call|>",
        "<|channel|>analysis<|message|>I know.<|end|><|start|>assistant<|channel|>final<|message|>Sunny.<|return|>",
        "<|channel|>analysis<|message|>Polite.<|end|><|start|>assistant<|channel|>final<|message|>Welcome.<|return|>",
    ],
    "deepseek_v3": [
        "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
        '{"city": "Rome <|call|>", "days": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n"
        "{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        "Sunny.<｜end▁of▁sentence｜>",
        "Welcome.<｜end▁of▁sentence｜>",
    ],
}
TALKS = {"gpt_oss": TALK, "deepseek_v3": PLAIN_TALK}
TemplateOf = Callable[[str], Template]


@pytest.fixture(scope="module", name="family_template")
def family_template_fixture(tmp_path_factory: pytest.TempPathFactory) -> TemplateOf:
    """Give a family's template by name, for a tiny tokenizer with its model's control tokens."""

    def build(family: str) -> Template:
        golden = json.loads((GOLDEN / f"{family}.json").read_text(encoding="utf-8"))
        names = ("special_tokens", "eos_token", "bos_token")
        folder = write_tiny_folder(tmp_path_factory.mktemp(family), **{name: golden[name] for name in names})
        return Template.from_folder(folder, TemplateArgs(template=family))

    return build


def trained_answers(template: Template, conversation: Conversation) -> list[tuple[list[int], list[int]]]:
    """Return each answer's tokens after all that stand before it."""
    found = []
    for sample in template.encode(conversation):
        trained = np.concatenate([[0], (sample.labels != IGNORED).astype(np.int8), [0]])
        for start, end in np.flatnonzero(np.diff(trained)).reshape(-1, 2):
            found.append((sample.input_ids[:start].tolist(), sample.input_ids[start:end].tolist()))
    return found


@pytest.mark.parametrize("family", TALKS)
def test_what_is_trained_of_a_round_with_calls_is_what_follows_the_server_s_prompt(
    family: str, family_template: TemplateOf
) -> None:
    template, messages = family_template(family), TALKS[family]
    answers = trained_answers(template, Conversation(messages=messages, tools=TOOLS))
    positions = [at for at, each in enumerate(messages) if each.role == "assistant"]
    assert [template.decode(said, skip_special=False) for _, said in answers] == TRAINED[family]
    for position, (before, said) in zip(positions, answers, strict=True):
        assert before == template.encode_prompt(Conversation(messages=messages[:position], tools=TOOLS)).input_ids
        assert said[-1] in template.stop_token_ids and not template.stop_token_ids & set(said[:-1])


@pytest.mark.parametrize("family", TALKS)
def test_answers_of_a_round_with_calls_are_read_back_whole_and_in_pieces(
    family: str, family_template: TemplateOf
) -> None:
    template, messages = family_template(family), TALKS[family]
    assert template.dialect is not None
    answers = trained_answers(template, Conversation(messages=messages, tools=TOOLS))
    for message, (_, said) in zip([each for each in messages if each.role == "assistant"], answers, strict=True):
        parsed = template.parse(said, TOOLS)
        called = [(each.name, each.arguments) for each in message.tool_calls]
        assert (parsed.content, parsed.reasoning_content) == (message.content, message.reasoning_content)
        assert [(each.name, each.arguments) for each in parsed.tool_calls] == called
        if not called:
            assert "".join(template.stream_text(said)).endswith(message.content)
            continue
        # Its own text is spelled as tokens are here, so the look-alikes of the row are taken out.
        text = template.decode(said[:-1], skip_special=False).replace(" <|call|>", "")
        stream = template.dialect.stream(TOOLS)
        events = [event for character in text for event in stream.feed(character)]
        content, calls = join_events([*events, *stream.finish()])
        assert stream.problem is None and content.endswith(message.content)
        assert [each.name for each in calls] == [name for name, _ in called]


def test_harmony_keeps_reasoning_until_there_is_a_final_answer(family_template: TemplateOf) -> None:
    template = family_template("gpt_oss")

    def prompt(count: int) -> str:
        return template.render(Conversation(messages=TALK[:count], tools=TOOLS), generation_prompt=True)

    # docs/format.md, "Handling reasoning output in subsequent sampling".
    assert "Look." in prompt(4) and "Look." in prompt(6) and "And now?" in prompt(6)
    assert not any(each in prompt(8) for each in ("Look.", "And now?", "I know."))
    first, second = template.encode(Conversation(messages=TALK, tools=TOOLS))
    assert template.decode(first.input_ids).count("Look.") == 1
    assert "Look." not in template.decode(second.input_ids)


def test_harmony_has_one_call_an_answer_and_results_of_calls_only(family_template: TemplateOf) -> None:
    template = family_template("gpt_oss")
    twice = answer("", None, ROME, ROME)
    with pytest.raises(ChatTemplateError, match="one call an answer"):
        template.encode(Conversation(messages=(USER, twice, RESULT, RESULT, answer("Sunny.")), tools=TOOLS))
    with pytest.raises(ChatTemplateError, match="no place for role tool here"):
        template.encode(Conversation(messages=(USER, answer("I look."), RESULT, answer("Sunny.")), tools=TOOLS))


@pytest.mark.parametrize("system", [None, SYSTEM], ids=["without a system prompt", "with one"])
def test_harmony_s_family_tells_tools_as_its_dialect_does(system: Message | None, family_template: TemplateOf) -> None:
    messages = (USER,) if system is None else (system, USER)
    text = family_template("gpt_oss").render(Conversation(messages=messages, tools=TOOLS), generation_prompt=True)
    instructions = "" if system is None else "# Instructions\n\nBe brief.\n\n"
    assert f"<|message|>{instructions}# Tools\n\n{namespace('functions', TOOLS)}<|end|>" in text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_deepseek_ends_any_number_of_calls_once(number: int, family_template: TemplateOf) -> None:
    template = family_template("deepseek_v3")
    messages = (USER, answer("", None, *[ROME] * number), *[RESULT] * number, answer("Sunny."))
    [(_, said), (before, _)] = trained_answers(template, Conversation(messages=messages, tools=TOOLS))
    text = template.decode(said, skip_special=False)
    assert text.count("<｜tool▁call▁begin｜>") == number and text.count("<｜tool▁calls▁end｜>") == 1
    assert text.endswith("<｜tool▁calls▁end｜><｜end▁of▁sentence｜>")
    assert len(template.parse(said, TOOLS).tool_calls) == number
    results = template.decode(before, skip_special=False).rpartition("<｜tool▁outputs▁begin｜>")[2]
    assert results.count("<｜tool▁output▁begin｜>") == number and results.endswith("<｜tool▁outputs▁end｜>")
