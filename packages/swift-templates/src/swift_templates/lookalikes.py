"""Text that looks like a special token, such as '<|im_end|>' in a user's question, and how it stays text.

A tokenizer finds special tokens by their spelling, wherever they come from. So before a conversation is rendered,
each look-alike in its contents is broken by a mark: a character that stands nowhere else. What is whole after
rendering comes from the template; the tokenizer that reads the text drops the marks after it has looked for special
tokens, and before anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from .errors import InvalidConversation
from .messages import JSON

_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # Unicode promises never to give these a meaning.


class Lookalikes:
    """Finds and breaks the spellings of some tokens in texts.

    Args:
        tokens: the spellings.
        normalize: what the tokenizer does to a text before it looks for some of its tokens, if it does.
    """

    def __init__(self, tokens: Iterable[str], *, normalize: Callable[[str], str] | None = None) -> None:
        self._tokens = frozenset(tokens)
        # A token of one character cannot be broken by a mark inside it, and white space is never a control token.
        spellings = sorted({token for token in self._tokens if len(token) > 1 and token.strip()}, key=len, reverse=True)
        self._first = tuple({token[0] for token in spellings})
        self._pattern = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")
        self._normalize = normalize

    def and_of(self, tokens: Iterable[str]) -> Lookalikes:
        """Return what finds the spellings of these tokens too."""
        more = frozenset(tokens) - self._tokens
        return Lookalikes(self._tokens | more, normalize=self._normalize) if more else self

    def and_more(self, other: Lookalikes) -> Lookalikes:
        """Return what finds what either finds."""
        if not other._tokens:
            return self
        return Lookalikes(self._tokens | other._tokens, normalize=self._normalize or other._normalize)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def occur_in(self, value: JSON) -> bool:
        """Whether a text, or any text inside a JSON value, has a look-alike."""
        if isinstance(value, str):
            if any(first in value for first in self._first) and self._pattern.search(value):
                return True
            return self._normalize is not None and self._pattern.search(self._normalize(value)) is not None
        if isinstance(value, dict):
            return any(self.occur_in(key) or self.occur_in(each) for key, each in value.items())
        if isinstance(value, list):
            return any(map(self.occur_in, value))
        return False

    def broken(self, value: JSON, mark: str) -> JSON:
        """Return the value with every look-alike in it broken by a mark after its first character."""
        if isinstance(value, str):
            return self.replaced(value, lambda spelling: spelling[0] + mark + spelling[1:])
        if isinstance(value, dict):
            return {str(self.broken(key, mark)): self.broken(each, mark) for key, each in value.items()}
        if isinstance(value, list):
            return [self.broken(each, mark) for each in value]
        return value

    def replaced(self, text: str, replacement: Callable[[str], str]) -> str:
        """Return the text with every look-alike replaced, those that overlap another one too."""
        while self._pattern.search(text):
            text = self._pattern.sub(lambda found: replacement(found.group()), text)
        return text


def absent_marks(value: JSON, count: int) -> list[str]:
    """Choose characters that occur in no text of a value.

    Raises:
        InvalidConversation: the value uses nearly all of Unicode's 32 noncharacters.
    """
    text = json.dumps(value, ensure_ascii=False)
    absent = [mark for mark in _NONCHARACTERS if mark not in text]
    if len(absent) < count:
        raise InvalidConversation(
            f"the conversation uses {len(_NONCHARACTERS) - len(absent)} of the noncharacters U+FDD0 to U+FDEF; "
            "they have no meaning and are needed here: remove them"
        )
    return absent[:count]
