"""An answer's text while its tokens are still being made: pieces that join to just what the whole decodes to.

What may still change is held back until it cannot: a character of which some bytes are missing, and what the chat
template may have put around the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .reasoning import join_reasoning
from .tokenizer import Tokenizer

_CUT = "\ufffd"


def decode_stream(tokenizer: Tokenizer, token_ids: Iterable[int]) -> Iterator[str]:
    """Yield pieces of text that join to `decode_after` of all token ids without their control tokens."""
    ids: list[int] = []
    # Tokens from `start` on are decoded, and the text of those up to `end` is out; a few before the new ones tell
    # decoders that they stand in the middle of a text.
    start = end = 0
    for token_id in token_ids:
        ids += tokenizer.without_control([int(token_id)])
        # One more byte may turn a whole run of byte tokens into something else.
        if end == len(ids) or tokenizer.is_byte(ids[-1]):
            continue
        text = tokenizer.decode_after(ids[start:])
        if text.endswith(_CUT):
            continue
        yield text[len(tokenizer.decode_after(ids[start:end])) :]
        start, end = end, len(ids)
    yield tokenizer.decode_after(ids[start:])[len(tokenizer.decode_after(ids[start:end])) :]


def stream_matched(
    pattern: re.Pattern[str],
    tokenizer: Tokenizer,
    token_ids: Iterable[int],
    prefix: str,
    *,
    before: str = "",
    after: str = "",
) -> Iterator[str]:
    """Yield the reasoning, as `join_reasoning` writes it, and then the content, as far as a pattern finds them.

    Args:
        pattern: of a whole answer with its control tokens; a beginning of the content matches too.
        tokenizer: the tokenizer.
        token_ids: the answer's, as they are made.
        prefix: what stands before them.
        before: see `trim_stream`; taken off where the pattern finds nothing.
        after: the same.
    """
    ids: list[int] = []
    shown: str | None = None
    for token_id in token_ids:
        ids.append(int(token_id))
        text = prefix + tokenizer.decode_after(ids)
        # One more byte may turn what is there into something else.
        if text.endswith(_CUT) or tokenizer.is_byte(ids[-1]):
            continue
        whole = _matched(pattern, text)
        if whole is not None:
            yield whole[len(shown or "") :]
            shown = whole
    # What was held back comes out now, whatever it is.
    whole = _matched(pattern, prefix + tokenizer.decode_after(ids))
    if whole is not None:
        yield whole[len(shown or "") :]
    elif shown is None:
        yield (prefix + tokenizer.decode_after(tokenizer.without_control(ids))).removeprefix(before).removesuffix(after)


def _matched(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.fullmatch(text)
    if found is None:
        return None
    return join_reasoning(found["reasoning"], found["content"]) if found["reasoning"] else str(found["content"])


def trim_stream(pieces: Iterable[str], *, before: str, after: str) -> Iterator[str]:
    """Yield pieces that join to `"".join(pieces).removeprefix(before).removesuffix(after)`."""
    held, begun = "", False
    for piece in pieces:
        held += piece
        if not begun and len(held) < len(before) and before.startswith(held):
            continue
        held, begun = held if begun else held.removeprefix(before), True
        kept = len(held) - _overlap(held, after)
        if kept:
            yield held[:kept]
        held = held[kept:]
    rest = (held if begun else held.removeprefix(before)).removesuffix(after)
    if rest:
        yield rest


def _overlap(text: str, ending: str) -> int:
    """Return the length of the longest beginning of `ending` that the text ends with."""
    return next((size for size in range(len(ending), 0, -1) if text.endswith(ending[:size])), 0)
