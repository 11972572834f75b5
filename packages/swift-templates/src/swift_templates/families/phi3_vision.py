"""Phi-3 and Phi-3.5 vision: as Phi-3, without <|endoftext|> at the end, and with pictures on lines of their own.

    <s><|user|>
    <|image|>
    What is this?<|end|>
    <|assistant|>
    A dog.<|end|>

In the official format pictures are numbered, `<|image_1|>`; the model never sees that, since its code cuts the text
there and puts the picture's tokens between, as `media.processors.phi3_vision` does. The <s> is what the tokenizer puts
before a text. (Phi-4 multimodal has a processor of transformers, and a chat template.)
"""

from __future__ import annotations

from ..family import Family

PHI3_VISION = Family(
    chat_template=(
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role not in ('system', 'user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{{ '<|' + message.role + '|>\n' }}"
        "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
        "{{ part.text if part.type == 'text' else '<|image|>\n' }}{% endfor %}{% endif %}{{ '<|end|>\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    stop_tokens=("<|end|>",),
)
