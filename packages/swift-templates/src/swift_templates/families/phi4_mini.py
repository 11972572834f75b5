"""Phi-4-mini: the tokens of Phi-3 without line breaks.

    <|system|>You are helpful.<|end|><|user|>Hello<|end|><|assistant|>Hi.<|end|><|endoftext|>

<|endoftext|> stands only at the end of a whole conversation, not of a prompt; an answer ends with <|end|>.
"""

from __future__ import annotations

from ..family import Family

PHI4_MINI = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{{ '<|assistant|>' if add_generation_prompt else '<|endoftext|>' }}"
    ),
    stop_tokens=("<|end|>",),
)
