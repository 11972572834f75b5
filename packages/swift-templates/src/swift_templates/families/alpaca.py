"""Alpaca: an instruction and a response under headings, with a default system prompt.

    <s>Below is an instruction that describes a task. Write a response that appropriately completes the request.

    ### Instruction:
    Hello

    ### Response:Hi.</s>

The response follows its heading at once, as in Stanford's training code. That knows single exchanges only; a later
instruction follows the </s> with an empty line between.
"""

from __future__ import annotations

from ..family import Family

ALPACA = Family(
    chat_template=(
        "{{ bos_token }}{% if messages[0].role != 'system' %}"
        "{{ 'Below is an instruction that describes a task. '"
        " 'Write a response that appropriately completes the request.' }}"
        "{% endif %}{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% elif message.role == 'user' %}"
        "{{ '\n\n### Instruction:\n' + message.content + '\n\n### Response:' }}"
        "{% elif message.role == 'assistant' %}{{ message.content + '</s>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
