"""Dataset specs: how a user spells a dataset, `[hf|ms]::id_or_path[@revision][:sub1/sub2|:all][#N]`.

A local file always wins: whatever is in its name, `#`, `:` or a drive letter, a spelling that names an existing file
means that file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Literal

from .errors import InvalidSpec

Hub = Literal["hf", "ms"]

ALL: Final = "all"
"""The subset that stands for all of them."""

_HUBS: dict[str, Hub] = {"hf": "hf", "ms": "ms"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w-][\w.-]*", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset that a user asks for.

    Attributes:
        name: a file, a known dataset's name, or an id on a hub.
        hub: where the id is, Hugging Face or ModelScope; None for files and known names.
        subsets: parts of it; () is its default part, ('all',) every part.
        count: how many rows to take; None is all. More than there are repeats them.
        revision: branch, tag or commit of an id on a hub; None is its main one.
    """

    name: str
    hub: Hub | None = None
    subsets: tuple[str, ...] = ()
    count: int | None = None
    revision: str | None = None

    def __str__(self) -> str:
        hub = f"{self.hub}::" if self.hub else ""
        subsets = f":{'/'.join(self.subsets)}" if self.subsets else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{hub}{self.name}{revision}{subsets}" + ("" if self.count is None else f"#{self.count}")


def parse_spec(text: str) -> DatasetSpec:
    """Take a dataset's spelling apart.

    Args:
        text: such as 'train.jsonl', 'train.jsonl#500', 'harrowgate:heldout', 'hf::org/name@v1:main/extra#100'.

    Raises:
        InvalidSpec: it cannot be read as one. Whether the dataset exists is not checked.
    """
    if not text.strip():
        raise InvalidSpec(f"dataset {text!r} is empty; expected a file or a known name, such as 'train.jsonl#500'")
    if os.path.exists(text):
        return DatasetSpec(text)
    whole, count = _split_count(text)
    if os.path.exists(whole):
        return DatasetSpec(whole, count=count)
    is_local = os.path.exists(whole.rpartition(":")[0])
    hub, rest = (None, whole) if is_local else _split_hub(whole, text)
    name, subsets = _split_subsets(rest, text)
    revision = None
    if hub is not None or is_hub_id(name.partition("@")[0]):
        name, revision = _split_revision(name, text)
    if not name:
        raise InvalidSpec(f"dataset {text!r} has no name; expected one, such as 'train.jsonl#500'")
    return DatasetSpec(name, hub, subsets, count, revision)


def is_hub_id(name: str) -> bool:
    """Say whether a name looks like 'owner/name', as ids on hubs do, and like no file."""
    return _HUB_ID.fullmatch(name) is not None


def _split_count(text: str) -> tuple[str, int | None]:
    whole, mark, digits = text.rpartition("#")
    if not mark:
        return text, None
    # int() would also take '1_000', '+5' and the digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,18}", digits) or int(digits) == 0:
        raise InvalidSpec(
            f"dataset {text!r} asks for {digits!r} rows; expected a whole number above 0 after '#' "
            "(or, if '#' is part of a file's name, a file that exists)"
        )
    return whole, int(digits)


def _split_hub(whole: str, text: str) -> tuple[Hub | None, str]:
    prefix, mark, rest = whole.partition("::")
    if not mark:
        return None, whole
    hub = _HUBS.get(prefix.strip().lower())
    if hub is None:
        raise InvalidSpec(
            f"dataset {text!r} names the hub {prefix!r}; expected 'hf' or 'ms' before '::' (or an existing file)"
        )
    return hub, rest.strip()


def _split_revision(name: str, text: str) -> tuple[str, str | None]:
    name, mark, revision = name.partition("@")
    if mark and not revision.strip():
        raise InvalidSpec(f"dataset {text!r} has an empty revision after '@'; expected a branch, tag or commit")
    return name, revision.strip() or None


def _split_subsets(rest: str, text: str) -> tuple[str, tuple[str, ...]]:
    drive = _DRIVE.match(rest)
    start = drive.end() if drive else 0
    colon = rest.rfind(":", start)
    if colon < 0:
        return rest, ()
    subsets = tuple(each.strip() for each in rest[colon + 1 :].split("/"))
    if not all(subsets):
        raise InvalidSpec(f"dataset {text!r} has an empty subset after ':'; expected ':main/extra', say, or ':all'")
    if ALL in subsets and len(subsets) > 1:
        raise InvalidSpec(f"dataset {text!r} asks for 'all' subsets and for others too; say ':all' alone")
    return rest[:colon], subsets
