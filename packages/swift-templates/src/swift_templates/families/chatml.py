"""ChatML: each turn between <|im_start|> and <|im_end|>, the role on the first line.

    <|im_start|>system
    You are helpful.<|im_end|>
    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    Hi.<|im_end|>

Every line ends with a newline, the last one too. The generation prompt is the line `<|im_start|>assistant`. There is
no default system prompt, contents are kept as they are, and calls are refused.
"""

from __future__ import annotations

from ..family import Family

CHATML = Family(
    chat_template=(
        "{% for message in messages %}"
        "{% if message.tool_calls %}{{ raise_exception('this format has no place for calls') }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
