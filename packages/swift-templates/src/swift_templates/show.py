"""A row as the model sees it, with the trained tokens marked: to be looked at before a run begins.

Trained text stands between « and », or in colour; a weight other than 1 is written after it. Tokens that stand for
pictures, videos and sounds are many and all alike, so a page names them and their number instead.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .encoded import IGNORED, Encoded
from .errors import SampleTooLong
from .messages import Conversation, MediaKind
from .template import Template
from .terminal import escape_control

if TYPE_CHECKING:
    from .grounding import Objects
    from .media.processor import Shown

_PLAIN = "\x1b[0m"
_USUAL, _MORE, _LESS, _FRAME = "\x1b[1;32m", "\x1b[1;33m", "\x1b[1;36m", "\x1b[2m"


class MediaSpan(NamedTuple):
    """Tokens that stand for one picture, video or sound."""

    start: int
    end: int
    what: str
    """Its kind, and how large it is: 'image: 256 tokens, 448x448'."""


def describe_sample(template: Template, encoded: Encoded, color: bool, *, media: Sequence[MediaSpan] = ()) -> str:
    """Write a sample as text.

    Args:
        template: what encoded it.
        encoded: the sample.
        color: mark trained text by ANSI colour (for a terminal) instead of by « and »: green where the weight is 1,
            yellow where it is more, cyan where it is less.
        media: spans to name instead of writing them, in order.

    Returns:
        The whole text, control tokens included; escape characters in it are shown as such, never sent to the terminal.
    """
    parts = []
    for weight, start, end, what in _runs(encoded, media):
        if what is None:
            decode = template.tokenizer.decode_after if start else template.tokenizer.decode
            text = escape_control(decode(encoded.input_ids[start:end].tolist()))
        else:
            text = f"[{what}]"
        parts.append(_mark(text, weight, color))
    return "".join(parts)


def describe_conversation(template: Template, conversation: Conversation, *, color: bool, ids: bool = False) -> str:
    """Write on one page what a template makes of a conversation: each sample, its media and boxes, and the counts.

    Args:
        template: what encodes it.
        conversation: one that ends with a question is shown as the prompt that a server sends.
        color: as in `describe_sample`.
        ids: write the token ids too.

    Raises:
        SwiftTemplatesError: see `Template.encode` and `Template.encode_prompt`.
    """
    shown = template._media.show(conversation)
    is_prompt = conversation.messages[-1].role in ("user", "tool")
    samples = [_as_sample(template, conversation)] if is_prompt else template.encode(conversation)
    lines = [_describe_template(template)]
    if not samples:
        lines.append("nothing of this row is trained: no answer has a weight")
    for number, sample in enumerate(samples, start=1):
        name = "prompt" if is_prompt else f"branch {number} of {len(samples)}" if len(samples) > 1 else "sample"
        lines += _describe_branch(template, sample, name, shown, color=color, ids=ids)
    if conversation.objects is not None:
        lines += [_heading("boxes", color), *_describe_objects(template, conversation, conversation.objects, shown)]
    return "\n".join(lines)


def _describe_template(template: Template) -> str:
    family = template.args.template
    dialect = template.dialect
    facts = [
        "template: the model's own chat template" if family is None else f"template: family {family!r}",
        f"tools: {dialect.name}" if dialect is not None else "tools: no known dialect",
        f"loss_scale: {template.args.loss_scale}",
        f"max_length: {template.max_length}",
    ]
    return "; ".join(facts)


def _describe_branch(
    template: Template, sample: Encoded, name: str, shown: Shown | None, *, color: bool, ids: bool
) -> list[str]:
    weights = Counter(f"{weight:g}" for weight in sample.loss_scale.tolist() if weight > 0)
    by_weight = ", ".join(f"{weights[each]} x{each}" for each in sorted(weights, key=float))
    counts = f"{len(sample)} tokens, {sample.num_trained} trained" + (f" ({by_weight})" if by_weight else "")
    media = [] if shown is None else _find_media(template, sample, shown)
    lines = [_heading(f"{name}: {counts}", color), describe_sample(template, sample, color, media=media)]
    if too_long := _describe_truncation(template, sample):
        lines.append(too_long)
    if media:
        lines += [_heading("media", color), *(f"tokens {start} to {end - 1}: {what}" for start, end, what in media)]
        lines += [f"{name}: {_shape(array)}" for name, array in sorted(sample.media.items())]
    if ids:
        lines += [_heading("token ids", color), _describe_ids(sample, color)]
    return lines


def _describe_truncation(template: Template, sample: Encoded) -> str | None:
    if template.max_length is None or len(sample) <= template.max_length:
        return None
    strategy = template.args.truncation_strategy
    try:
        pieces = template.truncate(sample)
    except SampleTooLong as error:
        return f"too long: {error}"
    kept = f"becomes {' + '.join(str(len(each)) for each in pieces)} tokens" if pieces else "is left out"
    return f"too long: max_length is {template.max_length}, and by truncation_strategy {strategy!r} it {kept}"


def _describe_ids(sample: Encoded, color: bool) -> str:
    return " ".join(
        _mark(" ".join(map(str, sample.input_ids[start:end].tolist())), weight, color)
        for weight, start, end, _ in _runs(sample, ())
    )


def _as_sample(template: Template, conversation: Conversation) -> Encoded:
    """Return what a server sends as a sample of which nothing is trained."""
    prompt = template.encode_prompt(conversation)
    ids = np.array(prompt.input_ids, dtype=np.int64)
    return Encoded(ids, np.full_like(ids, IGNORED), np.zeros(len(ids), dtype=np.float32), prompt.media)


def _find_media(template: Template, sample: Encoded, shown: Shown) -> list[MediaSpan]:
    """Find the tokens of the media that a sample has, which are the first ones of the conversation."""
    tokenizer = template.tokenizer
    ids = sample.input_ids.tolist()
    found: list[MediaSpan] = []
    start = 0
    for medium, text in zip(shown.media, shown.placed.seen.texts, strict=True):
        wanted = [each for each in tokenizer.encode(text) if tokenizer.special_text(each) is not None]
        # Tokens at the edges may join to the words around them; control tokens never do.
        places = [at for at in range(start, len(ids)) if ids[at] in wanted][: len(wanted)]
        if not wanted or [ids[at] for at in places] != wanted:
            continue
        start = places[-1] + 1
        what = f"{medium.kind}: {start - places[0]} tokens{_size(medium.kind, medium.content)}"
        found.append(MediaSpan(places[0], start, what))
    return found


def _size(kind: MediaKind, content: object) -> str:
    # A video's frames come with the moments at which they are shown.
    shape = np.asarray(getattr(content, "frames", content)).shape
    if kind == "image":
        return f", {shape[1]}x{shape[0]}"
    if kind == "video":
        return f", {shape[0]} frames of {shape[2]}x{shape[1]}"
    return f", {shape[0]} samples"


def _shape(array: np.ndarray) -> str:
    return f"{array.dtype} ({', '.join(map(str, array.shape))})"


def _describe_objects(
    template: Template, conversation: Conversation, objects: Objects, shown: Shown | None
) -> list[str]:
    """Return a line for each name and box: as the row has it, and as it is written for the model."""
    from .grounding import REF_OBJECT, find_placeholders

    images = [f", picture {each}" for each in objects.image_ids] or [""] * len(objects.boxes)
    names = [f"name {number}: {escape_control(ref)}" for number, ref in enumerate(objects.refs, start=1)]
    boxes = [
        f"box {number}: {', '.join(f'{each:g}' for each in box)} ({objects.units}{image})"
        for number, (box, image) in enumerate(zip(objects.boxes, images, strict=True), start=1)
    ]
    _, written = template._box_writer.write(conversation, shown)
    if written is None:
        return [*names, *boxes, "no text has a place for them"]
    texts = iter(written.texts)
    left = {True: iter(names), False: iter(boxes)}
    return [
        f"{next(left[match.group() == REF_OBJECT])}, written {escape_control(next(texts))}"
        for message in conversation.messages
        for text in (message.reasoning_content or "", message.content)
        for match in find_placeholders(text)
    ]


def _heading(text: str, color: bool) -> str:
    return f"{_FRAME}--- {text}{_PLAIN}" if color else f"--- {text}"


def _mark(text: str, weight: float, color: bool) -> str:
    if weight <= 0:
        return text
    chosen = _USUAL if weight == 1 else _MORE if weight > 1 else _LESS
    marked = f"{chosen}{text}{_PLAIN}" if color else f"«{text}»"
    return marked if weight == 1 else f"{marked}(x{weight:g})"


def _runs(encoded: Encoded, media: Sequence[MediaSpan]) -> Iterator[tuple[float, int, int, str | None]]:
    """Yield weight, start and end of each stretch of tokens of one weight; and of each medium, with what it is."""
    spans = {at: span for span in media for at in range(span.start, span.end)}
    start = 0
    for (weight, span), run in itertools.groupby(
        enumerate(encoded.loss_scale.tolist()), key=lambda each: (float(each[1]), spans.get(each[0]))
    ):
        end = start + sum(1 for _ in run)
        yield weight, start, end, None if span is None else span.what
        start = end
