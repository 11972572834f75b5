"""The help of an option: the string literal under its field.

Python keeps no such literal at run time, so the source is read, and only when a help text is shown.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache


@cache
def read_field_helps(owner: type) -> Mapping[str, str]:
    """Return the text under each field of a dataclass and its parents; fields without one are left out."""
    helps: dict[str, str] = {}
    for declaring in reversed(owner.__mro__):
        if is_dataclass(declaring):
            helps |= _read_own(declaring)
    return helps


def _read_own(declaring: type) -> dict[str, str]:
    try:
        source = inspect.getsource(declaring)
    except (OSError, TypeError):
        # A class that was made without a file, such as in an interpreter: it has no literals to read.
        return {}
    tree = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(tree, ast.ClassDef)
    helps = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        match following:
            case ast.Expr(value=ast.Constant(value=str() as text)):
                helps[statement.target.id] = inspect.cleandoc(text)
    return helps
