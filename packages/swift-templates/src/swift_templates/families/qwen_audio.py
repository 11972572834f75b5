"""Qwen-Audio (the first): as Qwen, each message's sounds numbered on lines of their own.

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    Audio 1:<audio></audio>
    What is said?<|im_end|>
    <|im_start|>assistant
    Hello.<|im_end|>

In the model's own code the sound's address stands between <audio> and </audio>; as many tokens as the sound is long
take its place, see `media.processors.qwen_audio`. (Qwen2-Audio has a processor of transformers, and a chat template.)
"""

from __future__ import annotations

from ..family import Family

QWEN_AUDIO = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if loop.first and message.role != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{% if message.role not in ('system', 'user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.content is string %}{{ message.content }}{% else %}{% set count = namespace(sounds=0) %}"
        "{% for part in message.content %}{% if part.type == 'audio' %}{% set count.sounds = count.sounds + 1 %}"
        "{{ 'Audio ' ~ count.sounds ~ ':<audio></audio>\n' }}"
        "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
