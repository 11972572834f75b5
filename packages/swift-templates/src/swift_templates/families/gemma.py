"""Gemma 1 and 2: turns of `user` and `model`, and no place for a system prompt.

    <bos><start_of_turn>user
    Hello<end_of_turn>
    <start_of_turn>model
    Hi.<end_of_turn>

Every line ends with a newline, the last one too; contents are trimmed. A system prompt is refused, as the models' own
template does; `gemma3` writes it before the first question.
"""

from __future__ import annotations

from ..family import Family

GEMMA = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'system' %}"
        "{{ raise_exception('Gemma 1 and 2 know no system prompt; leave it out, or use family gemma3') }}"
        "{% elif message.role == 'user' %}{{ '<start_of_turn>user\n' + message.content | trim + '<end_of_turn>\n' }}"
        "{% elif message.role == 'assistant' %}"
        "{{ '<start_of_turn>model\n' + message.content | trim + '<end_of_turn>\n' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    stop_tokens=("<end_of_turn>",),
)
