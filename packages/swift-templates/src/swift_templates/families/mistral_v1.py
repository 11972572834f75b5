"""Mistral 7B Instruct 0.1 and 0.2, Mixtral 8x7B (tokenizer v1): a space before [INST] and before every answer.

    <s> [INST] You are helpful.

    Hello [/INST] Hi.</s> [INST] And? [/INST] Yes.</s>

[INST] and [/INST] are plain text to this tokenizer. The system prompt stands before the first question.
"""

from __future__ import annotations

from ..family import Family

MISTRAL_V1 = Family(
    chat_template=(
        "{{ bos_token }}{% set system = namespace(text='') %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{% set system.text = message.content + '\n\n' %}"
        "{% elif message.role == 'user' %}"
        "{{ ' [INST] ' + system.text + message.content + ' [/INST]' }}{% set system.text = '' %}"
        "{% elif message.role == 'assistant' %}{{ ' ' + message.content + '</s>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
