"""Florence-2: a task in words for the encoder, and the answer for the decoder.

    <image><s>What does the image describe?</s>
    <s>A dog.</s>

(The line break is none.) What is asked is the task's token, which stands for a sentence, with what it is about behind
it: `<CAPTION>`, `<OD>`, `<CAPTION_TO_PHRASE_GROUNDING>a dog`; or any other words. The prompt is the encoder's row, the
answer from its `<s>` on the decoder's labels; whoever trains parts them there. One picture, question and answer.

Source: transformers' Florence2Processor.
"""

from __future__ import annotations

from ..family import Family

_ALONE = {
    "<OCR>": "What is the text in the image?",
    "<OCR_WITH_REGION>": "What is the text in the image, with regions?",
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
    "<OD>": "Locate the objects with category name in the image.",
    "<DENSE_REGION_CAPTION>": "Locate the objects in the image, with their descriptions.",
    "<REGION_PROPOSAL>": "Locate the region proposals in the image.",
}
_ABOUT = {
    "<CAPTION_TO_PHRASE_GROUNDING>": ("Locate the phrases in the caption: ", ""),
    "<REFERRING_EXPRESSION_SEGMENTATION>": ("Locate ", " in the image with mask"),
    "<REGION_TO_SEGMENTATION>": ("What is the polygon mask of region ", ""),
    "<OPEN_VOCABULARY_DETECTION>": ("Locate ", " in the image."),
    "<REGION_TO_CATEGORY>": ("What is the region ", "?"),
    "<REGION_TO_DESCRIPTION>": ("What does the region ", " describe?"),
    "<REGION_TO_OCR>": ("What text is in the region ", "?"),
}

FLORENCE2 = Family(
    chat_template=(
        "{% set alone = " + repr(_ALONE) + " %}{% set about = " + repr(_ABOUT) + " %}"
        "{% for message in messages %}"
        "{% if message.role not in ('user', 'assistant') %}"
        "{{ raise_exception('this format has no place for role ' + message.role) }}"
        "{% elif loop.index > 2 %}{{ raise_exception('this format has no place for a second question') }}{% endif %}"
        "{% set said = namespace(text='', pictures=0) %}"
        "{% if message.content is string %}{% set said.text = message.content %}"
        "{% else %}{% for part in message.content %}"
        "{% if part.type == 'text' %}{% set said.text = said.text + part.text %}"
        "{% elif part.type == 'image' %}{% set said.pictures = said.pictures + 1 %}{{ '<image>' }}{% endif %}"
        "{% endfor %}{% endif %}"
        "{% if said.pictures > 1 %}{{ raise_exception('this format has no place for a second picture') }}{% endif %}"
        "{% if message.role == 'user' %}"
        "{% if said.text in alone %}{% set said.text = alone[said.text] %}{% endif %}"
        "{% for task, words in about.items() %}{% if said.text.startswith(task) %}"
        "{% set said.text = words[0] + said.text[task | length:] | trim + words[1] %}{% endif %}{% endfor %}"
        "{% endif %}"
        "{{ '<s>' + said.text + '</s>' }}"
        "{% endfor %}"
    ),
    stop_tokens=("</s>",),
)
