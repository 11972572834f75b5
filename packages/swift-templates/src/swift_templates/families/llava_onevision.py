"""LLaVA-OneVision: as Qwen 1.5, with <image> and <video> on lines of their own where they stand.

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    <image>
    What is this?<|im_end|>
    <|im_start|>assistant
    A dog.<|im_end|>

This is what the models were trained with. The chat template in their folders begins an answer of the past otherwise
than it asks for one, so nothing can be trained with it.

Source: conversation.py of LLaVA-NeXT, `qwen_1_5`.
"""

from __future__ import annotations

from ..family import Family

LLAVA_ONEVISION = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if loop.first and message.role != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{% if message.role not in ('system', 'user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
        "{% if part.type == 'image' %}{{ '<image>\n' }}{% elif part.type == 'video' %}{{ '<video>\n' }}"
        "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
