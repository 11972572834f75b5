"""Qwen 3: ChatML with thinking, which is shown after the last question and taken out of the history before it.

    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    Hi.<|im_end|>
    <|im_start|>user
    And?<|im_end|>
    <|im_start|>assistant
    <think>
    They want more.
    </think>

    Yes.<|im_end|>

Every line ends with a newline, the last one too. The last answer has a think block even if it is empty. With
enable_thinking false, the generation prompt ends with an empty block. There is no default system prompt; tools, calls
and results are written as in `qwen2_5`.
"""

from __future__ import annotations

from ..family import Family

QWEN3 = Family(
    chat_template=(
        "{% if tools or messages[0].role == 'system' %}{{ '<|im_start|>system\n' }}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% if tools %}{{ '\n\n' }}{% endif %}{% endif %}"
        "{% if tools %}"
        "{{ '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n'"
        " 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}"
        "{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}"
        "{{ '\n</tools>\n\nFor each function call, return a json object with function name and arguments within '"
        ' \'<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": \''
        " '<args-json-object>}\n</tool_call>' }}"
        "{% endif %}"
        "{{ '<|im_end|>\n' }}{% endif %}"
        "{% set question = namespace(last=-1) %}{% for message in messages %}"
        "{% if message.role == 'user' %}{% set question.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}{{ '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}"
        "{% elif message.role == 'assistant' %}"
        "{% set reasoning, content = message.reasoning_content or '', message.content %}"
        "{% if not reasoning and '</think>' in content %}"
        "{% set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<|im_start|>assistant\n' }}"
        "{% if loop.index0 > question.last and (loop.last or reasoning) %}"
        "{% set content = content.lstrip('\n') %}"
        "{{ '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' }}{% endif %}"
        "{{ content }}"
        "{% for call in message.tool_calls or [] %}{% if content or not loop.first %}{{ '\n' }}{% endif %}"
        '{{ \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
        "{{ call.function.arguments | tojson + '}\n</tool_call>' }}"
        "{% endfor %}{{ '<|im_end|>\n' }}"
        "{% elif message.role == 'tool' %}"
        "{% if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
        "{{ '\n<tool_response>\n' + message.content + '\n</tool_response>' }}"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
