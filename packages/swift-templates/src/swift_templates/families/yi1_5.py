"""Yi 1.5 chat: ChatML, but the system prompt stands bare at the beginning, without even a line break after it.

    You are helpful.<|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    Hi.<|im_end|>

Every other line ends with a newline, the last one too.
"""

from __future__ import annotations

from ..family import Family

YI1_5 = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% elif message.role in ('user', 'assistant') %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
