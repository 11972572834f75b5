"""DeepSeek LLM and DeepSeek-V2 chat: `User:` and `Assistant:` in plain text.

    <｜begin▁of▁sentence｜>You are helpful.

    User: Hello

    Assistant: Hi.<｜end▁of▁sentence｜>User: And?

    Assistant: Yes.<｜end▁of▁sentence｜>

The generation prompt is `Assistant:`; the space is the model's.
"""

# ruff: noqa: RUF001, RUF002  (the format is spelled with full-width characters)

from __future__ import annotations

from ..family import Family

DEEPSEEK_V2 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
        "{% elif message.role == 'user' %}{{ 'User: ' + message.content + '\n\n' }}"
        "{% elif message.role == 'assistant' %}{{ 'Assistant: ' + message.content + '<｜end▁of▁sentence｜>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    stop_tokens=("<｜end▁of▁sentence｜>",),
)
