"""Vicuna 1.1 and 1.5: one line of plain text, with a default system prompt.

    <s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed,
    and polite answers to the user's questions. USER: Hello ASSISTANT: Hi.</s>USER: And? ASSISTANT: Yes.</s>

There is no line break (here is one to fit the page). The generation prompt is `ASSISTANT:`; the space is the model's.
"""

from __future__ import annotations

from ..family import Family

VICUNA = Family(
    chat_template=(
        "{{ bos_token }}{% if messages[0].role != 'system' %}"
        "{{ 'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, ' }}"
        '{{ "detailed, and polite answers to the user\'s questions. " }}{% endif %}'
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content + ' ' }}"
        "{% elif message.role == 'user' %}{{ 'USER: ' + message.content + ' ' }}"
        "{% elif message.role == 'assistant' %}{{ 'ASSISTANT: ' + message.content + '</s>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    stop_tokens=("</s>",),
)
