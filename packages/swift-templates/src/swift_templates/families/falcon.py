"""Falcon chat (180B): a line for each turn, its speaker in plain text.

    System: You are helpful.
    User: Hello
    Falcon: Hi.
    User: And?
    Falcon: Yes.<|endoftext|>

The generation prompt is `Falcon:`; the space is the model's. Only the last answer ends with <|endoftext|>, so in
training every answer has a sample of its own.
"""

from __future__ import annotations

from ..family import Family

FALCON = Family(
    chat_template=(
        "{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
        "{% if message.role == 'system' %}{{ 'System: ' + message.content }}"
        "{% elif message.role == 'user' %}{{ 'User: ' + message.content }}"
        "{% elif message.role == 'assistant' %}{{ 'Falcon: ' + message.content }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{{ '\nFalcon:' if add_generation_prompt else '<|endoftext|>' }}"
    ),
    stop_tokens=("<|endoftext|>",),
)
