"""Qwen 1, 1.5 and 2: ChatML with a default system prompt.

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    Hi.<|im_end|>

Every line ends with a newline, the last one too. The system prompt above is there where a conversation has none.
"""

from __future__ import annotations

from ..family import Family

QWEN = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if loop.first and message.role != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
