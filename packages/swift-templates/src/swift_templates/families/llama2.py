"""Llama 2 chat: questions between [INST] and [/INST], the system prompt inside of the first one.

    <s>[INST] <<SYS>>
    You are helpful.
    <</SYS>>

    Hello [/INST] Hi. </s><s>[INST] And? [/INST] Yes. </s>

All on one line but for the system prompt's block; <s> and </s> are around every exchange, and contents are trimmed.
"""

from __future__ import annotations

from ..family import Family

LLAMA2 = Family(
    chat_template=(
        "{% set system = namespace(text='') %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}"
        "{% set system.text = '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' %}"
        "{% elif message.role == 'user' %}"
        "{{ bos_token }}{{ '[INST] ' + (system.text + message.content).strip() + ' [/INST]' }}"
        "{% set system.text = '' %}"
        "{% elif message.role == 'assistant' %}{{ ' ' + message.content.strip() + ' </s>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
