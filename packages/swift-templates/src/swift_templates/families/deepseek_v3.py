"""DeepSeek-V2.5 and V3: a token before each content and none between.

    <｜begin▁of▁sentence｜>You are helpful.<｜User｜>Hello<｜Assistant｜>Hi.<｜end▁of▁sentence｜>

All on one line; contents are kept as they are, and there is no default system prompt. Tools follow the system prompt;
calls end their answer, one as well as several, and the results stand in place of the next <｜Assistant｜>:

    <｜Assistant｜>I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather
    ```json
    {"city": "Rome"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>
    <｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>sunny<｜tool▁output▁end｜><｜tool▁outputs▁end｜>Sunny.
    <｜end▁of▁sentence｜>

There is no line break around <｜end▁of▁sentence｜> (here are some to fit the page).

Source: the chat template of DeepSeek-V3; of DeepSeek-V3-0324 for calls, which the first one does not end if there is
only one. It tells no tools and forgets the end of results before a second call: for both, tool_chat_template_
deepseekv3.jinja of vLLM without its stray white space.
"""

# ruff: noqa: RUF001, RUF002  (the format is spelled with full-width characters)

from __future__ import annotations

from ..family import Family

DEEPSEEK_V3 = Family(
    chat_template=(
        "{% macro told() %}"
        "{{ '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' }}"
        "{{ 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}"
        "{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}"
        "{{ '\n</tools>\n\nFor function call returns, you should first print <｜tool▁calls▁begin｜>' }}"
        "{{ 'For each function call, you should return object like:\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>' }}"
        "{{ '<function_name>\n```json\n<function_arguments_in_json_format>\n```<｜tool▁call▁end｜>' }}"
        "{{ 'At the end of function call returns, you should print <｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}"
        "{% endmacro %}"
        "{{ bos_token }}"
        "{% if tools and (not messages or messages[0].role != 'system') %}{{ told() }}{% endif %}"
        "{% for message in messages %}"
        "{% set after_results = loop.index0 > 0 and messages[loop.index0 - 1].role == 'tool' %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% if tools and loop.first %}{{ '\n\n' + told() }}{% endif %}"
        "{% elif message.role == 'user' %}{{ '<｜User｜>' + message.content }}"
        "{% elif message.role == 'assistant' %}"
        "{{ ('' if after_results else '<｜Assistant｜>') + message.content }}"
        "{% for call in message.tool_calls or [] %}{{ '<｜tool▁calls▁begin｜>' if loop.first else '\n' }}"
        "{{ '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + call.function.name + '\n```json\n' }}"
        "{{ call.function.arguments | tojson + '\n```<｜tool▁call▁end｜>' }}"
        "{{ '<｜tool▁calls▁end｜>' if loop.last else '' }}{% endfor %}"
        "{{ '<｜end▁of▁sentence｜>' }}"
        "{% elif message.role == 'tool' %}"
        "{{ ('\n' if after_results else '<｜tool▁outputs▁begin｜>') + '<｜tool▁output▁begin｜>' + message.content }}"
        "{{ '<｜tool▁output▁end｜>' }}"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<｜tool▁outputs▁end｜>' }}{% endif %}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt and (not messages or messages[-1].role != 'tool') %}"
        "{{ '<｜Assistant｜>' }}{% endif %}"
    ),
    stop_tokens=("<｜end▁of▁sentence｜>",),
)
