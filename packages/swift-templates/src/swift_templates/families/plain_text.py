"""Plain text, for base models: the contents one after the other, and the tokenizer's own end-of-text token.

    <s>You are helpful.HelloHi.</s>

Nothing is put between the contents, and the beginning is the tokenizer's bos token where it names one. The end is only
at the end of the whole conversation, so in training every answer has a sample of its own.
"""

from __future__ import annotations

from ..family import Family

PLAIN_TEXT = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}{{ message.content }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    ),
    # Whatever the tokenizer names as eos_token ends answers anyway.
    stop_tokens=(),
)
