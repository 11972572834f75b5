"""DeepSeek-VL2: the role as a token and a colon, an empty line after what is asked, and <image> on lines of their own.

    <｜begin▁of▁sentence｜>You are helpful.

    <|User|>: <image>
    What is this?

    <|Assistant|>: A dog.<｜end▁of▁sentence｜>

The next `<|User|>` follows without a break. Contents are trimmed; there is no default system prompt; the space after
the last colon is the model's. Tiles of the picture take the place of `<image>`, see `media.processors.deepseek_vl2`.
(DeepSeek-VL has a processor of transformers.)
"""

# ruff: noqa: RUF001, RUF002  (the format is spelled with full-width characters)

from __future__ import annotations

from ..family import Family

DEEPSEEK_VL2 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% set said = namespace(text='') %}"
        "{% if message.content is string %}{% set said.text = message.content %}"
        "{% else %}{% for part in message.content %}"
        "{% set said.text = said.text + (part.text if part.type == 'text' else '<image>\n') %}{% endfor %}{% endif %}"
        "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
        "{% elif message.role == 'user' %}{{ '<|User|>: ' + said.text | trim + '\n\n' }}"
        "{% elif message.role == 'assistant' %}"
        "{{ '<|Assistant|>: ' + said.text | trim + '<｜end▁of▁sentence｜>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>:' }}{% endif %}"
    ),
    stop_tokens=("<｜end▁of▁sentence｜>",),
)
