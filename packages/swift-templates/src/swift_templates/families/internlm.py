"""InternLM 1 chat: <|User|> and <|Bot|>, which are plain text, and <eoa> after an answer.

    <s><|System|>:You are helpful.
    <|User|>:Hello
    <|Bot|>:Hi.<eoa>
    <|User|>:And?
    <|Bot|>:Yes.<eoa>

Every line ends with a newline, the last one too.
"""

from __future__ import annotations

from ..family import Family

INTERNLM = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'system' %}{{ '<|System|>:' + message.content + '\n' }}"
        "{% elif message.role == 'user' %}{{ '<|User|>:' + message.content + '\n<|Bot|>:' }}"
        "{% elif message.role == 'assistant' %}{{ message.content + '<eoa>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
    ),
    stop_tokens=("<eoa>",),
)
