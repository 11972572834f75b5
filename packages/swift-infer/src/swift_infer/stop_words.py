"""Texts that end an answer, found in tokens: a stop word may begin or end within a token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from swift_templates.template import Template


def count_before_stop_word(template: Template, token_ids: Sequence[int], words: Sequence[str]) -> int | None:
    """Return how many tokens come before the first stop word, or None where there is none.

    A token that holds the beginning of the stop word is not among them.
    """
    if not words:
        return None
    text = template.decode(token_ids)
    found = [at for word in words if word and (at := text.find(word)) >= 0]
    if not found:
        return None
    return max(count for count in range(len(token_ids)) if len(template.decode(token_ids[:count])) <= min(found))


def stop_at_words(template: Template, token_ids: Iterable[int], words: Sequence[str]) -> Iterator[int]:
    """Yield tokens up to the first stop word; one that may begin it is held back until that is clear."""
    if not words:
        yield from token_ids
        return
    seen: list[int] = []
    num_yielded = 0
    for token_id in token_ids:
        seen.append(token_id)
        count = count_before_stop_word(template, seen, words)
        if count is not None:
            yield from seen[num_yielded:count]
            return
        text = template.decode(seen)
        certain = len(text) - max(_overlap(text, word) for word in words)
        while num_yielded < len(seen) and len(template.decode(seen[: num_yielded + 1])) <= certain:
            yield seen[num_yielded]
            num_yielded += 1
    yield from seen[num_yielded:]


def _overlap(text: str, word: str) -> int:
    """Return how many characters at the end of the text are the beginning of the word."""
    return next((size for size in range(min(len(text), len(word) - 1), 0, -1) if text.endswith(word[:size])), 0)
