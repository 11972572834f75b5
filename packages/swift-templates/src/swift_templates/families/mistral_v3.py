"""Mistral 7B Instruct 0.3, Mixtral 8x22B, Mistral Large 2407 (tokenizer v3, SentencePiece).

    <s>[INST] Hello[/INST] Hi.</s>[INST] You are helpful.

    And?[/INST] Yes.</s>

[INST] and [/INST] are control tokens. The system prompt stands before the last question, so earlier ones are without:
in training, every answer has a sample of its own. Answers are trimmed.
"""

from __future__ import annotations

from ..family import Family

MISTRAL_V3 = Family(
    chat_template=(
        "{{ bos_token }}{% set system = namespace(text='') %}{% set question = namespace(last=-1) %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{% set system.text = message.content + '\n\n' %}"
        "{% elif message.role == 'user' %}{% set question.last = loop.index0 %}{% endif %}"
        "{% endfor %}"
        "{% for message in messages %}"
        "{% if message.role == 'user' %}"
        "{{ '[INST] ' + (system.text if loop.index0 == question.last else '') + message.content + '[/INST]' }}"
        "{% elif message.role == 'assistant' %}{{ ' ' + message.content | trim + '</s>' }}"
        "{% elif message.role != 'system' %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
