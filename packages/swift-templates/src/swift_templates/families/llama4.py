"""Llama 4: as Llama 3, with shorter names of the control tokens.

    <|begin_of_text|><|header_start|>system<|header_end|>

    You are helpful.<|eot|><|header_start|>user<|header_end|>

    Hello<|eot|><|header_start|>assistant<|header_end|>

    Hi.<|eot|>

The system prompt is trimmed, other contents are kept as they are; there is no default system prompt.
"""

from __future__ import annotations

from ..family import Family

LLAMA4 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|header_start|>' + message.role + '<|header_end|>\n\n' }}"
        "{{ (message.content | trim if message.role == 'system' else message.content) + '<|eot|>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|header_start|>assistant<|header_end|>\n\n' }}{% endif %}"
    ),
    stop_tokens=("<|eot|>",),
)
