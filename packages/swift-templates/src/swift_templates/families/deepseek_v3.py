"""DeepSeek-V2.5 and V3: a token before each content and none between.

    <｜begin▁of▁sentence｜>You are helpful.<｜User｜>Hello<｜Assistant｜>Hi.<｜end▁of▁sentence｜>

All on one line; contents are kept as they are, and there is no default system prompt.
"""

# ruff: noqa: RUF001, RUF002  (the format is spelled with full-width characters)

from __future__ import annotations

from ..family import Family

DEEPSEEK_V3 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% elif message.role == 'user' %}{{ '<｜User｜>' + message.content }}"
        "{% elif message.role == 'assistant' %}{{ '<｜Assistant｜>' + message.content + '<｜end▁of▁sentence｜>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
    ),
    stop_tokens=("<｜end▁of▁sentence｜>",),
)
