"""InternLM 2 and 2.5 chat: ChatML after <s>.

    <s><|im_start|>system
    You are helpful.<|im_end|>
    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant
    Hi.<|im_end|>

Every line ends with a newline, the last one too. There is no default system prompt.
"""

from __future__ import annotations

from ..family import Family

INTERNLM2 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    stop_tokens=("<|im_end|>",),
)
