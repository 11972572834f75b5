"""LLaVA 1.5, and 1.6 on Vicuna: as Vicuna, with <image> on lines of their own before the text.

    <s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed,
    and polite answers to the user's questions. USER: <image>
    What is this? ASSISTANT: A dog.</s>USER: And? ASSISTANT: Yes.</s>

(The first two lines are one.) This is what the models were trained with. The chat template in their folders has no
system prompt, and ends no answer with a stop token, so nothing can be trained with it.

Source: conversation.py of LLaVA, `vicuna_v1`.
"""

from __future__ import annotations

from ..family import Family

LLAVA1_5 = Family(
    chat_template=(
        "{{ bos_token }}{% if messages[0].role != 'system' %}"
        "{{ 'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, ' }}"
        '{{ "detailed, and polite answers to the user\'s questions. " }}{% endif %}'
        "{% for message in messages %}"
        "{% set said = namespace(text='') %}"
        "{% if message.content is string %}{% set said.text = message.content %}{% else %}"
        "{% for part in message.content %}{% if part.type == 'image' %}{% set said.text = said.text + '<image>\n' %}"
        "{% endif %}{% endfor %}"
        "{% for part in message.content %}{% if part.type == 'text' %}{% set said.text = said.text + part.text %}"
        "{% endif %}{% endfor %}{% endif %}"
        "{% if message.role == 'system' %}{{ said.text + ' ' }}"
        "{% elif message.role == 'user' %}{{ 'USER: ' + said.text + ' ' }}"
        "{% elif message.role == 'assistant' %}{{ 'ASSISTANT: ' + said.text + '</s>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    stop_tokens=("</s>",),
)
