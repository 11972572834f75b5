"""How many tokens each completion has, from whichever column says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..errors import InvalidArgument, MissingColumn
from ..fields import shorten
from ..reward import Column, check_column, to_list

LENGTHS: Final = "completion_token_lengths"
TOKEN_IDS: Final = ("token_ids", "completion_ids", "response_token_ids")
"""Ours, TRL's and ms-swift's name of the completions' token ids."""


def token_lengths(reward: str, completions: Sequence[str], columns: Mapping[str, Column]) -> list[int | None]:
    """Return the completions' lengths in tokens, without those of the prompt; None where the column has none.

    Raises:
        MissingColumn: neither lengths nor token ids are given.
        InvalidArgument: the column has another length, or something else in it.
    """
    name = next((name for name in (LENGTHS, *TOKEN_IDS) if name in columns), None)
    if name is None:
        if not completions:
            return []
        raise MissingColumn(
            f"{reward} needs the completions' lengths in tokens: the column {LENGTHS!r}, or token ids as one of "
            f"{', '.join(map(repr, TOKEN_IDS))}; given are {sorted(columns)}"
        )
    check_column(name, columns[name], len(completions))
    return [_to_length(value, name) for value in columns[name]]


def _to_length(value: object, name: str) -> int | None:
    if value is None:
        return None
    if name == LENGTHS:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise InvalidArgument(f"the column {name!r} holds {shorten(value)}; expected a number of tokens")
    ids = to_list(value)
    if not isinstance(ids, list | tuple):
        raise InvalidArgument(f"the column {name!r} holds {shorten(value)}; expected a list of token ids")
    # Several turns may have a list each.
    return sum(len(each) if isinstance(each, list | tuple) else 1 for each in ids)
