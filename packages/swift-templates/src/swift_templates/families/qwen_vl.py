"""Qwen-VL (the first): as Qwen, each message's pictures numbered on lines of their own.

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    Picture 1: <img></img>
    What is this?<|im_end|>
    <|im_start|>assistant
    A dog.<|im_end|>

In the model's own code the picture's address stands between <img> and </img>, as 256 tokens that no text spells; see
`media.processors.qwen_vl`.
"""

from __future__ import annotations

from ..family import Family

QWEN_VL = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if loop.first and message.role != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{% if message.role not in ('system', 'user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.content is string %}{{ message.content }}{% else %}{% set count = namespace(pictures=0) %}"
        "{% for part in message.content %}{% if part.type == 'image' %}{% set count.pictures = count.pictures + 1 %}"
        "{{ 'Picture ' ~ count.pictures ~ ': <img></img>\n' }}"
        "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
