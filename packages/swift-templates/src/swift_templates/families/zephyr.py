"""Zephyr and TinyLlama chat: the role, as plain text, on a line of its own, and </s> after every turn.

    <|system|>
    You are helpful.</s>
    <|user|>
    Hello</s>
    <|assistant|>
    Hi.</s>

Every line ends with a newline, the last one too.
"""

from __future__ import annotations

from ..family import Family

ZEPHYR = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|' + message.role + '|>\n' + message.content + '</s>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    stop_tokens=("</s>",),
)
