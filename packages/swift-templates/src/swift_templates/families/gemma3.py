"""Gemma 3: as Gemma 2, with the system prompt before the first question.

    <bos><start_of_turn>user
    You are helpful.

    Hello<end_of_turn>
    <start_of_turn>model
    Hi.<end_of_turn>

Every line ends with a newline, the last one too; contents are trimmed, the system prompt is not.
"""

from __future__ import annotations

from ..family import Family

GEMMA3 = Family(
    chat_template=(
        "{{ bos_token }}{% set system = namespace(text='') %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{% set system.text = message.content + '\n\n' %}"
        "{% elif message.role == 'user' %}"
        "{{ '<start_of_turn>user\n' + system.text + message.content | trim + '<end_of_turn>\n' }}"
        "{% set system.text = '' %}"
        "{% elif message.role == 'assistant' %}"
        "{{ '<start_of_turn>model\n' + message.content | trim + '<end_of_turn>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    stop_tokens=("<end_of_turn>",),
)
