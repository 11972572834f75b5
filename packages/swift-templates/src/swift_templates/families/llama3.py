"""Llama 3: a header with the role, an empty line, the content, <|eot_id|>.

    <|begin_of_text|><|start_header_id|>system<|end_header_id|>

    You are helpful.<|eot_id|><|start_header_id|>user<|end_header_id|>

    Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>

    Hi.<|eot_id|>

Contents are trimmed, and there is no default system prompt (the dates that Llama 3.1 and later put there come with
those models' own chat templates).
"""

from __future__ import annotations

from ..family import Family

LLAMA3 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}"
        "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    stop_tokens=("<|eot_id|>",),
)
