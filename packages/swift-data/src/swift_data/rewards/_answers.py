r"""Final answers in texts: what stands in `<answer>` tags, in `\boxed{}`, behind '####' or behind 'the answer is'.

An answer is looked for where models are asked to put it. A number somewhere in a text is none: a reward for it would
teach guessing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

MAX_CHARACTERS: Final = 1000
"""Longer texts are no final answers."""

_MARKS = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_SAID = re.compile(
    r"(?:\banswer(?:\*\*)?(?:\s+is\b:?|:)(?:\*\*)?|答案(?:[是为][:\uff1a]?|[:\uff1a]))\s*(\S[^\n]*)", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"\.(?:\s|$)|\u3002")
_WORD = re.compile(r"[^\W\d_]{2,}[.,;:!?']*")
_FORMULA = re.compile(r"[\\^_=+*/{}%]")
# Words that change a number: with one of them, what is written is another number, or none.
_NUMERALS: Final = {
    *("not", "no", "never", "or", "minus", "negative", "half", "third", "quarter", "dozen", "hundred", "thousand"),
    *("million", "billion", "trillion", "percent", "pi", "tau", "phi", "psi", "sin", "cos", "tan", "log", "exp"),
    *("sqrt", "root", "squared", "cubed", "infinity"),
}
_NUM_BOXES: Final = 20
_MAX_DEPTH: Final = 30
_BOXES = re.compile(r"\\(?:boxed|fbox)\s*\{")
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|[+-]?\.\d+")
_FRACTION = re.compile(r"([+-]?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|(\d+)\s*/\s*(\d+))")
_CHOICE = re.compile(r"\(?([A-Z])\)?(?:[.):].*)?", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}")
_CURRENCY = re.compile(r"\\?\$\s*(?=[+-]?[\d.])")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))


def find_answer(text: str) -> str | None:
    """Return a text's final answer, clean; None where it has none.

    What follows the thinking counts; an end of the thinking that never comes is no answer. In it, the last pair of
    tags, the last box, the last '####' or the last 'answer is' decides, in this order. A text of a single line without
    any of them is an answer as a whole.
    """
    before, closed, rest = text.rpartition("</think>")
    text = rest if closed else before + rest
    if not closed and "<think>" in text:
        return None
    _, opened, tagged = text.rpartition("<answer>")
    if opened:
        text, _, _ = tagged.partition("</answer>")
    found = _last_box(text)
    if found is None and (marks := _MARKS.findall(text)):
        found = marks[-1]
    if found is None and (said := _SAID.findall(text)):
        found = _until_sentence_ends(said[-1])
    if found is None and (opened or "\n" not in text.strip()):
        found = text
    if found is None or len(found.strip()) > MAX_CHARACTERS:
        return None
    return clean(found) or None


def clean(answer: str) -> str:
    r"""Take away what surrounds an answer: white space, `$...$`, `**...**`, `\text{...}`, a currency, a full stop."""
    answer = answer.strip()
    previous = None
    while answer != previous:
        previous = answer
        answer = answer.removesuffix(".").removesuffix("\u3002").strip()
        for opening, closing in _DELIMITERS:
            inner = answer[len(opening) : -len(closing)]
            if answer.startswith(opening) and answer.endswith(closing) and inner.strip() and opening not in inner:
                answer = inner.strip()
        if text := _TEXT.fullmatch(answer):
            answer = text[1].strip()
    if answer.count("$") == 1 and (currency := _CURRENCY.match(answer)):
        answer = answer[currency.end() :]
    return answer.strip()


def to_number(answer: str) -> Fraction | None:
    """Read a whole number, a decimal or a fraction, exactly; None for anything else."""
    if len(answer) > MAX_CHARACTERS:
        return None
    if _NUMBER.fullmatch(answer):
        return Fraction(answer.replace(",", "").removesuffix("."))
    fraction = _FRACTION.fullmatch(answer)
    if fraction is None:
        return None
    sign, *parts = fraction.groups()
    over, under = (int(part) for part in parts if part is not None)
    return Fraction(-over if sign == "-" else over, under) if under else None


def without_words(answer: str) -> str:
    """Return the one number of a phrase, '18' of '18 dollars' or of 'She has 18 left'; any other answer as it is."""
    numbers = _NUMBER.findall(answer)
    words = re.findall(r"[^\W\d_]+", answer.lower())
    is_phrase = any(len(word) > 2 for word in words) and all(len(word) > 1 or word in "ai" for word in words)
    if len(numbers) != 1 or not is_phrase or _FORMULA.search(answer) or _NUMERALS.intersection(words):
        return answer
    return str(numbers[0])


def to_choice(answer: str) -> str | None:
    """Read the letter of a multiple choice: 'B', '(B)', 'B.' or 'B. Paris'; None for anything else."""
    choice = _CHOICE.fullmatch(_TEXT.sub(r"\1", answer))
    return choice[1] if choice else None


def to_words(answer: str) -> str:
    """Write an answer so that equal words are equal: single spaces, and lower case but for letters that stand alone."""
    words = answer.split()
    # In a formula, x and X are two things.
    return " ".join(words).casefold() if all(_WORD.fullmatch(word) for word in words) else " ".join(words)


def is_nested_deeply(answer: str) -> bool:
    """Say whether brackets stand in brackets more than 30 times, which no answer needs and no parser likes."""
    depth = 0
    for character in answer:
        depth += (character in "([{") - (character in ")]}")
        if depth > _MAX_DEPTH:
            return True
    return False


def _last_box(text: str) -> str | None:
    # A model that repeats itself may open a box thousands of times; the last ones say all.
    for start in [box.end() for box in _BOXES.finditer(text)][: -_NUM_BOXES - 1 : -1]:
        closed = _find_closing(text, start)
        if closed is not None:
            return text[start:closed]
    return None


def _find_closing(text: str, start: int) -> int | None:
    depth = 1
    escaped = False
    for index in range(start, min(len(text), start + MAX_CHARACTERS + 1)):
        character = text[index]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return index
    return None


def _until_sentence_ends(text: str) -> str:
    # A point inside of a number ends nothing.
    return _SENTENCE_END.split(text, maxsplit=1)[0]
