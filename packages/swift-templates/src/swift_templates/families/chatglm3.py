"""ChatGLM3: the role as a token and a line break before the content; the next question's token ends an answer.

    [gMASK]sop<|system|>
     You are helpful.<|user|>
     Hello<|assistant|>
     Hi.<|user|>

The space is the one that SentencePiece puts before a content, which the model's own tokenizer encodes by itself. The
generation prompt is <|assistant|> alone: line break and space are the model's, which could name a tool before them.
"""

from __future__ import annotations

from ..family import Family

CHATGLM3 = Family(
    chat_template=(
        "[gMASK]sop{% for message in messages %}"
        "{% if message.role in ('system', 'user', 'assistant') %}{{ '<|' + message.role + '|>\n ' + message.content }}"
        "{% else %}{{ raise_exception('this format has no place for role ' + message.role) }}{% endif %}"
        "{% endfor %}"
        "{{ '<|assistant|>' if add_generation_prompt else '<|user|>' }}"
    ),
    stop_tokens=("<|user|>", "<|observation|>"),
)
