"""CogVLM chat and CogVLM2: questions and answers in plain words, a line each.

    <s>Question: What is this? Answer: A dog.
    Question: And? Answer: A cat.</s>

The bos and eos tokens are the tokenizer's; only the last answer of a conversation ends with one, so in training every
answer has a sample of its own. The space after `Answer:` is the model's. There is no place for a system prompt. The one
picture stands before all text, and the model's own code, which is in its folder, puts it there: not here.
"""

from __future__ import annotations

from ..family import Family

COGVLM = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.content is not string %}"
        "{{ raise_exception('this format has no place for pictures') }}{% endif %}"
        "{% if message.role == 'user' %}"
        "{{ '' if loop.first else '\n' }}{{ 'Question: ' + message.content + ' Answer:' }}"
        "{% elif message.role == 'assistant' %}{{ ' ' + message.content }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    ),
    # Whatever the tokenizer names as eos_token ends answers anyway.
    stop_tokens=(),
)
