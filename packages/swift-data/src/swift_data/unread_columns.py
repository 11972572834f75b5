"""Columns that no conversation is made of: named once for each file, so that nothing goes unread in silence.

They stay in a row's `extras`, where rewards find them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from .fields import quote

logger = logging.getLogger(__name__)

_TELLING: Final = frozenset({"context", "chat_template_kwargs", "input", "inputs", "history"})
"""Columns that change what a model is asked, in the sets that have them."""

# A file whose rows all have columns of their own is not worth more lines than these.
_MAX_NOTED: Final = 200
_noted: dict[str, set[str]] = {}


def note_unread(file: str, names: Collection[str]) -> None:
    """Log which columns of a file go unread: as a warning where they change what a model is asked, otherwise as INFO.

    Args:
        file: its name; each of its columns is named once.
        names: columns of one of its rows.
    """
    noted = _noted.setdefault(file, set())
    if noted.issuperset(names) or len(noted) >= _MAX_NOTED:
        return
    new = sorted(set(names) - noted)
    noted.update(new)
    if telling := [name for name in new if name in _TELLING]:
        logger.warning(
            "%s: the columns %s are not part of the conversation, though their names say that they belong to the "
            "question; rename them with the option columns, or leave them out with '_'",
            file,
            quote(telling),
        )
    if others := [name for name in new if name not in _TELLING]:
        logger.info("%s: the columns %s are not part of the conversation; rewards may read them", file, quote(others))
