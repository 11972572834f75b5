"""Qwen 2.5: ChatML with a default system prompt, which also holds the tools.

    <|im_start|>system
    You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>
    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    Hi.<|im_end|>

Every line ends with a newline, the last one too. The system prompt above is there where a conversation has none. With
tools, their JSON follows it, and calls and results are written like this:

    <|im_start|>assistant
    <tool_call>
    {"name": "weather", "arguments": {"city": "Rome"}}
    </tool_call><|im_end|>
    <|im_start|>user
    <tool_response>
    sunny
    </tool_response><|im_end|>
"""

from __future__ import annotations

from ..family import Family

QWEN2_5 = Family(
    chat_template=(
        "{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
        "{{ 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}{% endif %}"
        "{% if tools %}{{ '\n\n' }}"
        "{{ '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n'"
        " 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}"
        "{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}"
        "{{ '\n</tools>\n\nFor each function call, return a json object with function name and arguments within '"
        ' \'<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": \''
        " '<args-json-object>}\n</tool_call>' }}"
        "{% endif %}"
        "{{ '<|im_end|>\n' }}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}{{ '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}"
        "{% elif message.role == 'assistant' %}{{ '<|im_start|>assistant' }}"
        "{% if message.content or not message.tool_calls %}{{ '\n' + message.content }}{% endif %}"
        "{% for call in message.tool_calls or [] %}{{ '\n' }}"
        '{{ \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
        "{{ call.function.arguments | tojson + '}\n</tool_call>' }}"
        "{% endfor %}{{ '<|im_end|>\n' }}"
        "{% elif message.role == 'tool' %}"
        "{% if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
        "{{ '\n<tool_response>\n' + message.content + '\n</tool_response>' }}"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
