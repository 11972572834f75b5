"""ChatGLM2: numbered rounds in Chinese, as plain text.

    [gMASK]sop[Round 1]

    问：Hello

    答：Hi.

    [Round 2]

    问：And?

    答：Yes.</s>

Only the last answer ends with </s>, so in training every answer has a sample of its own. A system prompt, which the
models know nothing of, stands before the first round, an empty line after it.
"""

from __future__ import annotations

from ..family import Family

CHATGLM2 = Family(
    chat_template=(
        "[gMASK]sop{% set round = namespace(number=0) %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
        "{% elif message.role == 'user' %}{% set round.number = round.number + 1 %}"
        "{{ '[Round ' + round.number | string + ']\n\n问：' + message.content + '\n\n答：' }}"
        "{% elif message.role == 'assistant' %}{{ message.content + ('</s>' if loop.last else '\n\n') }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
