"""Phi-3 and Phi-3.5: the role as a token on a line of its own.

    <|system|>
    You are helpful.<|end|>
    <|user|>
    Hello<|end|>
    <|assistant|>
    Hi.<|end|>
    <|endoftext|>

<|endoftext|> stands only at the end of a whole conversation, not of a prompt; an answer ends with <|end|>.
"""

from __future__ import annotations

from ..family import Family

PHI3 = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{{ '<|assistant|>\n' if add_generation_prompt else '<|endoftext|>' }}"
    ),
    stop_tokens=("<|end|>",),
)
