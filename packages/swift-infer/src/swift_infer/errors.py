"""The errors of swift_infer; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations


class SwiftInferError(Exception):
    """Root of all errors that swift_infer raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class InvalidInferArgs(SwiftInferError, ValueError):
    """Options that contradict each other, or values out of range."""


class UnknownAdapter(SwiftInferError, KeyError):
    """A prompt names an adapter that the engine does not hold."""


class PromptTooLong(SwiftInferError, ValueError):
    """A prompt leaves no room for an answer."""
