"""MiniCPM-V 2.6: as Qwen 2, with pictures and texts of a message on lines of their own.

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    (<image>./</image>)
    What is this?<|im_end|>
    <|im_start|>assistant
    A dog.<|im_end|>

Slices of the picture take the place of `(<image>./</image>)`, see `media.processors.minicpm_v`. (MiniCPM-V 4.6 and
later have processors of transformers.)
"""

from __future__ import annotations

from ..family import Family

MINICPM_V = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if loop.first and message.role != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{% if message.role not in ('system', 'user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}{{ '' if loop.first else '\n' }}"
        "{{ part.text if part.type == 'text' else '(<image>./</image>)' }}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
