r"""PaliGemma 1 and 2: all pictures, <bos>, the question, a line end; then the answer and <eos>.

    <image><image><bos>answer en Which is redder?\n
    The first.<eos>

(The line break in front of the answer is none; \n is one.) One question and one answer, since the models know no
dialogue and no system prompt. Pictures stand before the text wherever a message has them; what is asked is seen as a
whole, so the model gets `token_type_ids`, which are 1 for the answer.
"""

from __future__ import annotations

from ..family import Family

PALIGEMMA = Family(
    chat_template=(
        "{% for message in messages %}{% if message.content is not string %}{% for part in message.content %}"
        "{% if part.type == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}{% endif %}{% endfor %}{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message.role not in ('user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}"
        "{% elif loop.index > 2 %}{{ raise_exception('this format has no place for a second question') }}{% endif %}"
        "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
        "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
        "{{ '\n' if message.role == 'user' else '<eos>' }}"
        "{% endfor %}"
    ),
    stop_tokens=("<eos>",),
)
