"""DeepSeek-R1 and its distilled models: as DeepSeek-V3, and the generation prompt opens the thinking.

    <｜begin▁of▁sentence｜>You are helpful.<｜User｜>Hello<｜Assistant｜>Hi.<｜end▁of▁sentence｜><｜User｜>And?
    <｜Assistant｜><think>
    They want more.
    </think>

    Yes.<｜end▁of▁sentence｜>

There is no line break before <｜Assistant｜> (here is one to fit the page). Thinking is taken out of the history; the
last answer has its think block even if it is empty.
"""

# ruff: noqa: RUF001, RUF002  (the format is spelled with full-width characters)

from __future__ import annotations

from ..family import Family

DEEPSEEK_R1 = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}"
        "{% elif message.role == 'user' %}{{ '<｜User｜>' + message.content }}"
        "{% elif message.role == 'assistant' %}"
        "{% set reasoning, content = message.reasoning_content or '', message.content %}"
        "{% if not reasoning and '</think>' in content %}"
        "{% set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<｜Assistant｜>' }}"
        "{% if loop.last %}{% set content = content.lstrip('\n') %}"
        "{{ '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' }}{% endif %}"
        "{{ content + '<｜end▁of▁sentence｜>' }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
    ),
    stop_tokens=("<｜end▁of▁sentence｜>",),
)
