"""Command R and Command R+: each turn between two tokens, the speaker as a third one.

    <BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>You are helpful.<|END_OF_TURN_TOKEN|>
    <|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hello<|END_OF_TURN_TOKEN|>
    <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hi.<|END_OF_TURN_TOKEN|>

There is no line break anywhere (here are some to fit the page). Questions and answers are trimmed, the system prompt
is not.
"""

from __future__ import annotations

from ..family import Family

COMMAND_R = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}"
        "{% if message.role == 'system' %}{{ '<|SYSTEM_TOKEN|>' + message.content }}"
        "{% elif message.role == 'user' %}{{ '<|USER_TOKEN|>' + message.content.strip() }}"
        "{% elif message.role == 'assistant' %}{{ '<|CHATBOT_TOKEN|>' + message.content.strip() }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
    ),
    stop_tokens=("<|END_OF_TURN_TOKEN|>",),
)
