"""Baichuan 2 chat: a reserved token before a question, another one before an answer.

    You are helpful.<reserved_106>Hello<reserved_107>Hi.<reserved_106>And?<reserved_107>Yes.</s>

There is no <s>. Only the last answer ends with </s>, so in training every answer has a sample of its own.
"""

from __future__ import annotations

from ..family import Family

BAICHUAN2 = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% elif message.role == 'user' %}{{ '<reserved_106>' + message.content }}"
        "{% elif message.role == 'assistant' %}{{ '<reserved_107>' + message.content }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{{ '<reserved_107>' if add_generation_prompt else '</s>' }}"
    ),
    stop_tokens=("</s>",),
)
