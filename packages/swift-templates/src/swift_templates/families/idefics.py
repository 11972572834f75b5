"""Idefics 9b and 80b instruct (the first): speakers by name, each turn ended by a token and a line of its own.

    <s>User: What is this?<fake_token_around_image><image><fake_token_around_image><end_of_utterance>
    Assistant: A dog.<end_of_utterance>
    User:<fake_token_around_image><image><fake_token_around_image>And this?<end_of_utterance>
    Assistant: A cat.<end_of_utterance>

A space stands behind `User:` where a text is next, and the one after `Assistant:` is the model's. Texts are trimmed of
spaces next to pictures, as the processor does. There is no place for a system prompt; see `media.processors.idefics`.

Source: the prompts of HuggingFaceM4/idefics-9b-instruct's model card, and transformers' IdeficsProcessor.
"""

from __future__ import annotations

from ..family import Family

IDEFICS = Family(
    chat_template=(
        "{% set picture = '<fake_token_around_image><image><fake_token_around_image>' %}"
        "{{ bos_token }}{% for message in messages %}"
        "{% set said = namespace(text='', word=false) %}"
        "{% if message.content is string %}"
        "{% set said.text = message.content %}{% set said.word = true %}{% else %}{% for part in message.content %}"
        "{% if loop.first and part.type == 'text' %}{% set said.word = true %}{% endif %}"
        "{% set said.text = said.text + (part.text.strip(' ') if part.type == 'text' else picture) %}"
        "{% endfor %}{% endif %}"
        "{{ '' if loop.first else '\n' }}"
        "{% if message.role == 'user' %}{{ 'User:' + (' ' if said.word else '') }}"
        "{% elif message.role == 'assistant' %}{{ 'Assistant: ' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ said.text + '<end_of_utterance>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '\nAssistant:' }}{% endif %}"
    ),
    stop_tokens=("<end_of_utterance>",),
)
