"""Mistral Large 2411 (tokenizer v7): a part of its own for the system prompt.

    <s>[SYSTEM_PROMPT] You are helpful.[/SYSTEM_PROMPT][INST] Hello[/INST] Hi.</s>[INST] And?[/INST] Yes.</s>

A space follows the opening tokens and precedes every answer; contents are kept as they are.
"""

from __future__ import annotations

from ..family import Family

MISTRAL_V7 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'system' %}{{ '[SYSTEM_PROMPT] ' + message.content + '[/SYSTEM_PROMPT]' }}"
        "{% elif message.role == 'user' %}{{ '[INST] ' + message.content + '[/INST]' }}"
        "{% elif message.role == 'assistant' %}{{ ' ' + message.content + '</s>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
