"""gpt-oss (harmony): every message names its role and, if it is the model's, its channel.

    <|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.
    Knowledge cutoff: 2024-06

    Reasoning: medium

    # Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>
    <|start|>developer<|message|># Instructions

    You are helpful.<|end|><|start|>user<|message|>Hello<|end|>
    <|start|>assistant<|channel|>analysis<|message|>A greeting.<|end|>
    <|start|>assistant<|channel|>final<|message|>Hi.<|return|>

There is no line break between messages (here are some to fit the page). A system prompt is the developer's message.
Reasoning is in the channel `analysis`; it is taken out of the history, where an answer ends with <|end|>. The line
`Current date: ...` of the models' own template is left out, so that a row is the same tokens tomorrow.
"""

from __future__ import annotations

from ..family import Family

GPT_OSS = Family(
    chat_template=(
        "{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n' }}"
        "{{ 'Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. ' }}"
        "{{ 'Channel must be included for every message.<|end|>' }}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}"
        "{{ '<|start|>developer<|message|># Instructions\n\n' + message.content + '<|end|>' }}"
        "{% elif message.role == 'user' %}{{ '<|start|>user<|message|>' + message.content + '<|end|>' }}"
        "{% elif message.role == 'assistant' %}"
        "{% if loop.last and message.reasoning_content %}"
        "{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.reasoning_content + '<|end|>' }}{% endif %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + message.content }}"
        "{{ '<|return|>' if loop.last else '<|end|>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    ),
    stop_tokens=("<|return|>", "<|call|>"),
    answer_pattern=(
        r"(?:<\|channel\|>analysis<\|message\|>(?P<reasoning>.*?)<\|end\|>(?:<\|start\|>assistant)?)?"
        r"<\|channel\|>final<\|message\|>(?P<content>.*)"
    ),
)
