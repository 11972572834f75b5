"""Phi-4: ChatML on one line, with <|im_sep|> after the role.

    <|im_start|>system<|im_sep|>You are helpful.<|im_end|><|im_start|>user<|im_sep|>Hello<|im_end|>
    <|im_start|>assistant<|im_sep|>Hi.<|im_end|>

There is no line break anywhere (here is one to fit the page), and no default system prompt.
"""

from __future__ import annotations

from ..family import Family

PHI4 = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|im_start|>' + message.role + '<|im_sep|>' + message.content + '<|im_end|>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
