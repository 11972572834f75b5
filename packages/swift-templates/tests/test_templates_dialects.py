"""Agent dialects: what they write is the official format, and what is read is what was written, however it comes.

Expected texts are written by hand after the chat templates and papers that each dialect's file names as its source.
"""

# ruff: noqa: RUF001  # tokens of DeepSeek have bars of their own
from __future__ import annotations

from collections.abc import Sequence

import pytest
from swift_templates.dialect import (
    DIALECTS,
    InvalidTools,
    Tool,
    load_dialect,
)
from swift_templates.dialect_check import TOOLS, check_dialect
from swift_templates.errors import LawBroken
from swift_templates.messages import JSON, Message, ToolCall

NAMES = DIALECTS.names()
LOADED = {name: load_dialect(name) for name in NAMES}
# Their arguments are JSON, so that every JSON object can be said.
IN_JSON = [name for name in NAMES if name not in ("llama4", "glm4_5", "qwen3_coder")]

WEATHER = ToolCall("get_weather", {"city": "Paris", "days": 3}, "Xq3bA91Zt")
CLOCK = ToolCall("get_time", {}, "call_1")


def answer(content: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=content, tool_calls=calls)


def result(content: str, call_id: str | None = None) -> Message:
    return Message(role="tool", content=content, tool_call_id=call_id)


# Dialect: one call with text, if it can have any; its format.
ONE_CALL = {
    "command_r7b": (
        'Let me see.<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", '
        '"parameters": {"city": "Paris", "days": 3}}\n]<|END_ACTION|>'
    ),
    "deepseek_r1": (
        "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "Paris", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    ),
    "deepseek_v3": (
        "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "Paris", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    ),
    "deepseek_v3_1": (
        "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "Paris", "days": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    ),
    "glm4": 'get_weather\n{"city": "Paris", "days": 3}',
    "glm4_5": (
        "Let me see.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
    ),
    "gpt_oss": (
        "<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant"
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "Paris", "days": 3}<|call|>'
    ),
    "hermes": (
        'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>'
    ),
    "internlm": (
        'Let me see.<|action_start|><|plugin|>\n{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}'
        "<|action_end|>"
    ),
    "llama3": 'Let me see.<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}',
    "llama4": '[get_weather(city="Paris", days=3)]',
    "mistral": (
        'Let me see.[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}, '
        '"id": "Xq3bA91Zt"}]'
    ),
    "qwen3_coder": (
        "Let me see.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"
    ),
    "qwen_en": 'Let me see.\n✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Paris", "days": 3}',
    "qwen_zh": 'Let me see.\n✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Paris", "days": 3}',
    "react_en": 'Let me see.\nAction: get_weather\nAction Input: {"city": "Paris", "days": 3}\nObservation:',
    "react_zh": 'Let me see.\nAction: get_weather\nAction Input: {"city": "Paris", "days": 3}\nObservation:',
    "toolbench": 'Let me see.\nAction: get_weather\nAction Input: {"city": "Paris", "days": 3}',
}

# Dialect: two calls without text.
TWO_CALLS = {
    "command_r7b": (
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        '{"city": "Paris", "days": 3}},\n    {"tool_call_id": "1", "tool_name": "get_time", "parameters": {}}\n'
        "]<|END_ACTION|>"
    ),
    "deepseek_v3": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "Paris", "days": 3}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek_v3_1": (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris", "days": 3}'
        "<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "glm4_5": (
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>get_time\n</tool_call>"
    ),
    "hermes": (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    ),
    "llama4": '[get_weather(city="Paris", days=3), get_time()]',
    "qwen3_coder": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>"
    ),
    "qwen_en": ('✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Paris", "days": 3}\n✿FUNCTION✿: get_time\n✿ARGS✿: {}'),
}

# Dialect: the role and the content of one result, or of two.
RESULTS = {
    "command_r7b": (
        "tool",
        '<|START_TOOL_RESULT|>[\n    {\n        "tool_call_id": "0",\n        "results": {\n            "0": "21"\n'
        '        },\n        "is_error": null\n    }\n]<|END_TOOL_RESULT|>',
    ),
    "deepseek_r1": (
        "tool",
        "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>21<｜tool▁output▁end｜>\n"
        "<｜tool▁output▁begin｜>22<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
    ),
    "deepseek_v3": (
        "tool",
        "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>21<｜tool▁output▁end｜>\n"
        "<｜tool▁output▁begin｜>22<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
    ),
    "deepseek_v3_1": (
        "tool",
        "<｜tool▁output▁begin｜>21<｜tool▁output▁end｜><｜tool▁output▁begin｜>22<｜tool▁output▁end｜>",
    ),
    "glm4": ("tool", "21"),
    "glm4_5": ("tool", "<tool_response>\n21\n</tool_response>\n<tool_response>\n22\n</tool_response>"),
    "gpt_oss": ("tool", "21"),
    "hermes": ("user", "<tool_response>\n21\n</tool_response>\n<tool_response>\n22\n</tool_response>"),
    "internlm": ("tool", "21"),
    "llama3": ("tool", '{"output": "21"}'),
    "llama4": ("tool", '"21"'),
    # A result that is JSON is written as such; an id of another length than nine is hashed.
    "mistral": ("tool", '[TOOL_RESULTS] {"content": 21, "call_id": "Xq3bA91Zt"}[/TOOL_RESULTS]'),
    "qwen3_coder": ("user", "<tool_response>\n21\n</tool_response>\n<tool_response>\n22\n</tool_response>\n"),
    "qwen_en": ("user", "✿RESULT✿: 21\n✿RESULT✿: 22\n✿RETURN✿:"),
    "qwen_zh": ("user", "✿RESULT✿: 21\n✿RESULT✿: 22\n✿RETURN✿:"),
    "react_en": ("user", "21"),
    "react_zh": ("user", "21"),
    "toolbench": ("tool", "21"),
}


def test_every_dialect_has_its_format_here() -> None:
    assert sorted(ONE_CALL) == sorted(RESULTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_dialect_keeps_its_contract(name: str) -> None:
    check_dialect(LOADED[name])


@pytest.mark.parametrize(("name", "expected"), ONE_CALL.items(), ids=str)
def test_a_call_is_written_as_the_model_does(name: str, expected: str) -> None:
    content = "Let me see." if LOADED[name].text_beside_calls else ""
    assert LOADED[name].render_calls(answer(content, WEATHER)) == expected


@pytest.mark.parametrize(("name", "expected"), TWO_CALLS.items(), ids=str)
def test_calls_are_written_as_the_model_does(name: str, expected: str) -> None:
    assert LOADED[name].render_calls(answer("", WEATHER, CLOCK)) == expected


@pytest.mark.parametrize(("name", "expected"), RESULTS.items(), ids=str)
def test_results_are_written_as_the_model_sees_them(name: str, expected: tuple[str, str]) -> None:
    results = [result("21", "Xq3bA91Zt"), result("22", "call_1")]
    several = expected[1].count("22") > 0
    assert LOADED[name].render_results(results if several else results[:1]) == expected


def test_hermes_tells_tools_as_the_chat_template_of_qwen_3() -> None:
    tool: Tool = {"type": "function", "function": {"name": "f", "description": "Größe", "parameters": {}}}
    assert LOADED["hermes"].render_tools([tool, TOOLS[1]]) == (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "f", "description": "Größe", "parameters": {}}}\n'
        '{"type": "function", "function": {"name": "get_time", "description": "Get the time."}}\n'
        "</tools>\n\n"
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def test_gpt_oss_tells_tools_as_harmony_documents_it() -> None:
    def tool(name: str, description: str, properties: dict[str, JSON], *required: JSON) -> Tool:
        schema: JSON = {"type": "object", "properties": properties, "required": list(required)}
        return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}

    unit: JSON = {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"}
    places = 'List of city and state, e.g. ["San Francisco, CA", "New York, NY"]'
    tools = [
        tool("get_location", "Gets the location of the user.", {}),
        tool(
            "get_current_weather",
            "Gets the current weather in the provided location.",
            {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "format": unit,
            },
            "location",
        ),
        tool(
            "get_multiple_weathers",
            "Gets the current weather in the provided list of locations.",
            {
                "locations": {"type": "array", "items": {"type": "string"}, "description": places},
                "format": unit,
            },
            "locations",
        ),
    ]
    # docs/format.md of openai/harmony, "Defining available tools".
    assert LOADED["gpt_oss"].render_tools(tools) == (
        "# Tools\n\n## functions\n\nnamespace functions {\n\n"
        "// Gets the location of the user.\ntype get_location = () => any;\n\n"
        "// Gets the current weather in the provided location.\ntype get_current_weather = (_: {\n"
        "// The city and state, e.g. San Francisco, CA\nlocation: string,\n"
        'format?: "celsius" | "fahrenheit", // default: celsius\n}) => any;\n\n'
        "// Gets the current weather in the provided list of locations.\ntype get_multiple_weathers = (_: {\n"
        f'// {places}\nlocations: string[],\nformat?: "celsius" | "fahrenheit", // default: celsius\n}}) => any;\n\n'
        "} // namespace functions"
    )


def test_qwen3_coder_tells_tools_in_tags() -> None:
    text = LOADED["qwen3_coder"].render_tools(TOOLS)
    assert text.startswith(
        "# Tools\n\nYou have access to the following functions:\n\n<tools>\n<function>\n<name>get_weather</name>\n"
        "<description>Get the weather.</description>\n<parameters>\n<parameter>\n<name>city</name>\n"
        "<type>string</type>\n<description>The city.</description>\n</parameter>\n<parameter>\n<name>days</name>\n"
    )
    assert '<required>["city"]</required>\n</parameters>\n</function>\n<function>\n<name>get_time</name>' in text


def test_other_prompts_hold_the_lines_of_their_sources() -> None:
    lines = {
        "react_en": "Action: the action to take, should be one of [get_weather,get_time]\n",
        "react_zh": "Action: 工具的名称，必须是[get_weather,get_time]之一\n",
        "qwen_en": "get_time: Get the time. Parameters: {} Format the arguments as a JSON object.\n\n## Insert",
        "qwen_zh": "✿FUNCTION✿: 工具1的名称，必须是[get_weather,get_time]之一\n",
        "deepseek_v3_1": "### get_time\nDescription: Get the time.\n\nParameters: {}\n\nIMPORTANT: ALWAYS adhere",
        "glm4": '## get_time\n\n{\n    "name": "get_time",\n    "description": "Get the time."\n}\n在调用上述函数时',
        "internlm": '{"name": "get_time", "description": "Get the time."}]',
        "mistral": '{"name": "get_time", "description": "Get the time."}}][/AVAILABLE_TOOLS]',
        "toolbench": 'access to the following APIs: [{"name": "get_weather", "description": "Get the weather."',
    }
    for name, line in lines.items():
        assert line in LOADED[name].render_tools(TOOLS), name


def test_a_marker_inside_of_json_is_escaped_so_that_no_parser_takes_it_for_one() -> None:
    call = ToolCall("f", {"text": "</tool_call> <tool_call>"})
    text = LOADED["hermes"].render_calls(answer("", call))
    assert text.count("</tool_call>") == text.count("<tool_call>") == 1
    assert "\\u003c/tool_call> \\u003ctool_call>" in text
    assert LOADED["hermes"].parse(text).calls[0].arguments == call.arguments


@pytest.mark.parametrize("name", ["qwen3_coder", "glm4_5"])
def test_bare_values_need_the_schema_where_they_are_ambiguous(name: str) -> None:
    message = answer("", ToolCall("get_weather", {"city": "12", "days": 12}))
    text = LOADED[name].render_calls(message, TOOLS)
    assert LOADED[name].parse(text, TOOLS).calls[0].arguments == {"city": "12", "days": 12}
    with pytest.raises(InvalidTools, match="schemas"):
        LOADED[name].render_calls(message)


def test_what_a_dialect_cannot_say_it_refuses() -> None:
    for name in ("react_en", "toolbench", "llama3", "glm4", "gpt_oss"):
        with pytest.raises(InvalidTools, match=f"2 calls; the dialect '{name}' writes one"):
            LOADED[name].render_calls(answer("", WEATHER, CLOCK))
    for name in ("glm4", "llama4"):
        with pytest.raises(InvalidTools, match="writes either"):
            LOADED[name].render_calls(answer("Hm.", WEATHER))
    refused: list[tuple[str, dict[str, object]]] = [
        ("hermes", {"a": float("nan")}),
        ("hermes", {"a": {1, 2}}),
        ("hermes", {"a": "\ud800"}),
        ("hermes", {"a": (1, 2)}),
        ("llama4", {"not a name": 1}),
        ("glm4_5", {"a": "</arg_value>"}),
        ("qwen3_coder", {"a>b": 1}),
    ]
    for name, arguments in refused:
        call = ToolCall("f", arguments)  # type: ignore[arg-type]  # what a user may give all the same
        if arguments == {"a": (1, 2)}:
            # A tuple is written as a list, and read as one.
            assert LOADED[name].render_calls(answer("", call))
            continue
        with pytest.raises(InvalidTools):
            LOADED[name].render_calls(answer("", call))
    with pytest.raises(InvalidTools, match="would be read as"):
        LOADED["hermes"].render_calls(answer("say <tool_call> please", WEATHER))


def test_a_content_without_calls_stays_as_it_is() -> None:
    for dialect in LOADED.values():
        assert dialect.render_calls(answer("<tool_call> [f( Action: x\n")) == "<tool_call> [f( Action: x\n"


def test_the_check_finds_a_dialect_that_loses_something() -> None:
    class Forgetful(type(LOADED["hermes"])):  # type: ignore[misc]  # made of a class that is found by name
        def render_tools(self, tools: Sequence[Tool]) -> str:
            return "There are tools."

    class Boastful(type(LOADED["react_en"])):  # type: ignore[misc]
        several_calls = True

    for broken in (Forgetful(), Boastful()):
        with pytest.raises(LawBroken):
            check_dialect(broken)


def test_an_unknown_dialect_is_named_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="agent dialect 'hermess' is unknown; did you mean 'hermes'"):
        load_dialect("hermess")
