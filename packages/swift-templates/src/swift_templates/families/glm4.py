"""GLM-4: as ChatGLM3, with <sop> for sop. The next question's token ends an answer.

    [gMASK]<sop><|system|>
    You are helpful.<|user|>
    Hello<|assistant|>
    Hi.<|user|>

The generation prompt is <|assistant|> alone: the line break is the model's, which could name a tool before it.
"""

from __future__ import annotations

from ..family import Family

GLM4 = Family(
    chat_template=(
        "[gMASK]<sop>{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}{{ '<|' + message.role + '|>\n' + message.content }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{{ '<|assistant|>' if add_generation_prompt else '<|user|>' }}"
    ),
    stop_tokens=("<|user|>", "<|observation|>"),
)
