"""Dataset cards: what is known of a dataset that has a name.

A card says where the rows are, what they are, and how they become rows that a column format knows. It holds none but
for two made-up ones, which show how the columns look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from swift_templates.errors import BrokenComponent
from swift_templates.registry import Registry, nearest

from .errors import InvalidSpec, UnsupportedDataset
from .fields import rename
from .media_columns import MEDIA_COLUMNS
from .spec import ALL, DatasetSpec

RowKind = Literal["chat", "prompt", "preference", "kto", "text", "agent", "vision", "grounding", "video", "audio"]
"""What a row is for: to answer, to be answered and scored, to choose the better answer, to tell good answers from bad
ones, to go on a text, to call tools, to see, to point, to watch, to listen."""

UNKNOWN: Final = "unknown"
"""The licence of a dataset that does not state one, or states it where we could not check it."""


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """A known dataset.

    Attributes:
        name: how users spell it; the name of its file in `swift_data.datasets` too.
        description: one sentence.
        kind: what a row is.
        language: codes of the languages in it, such as 'en'.
        licence: its SPDX identifier (LicenseRef- and a name for terms of its own), or 'unknown'; what it allows is for
            the user to look up.
        files: the file of each subset, where it comes with a package.
        default: the subset that the bare name means.
        hf_id: its id on Hugging Face.
        ms_id: its id on ModelScope.
        hub_subset: the subset there that the bare name means; None where there is one only.
        hub_subsets: all subsets there that have these columns.
        split: the split there that is for training.
        prepare: makes a row of columns that a format knows out of one as it is there, where new names are not enough.
        columns: its names to ours, after `prepare`; '_' leaves a column out.
        constants: columns that each row gets, such as a question that all share; what a row has itself comes first.
        examples: two rows of our own making, in the columns that the dataset has: they show these, and are tests.
    """

    name: str
    description: str
    kind: RowKind
    language: tuple[str, ...]
    licence: str
    files: Mapping[str, Path] = field(default_factory=dict)
    default: str | None = None
    hf_id: str | None = None
    ms_id: str | None = None
    hub_subset: str | None = None
    hub_subsets: tuple[str, ...] = ()
    split: str = "train"
    prepare: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Mapping[str, object], ...] = ()

    def convert(self, raw: Mapping[str, object]) -> dict[str, object]:
        """Return a row of the dataset with columns that a format knows; `to_row` takes it from there.

        Raises:
            BadRow: the row lacks what `prepare` reads, or has two columns of one name afterwards.
        """
        prepared = raw if self.prepare is None else self.prepare(raw)
        return {**self.constants, **rename(prepared, self.columns, keep_null=MEDIA_COLUMNS)}

    def find_files(self, spec: DatasetSpec) -> list[Path]:
        """Return the files of the subsets that a spec asks for, in its order.

        Raises:
            UnsupportedDataset: it has no files, only ids on hubs.
            InvalidSpec: there is no such subset, or none was named and no default exists.
        """
        if not self.files:
            raise UnsupportedDataset(
                f"dataset {self.name!r} has no files of its own; find_dataset fetches it from a hub"
            )
        wanted = spec.subsets or ((self.default,) if self.default else ())
        if wanted == (ALL,):
            wanted = tuple(self.files)
        if not wanted:
            raise InvalidSpec(f"dataset {self.name!r} needs a subset; {nearest('', self.files)}")
        for subset in wanted:
            if subset not in self.files:
                known = nearest(subset, [*self.files, ALL])
                raise InvalidSpec(f"dataset {self.name!r} has no subset {subset!r}; {known}")
        return [self.files[subset] for subset in wanted]


DATASETS = Registry(kind="dataset", package="swift_data.datasets", base=DatasetCard)


def load_card(name: str) -> DatasetCard:
    """Return the card of a known dataset.

    Raises:
        UnknownName: nothing is known under this name.
        BrokenComponent: what is registered is not a card; both are errors of swift_templates.
    """
    card = DATASETS.load(name)
    if isinstance(card, type):
        raise BrokenComponent(f"dataset {name!r} is the class {card.__name__}; expected an instance of DatasetCard")
    return card
