"""How real models call functions, read back from their tokens: dialects found by looking, whole answers and streams.

Harmony is tried with a chat template of its own, too, as openai/gpt-oss has one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from real_tokenizers import real_template
from swift_templates.args import TemplateArgs
from swift_templates.dialect import DialectStream, Event, join_events
from swift_templates.encoded import IGNORED
from swift_templates.errors import TemplateMismatch
from swift_templates.messages import JSON, Conversation, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder

FAMILIES = {"gptoss": "gpt_oss"}  # whose package has no chat template

TOOL: dict[str, JSON] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
USER = Message(role="user", content="How are you?")
AGAIN = Message(role="user", content="2+2?")
ANSWER = Message(role="assistant", content="Fine.")
THOUGHT = Message(role="assistant", content="4", reasoning_content="Two\n\nand two.")
CALL = Message(role="assistant", content="", tool_calls=(ToolCall("weather", {"city": "Zürich", "days": 2}),))
CALLS = Message(
    role="assistant",
    content="",
    tool_calls=(ToolCall("weather", {"city": 'a "b"\\\n🎉'}), ToolCall("weather", {"city": "Rome", "days": -1})),
)
RESULT = Message(role="tool", content='{"t": 22}\n')


def template_of_model(name: str, dialect: str | None = None) -> Template:
    """Return a real tokenizer's template; one that was not fetched skips the test."""
    template = real_template(name, TemplateArgs(template=FAMILIES.get(name), agent_template=dialect))
    if template is None:
        pytest.skip(f"tokenizer {name!r} is not there: python tests/real_tokenizers.py fetches it")
    return template


def trained_answers(template: Template, conversation: Conversation) -> list[tuple[list[int], list[int]]]:
    """Return each answer's tokens, and all that stand before it."""
    found = []
    for sample in template.encode(conversation):
        trained = [*(sample.labels != IGNORED).tolist(), False]
        start = None
        for at, each in enumerate(trained):
            if each and start is None:
                start = at
            elif not each and start is not None:
                found.append((sample.input_ids[:start].tolist(), sample.input_ids[start:at].tolist()))
                start = None
    return found


@pytest.mark.parametrize(
    ("name", "dialects"),
    [
        ("qwen3", ("hermes",)),
        ("deepseek_v3", ("deepseek_r1", "deepseek_v3")),  # which read the same
        ("llama3_1", ()),
        ("gemma3", ()),
        ("gptoss", ("gpt_oss",)),
    ],
)
def test_the_dialect_is_found_by_looking(name: str, dialects: tuple[str, ...]) -> None:
    found = template_of_model(name).dialect
    names = [f"the dialect {each!r}" for each in dialects]
    assert found is None if not names else found is not None and found.name in names


@pytest.mark.parametrize(
    ("name", "dialect", "text"),
    [
        (
            "qwen3",
            None,
            "Look.\n<tool_call>\n"
            '{"name": "weather", "arguments": {"city": "a \\"b\\"\\\\\\n🎉"}}\n</tool_call>\n<tool_call>\n'
            '{"name": "weather", "arguments": {"city": "Rome", "days": -1}}\n</tool_call><|im_end|>',
        ),
        (
            "deepseek_v3",
            None,
            "Look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"  # noqa: RUF001
            '{"city": "a \\"b\\"\\\\\\n🎉"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>'  # noqa: RUF001
            'weather\n```json\n{"city": "Rome", "days": -1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'  # noqa: RUF001
            "<｜end▁of▁sentence｜>",  # noqa: RUF001
        ),
        (
            "llama3_1",
            "llama3",
            '<|python_tag|>{"name": "weather", "parameters": {"city": "a \\"b\\"\\\\\\n🎉"}}; '
            '{"name": "weather", "parameters": {"city": "Rome", "days": -1}}<|eot_id|>',
        ),
        (
            "gptoss",
            "gpt_oss",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
            '<|constrain|>json<|message|>{"city": "a \\"b\\"\\\\\\n🎉"}<|call|>',
        ),
    ],
    ids=["qwen3", "deepseek_v3", "llama3_1", "gptoss"],
)
def test_the_tokens_of_calls_are_read_back(name: str, dialect: str | None, text: str) -> None:
    template = template_of_model(name, dialect)
    ids = template.tokenizer.encode(text)
    expected = CALLS.tool_calls[: 1 if name == "gptoss" else 2]
    message = template.parse(ids, (TOOL,))
    assert [(each.name, each.arguments) for each in message.tool_calls] == [
        (each.name, each.arguments) for each in expected
    ]
    assert message.content == ("Look." if "Look." in text else "")
    assert message.reasoning_content == ("Hm." if "Hm." in text else None)
    assert template.parse(ids).tool_calls == ()

    assert template.dialect is not None
    stream = template.dialect.stream((TOOL,))
    content, calls = join_events(events_of(stream, template, ids))
    assert stream.problem is None
    assert [(each.name, each.arguments) for each in calls] == [(each.name, each.arguments) for each in expected]
    assert content.replace("<|channel|>analysis<|message|>Hm.<|end|>", "") == message.content


def events_of(stream: DialectStream, template: Template, ids: list[int]) -> list[Event]:
    """Feed an answer token by token, as a server has it; a character of several tokens comes when it is whole."""
    events: list[Event] = []
    shown = ""
    for end, token_id in enumerate(ids, start=1):
        if token_id in template.stop_token_ids:
            break
        text = template.tokenizer.decode_after(ids[:end])
        if not text.endswith("\ufffd"):
            events += stream.feed(text[len(shown) :])
            shown = text
    return [*events, *stream.finish()]


# What the chat template of openai/gpt-oss does with answers, in short: reasoning is called `thinking`, an answer has
# one call, what a message has is asked for by `in`, and the reasoning before a call goes when there is a final answer.
HARMONY = """{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{%- if "tool_calls" in message -%}
{%- set later = namespace(final=false) -%}
{%- for each in messages[loop.index:] if each.role == 'assistant' and "tool_calls" not in each -%}
{%- set later.final = true -%}
{%- endfor -%}
{%- if "thinking" in message and not later.final -%}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' -}}
{%- endif -%}
{%- set call = message.tool_calls[0].function -%}
{{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' -}}
{{- call.arguments | tojson + '<|call|>' -}}
{%- else -%}
{%- if "thinking" in message and loop.last and not add_generation_prompt -%}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' -}}
{%- endif -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content -}}
{{- '<|return|>' if loop.last else '<|end|>' -}}
{%- endif -%}
{%- else -%}
{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if tools %}{# which stand in the developer's message #}{% endif -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}"""


@pytest.fixture(name="harmony")
def harmony_fixture(tmp_path: Path) -> Template:
    """A model that writes harmony by a chat template of its own."""
    marks = ("<|return|>", "<|call|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>")
    folder = write_tiny_folder(tmp_path, chat_template=HARMONY, special_tokens=marks, eos_token="<|return|>")
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 1]}', encoding="utf-8")
    return Template.from_folder(folder)


def test_reasoning_is_given_to_a_template_by_the_name_that_it_asks_for(harmony: Template) -> None:
    check_template(harmony)
    [(_, first), (_, second)] = trained_answers(harmony, Conversation(messages=(USER, ANSWER, AGAIN, THOUGHT)))
    assert harmony.decode(first, skip_special=False) == "<|channel|>final<|message|>Fine.<|return|>"
    assert harmony.decode(second, skip_special=False) == (
        "<|channel|>analysis<|message|>Two\n\nand two.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>"
    )
    assert harmony.parse(second) == THOUGHT
    assert "".join(harmony.stream_text(second)) == "<think>\nTwo\n\nand two.\n</think>\n\n4"


def test_harmony_is_read_with_its_reasoning_and_its_call(harmony: Template) -> None:
    assert harmony.dialect is not None and harmony.dialect.name == "the dialect 'gpt_oss'"
    call = dataclasses.replace(CALL, reasoning_content="I say <|call|>.")
    last = dataclasses.replace(ANSWER, loss=False)
    conversation = Conversation(messages=(USER, call, RESULT, last), tools=(TOOL,))
    [(_, answer)] = trained_answers(harmony, conversation)
    parsed = harmony.parse(answer, (TOOL,))
    assert (parsed.content, parsed.reasoning_content) == ("", "I say <|call|>.")
    assert parsed.tool_calls == (dataclasses.replace(CALL.tool_calls[0], id="call_0"),)


def test_reasoning_before_a_call_stays_in_the_prompt_of_the_final_answer(harmony: Template) -> None:
    first = dataclasses.replace(CALL, reasoning_content="One, <|end|>.")
    second = dataclasses.replace(CALL, reasoning_content="Two.")
    messages = (USER, first, RESULT, second, RESULT, THOUGHT, AGAIN, THOUGHT)
    answers = trained_answers(harmony, Conversation(messages=messages, tools=(TOOL,)))
    for position, (before, said) in zip((1, 3, 5, 7), answers, strict=True):
        prompt = harmony.encode_prompt(Conversation(messages=messages[:position], tools=(TOOL,)))
        assert before == prompt.input_ids
        assert harmony.parse(said, (TOOL,)).reasoning_content == messages[position].reasoning_content
    final, later = (harmony.decode(answers[at][0], skip_special=False) for at in (2, 3))
    assert final.count("One, <|end|>.") == final.count("Two.") == 1
    assert "One, " not in later and "Two." not in later
    assert harmony.decode(answers[2][1], skip_special=False) == (
        "<|channel|>analysis<|message|>Two\n\nand two.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>"
    )


def test_a_second_call_of_the_same_function_is_not_lost_in_silence(harmony: Template) -> None:
    for ask, messages in (
        (harmony.encode, (USER, CALLS, RESULT, RESULT, ANSWER)),
        (harmony.encode_prompt, (USER, CALLS, RESULT, RESULT)),
    ):
        with pytest.raises(TemplateMismatch, match="leaves out or changes 'weather'"):
            ask(Conversation(messages=messages, tools=(TOOL,)))


def test_text_of_a_row_is_not_taken_for_the_marks_of_a_dialect(harmony: Template, tmp_path: Path) -> None:
    call = dataclasses.replace(CALL, tool_calls=(ToolCall("weather", {"city": "<|end|>"}),))
    conversation = Conversation(messages=(USER, call, RESULT, ANSWER), tools=(TOOL,))
    hermes = Template.from_folder(tmp_path, TemplateArgs(agent_template="hermes"))
    [(_, answer), _] = trained_answers(hermes, conversation)
    assert hermes.parse(answer, (TOOL,)).tool_calls[0].arguments == {"city": "<|end|>"}
    # The dialect's own marks are found although the row has such text, too.
    own = Template.from_folder(tmp_path, TemplateArgs(agent_template="gpt_oss"))
    for messages in ((USER, CALL, RESULT, ANSWER), (Message(role="user", content="<|end|>"), call, RESULT, ANSWER)):
        with pytest.raises(TemplateMismatch, match="writes control tokens of this model"):
            own.encode(Conversation(messages=messages, tools=(TOOL,)))
