"""Dataset cards: what is known of a dataset that has a name.

A card says where the rows are and what they are; it holds none itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from swift_templates.errors import BrokenComponent
from swift_templates.registry import Registry, nearest

from .errors import InvalidSpec, UnsupportedDataset
from .spec import ALL, DatasetSpec

RowKind = Literal["chat"]


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """A known dataset.

    Attributes:
        name: how users spell it; the name of its file in `swift_data.datasets` too.
        description: one sentence.
        kind: what a row is.
        language: codes of the languages in it, such as 'en'.
        licence: its SPDX identifier.
        files: the file of each subset, where it comes with a package.
        default: the subset that the bare name means.
        hf_id: its id on Hugging Face; recorded, but rows cannot be loaded from hubs yet.
        ms_id: its id on ModelScope; as hf_id.
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

    def find_files(self, spec: DatasetSpec) -> list[Path]:
        """Return the files of the subsets that a spec asks for, in its order.

        Raises:
            UnsupportedDataset: it has no files, only ids on hubs.
            InvalidSpec: there is no such subset, or none was named and no default exists.
        """
        if not self.files:
            raise UnsupportedDataset(
                f"dataset {self.name!r} is on a hub, which is not supported yet; download it and give the file"
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
