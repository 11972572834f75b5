"""Falcon 3 instruct: the role, as plain text, on a line of its own.

    <|system|>
    You are helpful.
    <|user|>
    Hello
    <|assistant|>
    Hi.<|endoftext|>

Every line but the last one ends with a newline; <|endoftext|> is after every answer.
"""

from __future__ import annotations

from ..family import Family

FALCON3 = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role in ('system', 'user') %}{{ '<|' + message.role + '|>\n' + message.content + '\n' }}"
        "{% elif message.role == 'assistant' %}{{ '<|assistant|>\n' + message.content + '<|endoftext|>' }}"
        "{% if not loop.last %}{{ '\n' }}{% endif %}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    stop_tokens=("<|endoftext|>",),
)
