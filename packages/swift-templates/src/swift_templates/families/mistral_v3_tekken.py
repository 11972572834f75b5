"""Mistral Nemo 2407, Ministral 8B, Mistral Small 2409 and other v3 models with the Tekken tokenizer: v3 without spaces.

    <s>[INST]Hello[/INST]Hi.</s>[INST]You are helpful.

    And?[/INST]Yes.</s>

The system prompt stands before the last question, as in `mistral_v3`; contents are kept as they are.
"""

from __future__ import annotations

from ..family import Family

MISTRAL_V3_TEKKEN = Family(
    chat_template=(
        "{{ bos_token }}{% set system = namespace(text='') %}{% set question = namespace(last=-1) %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{% set system.text = message.content + '\n\n' %}"
        "{% elif message.role == 'user' %}{% set question.last = loop.index0 %}{% endif %}"
        "{% endfor %}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}"
        "{{ '[INST]' + (system.text if loop.index0 == question.last else '') + message.content + '[/INST]' }}"
        "{% elif message.role == 'assistant' %}{{ message.content + '</s>' }}"
        "{% elif message.role != 'system' %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
