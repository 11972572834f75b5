"""MiniCPM 1 and 2: <用户> before a question and <AI> before an answer, both plain text.

    <s>You are helpful.<用户>Hello<AI>Hi.<用户>And?<AI>Yes.</s>

Contents are trimmed. Only the last answer ends with </s>, so in training every answer has a sample of its own.
"""

from __future__ import annotations

from ..family import Family

MINICPM = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'user' %}{{ '<用户>' + message.content.strip() + '<AI>' }}"
        "{% elif message.role in ('system', 'assistant') %}{{ message.content.strip() }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if not add_generation_prompt %}{{ '</s>' }}{% endif %}"
    ),
    stop_tokens=("</s>",),
)
