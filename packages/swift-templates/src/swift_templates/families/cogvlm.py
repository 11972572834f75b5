"""CogVLM chat and CogVLM2: questions and answers in plain words, a line each, behind the one picture.

    <s><image>Question: What is this? Answer: A dog.
    Question: And? Answer: A cat.</s>

The bos and eos tokens are the tokenizer's; only the last answer of a conversation ends with one, so in training every
answer has a sample of its own. The space after `Answer:` is the model's. There is no place for a system prompt. The
picture stands before all text, wherever it is in the conversation; see `media.processors.cogvlm`.
"""

from __future__ import annotations

from ..family import Family

COGVLM = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}{% if message.content is not string %}"
        "{% for part in message.content %}{{ '' if part.type == 'text' else '<image>' }}{% endfor %}"
        "{% endif %}{% endfor %}"
        "{% for message in messages %}"
        "{% set said = namespace(text='') %}"
        "{% if message.content is string %}{% set said.text = message.content %}{% else %}"
        "{% for part in message.content %}{% if part.type == 'text' %}{% set said.text = said.text + part.text %}"
        "{% endif %}{% endfor %}{% endif %}"
        "{% if message.role == 'user' %}"
        "{{ '' if loop.first else '\n' }}{{ 'Question: ' + said.text + ' Answer:' }}"
        "{% elif message.role == 'assistant' %}{{ ' ' + said.text }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    ),
    # Whatever the tokenizer names as eos_token ends answers anyway.
    stop_tokens=(),
)
