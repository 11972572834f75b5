"""From a spec to the files that hold its rows: an existing file first, then a known name, a folder, an id on a hub."""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swift_templates.errors import UnknownName
from swift_templates.registry import nearest

from .compression import data_suffix
from .dataset_card import DATASETS, DatasetCard, load_card
from .dataset_layout import TRAIN, inferred_subsets
from .errors import DatasetNotFound, InvalidSpec, UnsupportedDataset
from .fields import quote
from .hub_datasets import check_kinds, data_files, fetch_dataset, find_in_folder, leave_out_texts, read_metadata
from .source import find_source, sources_by_suffix
from .spec import ALL, DatasetSpec, Hub, is_hub_id

logger = logging.getLogger(__name__)

# How many names of a folder a message lists.
_SHOWN_NAMES: Final = 5


@dataclass(frozen=True, kw_only=True)
class FoundDataset:
    """Where a dataset's rows are.

    Attributes:
        files: in the order in which their rows follow each other.
        card: what is known of it, such as what its columns mean; None for files, folders and ids.
    """

    files: tuple[Path, ...]
    card: DatasetCard | None = None


def find_dataset(spec: DatasetSpec, *, use_hf: bool = False) -> FoundDataset:
    """Find a dataset; one on a hub is fetched.

    Args:
        spec: what is asked for.
        use_hf: where an id without a hub, and a known dataset, is fetched from: Hugging Face, or else ModelScope.

    Raises:
        DatasetNotFound: it is neither a file or folder nor a known name nor an id that can be fetched.
        UnsupportedDataset: it is a file of an unknown type, or a dataset that needs its own code to be loaded.
        UnreadableDataset: some of its files are missing.
        InvalidSpec: a subset is asked for that does not exist.
        MissingDependency: a hub's package is not installed (swift_templates.errors).
    """
    if spec.hub is not None:
        return FoundDataset(files=tuple(fetch_dataset(spec, spec.hub)))
    path = Path(spec.name)
    # Unlike Path's own methods, these say False to a name that is too long to be one.
    if os.path.isfile(path):
        if spec.subsets:
            raise UnsupportedDataset(f"dataset {str(spec)!r} asks for subsets of a file; it has none, leave them out")
        find_source(path)
        return FoundDataset(files=(path,))
    try:
        card = load_card(spec.name)
    except UnknownName as error:
        if os.path.isdir(path):
            return FoundDataset(files=tuple(_find_in_folder(path, spec)))
        if is_hub_id(spec.name) and data_suffix(spec.name) not in sources_by_suffix():
            return FoundDataset(files=tuple(fetch_dataset(spec, "hf" if use_hf else "ms")))
        # A name that is not known is a path to something that is missing, or no file.
        raise _describe_missing(spec, path) from error
    return _find_known(card, spec, use_hf=use_hf)


def _find_known(card: DatasetCard, spec: DatasetSpec, *, use_hf: bool) -> FoundDataset:
    if card.files:
        return FoundDataset(files=tuple(card.find_files(spec)), card=card)
    ids: dict[Hub, str] = {}
    if card.hf_id:
        ids["hf"] = card.hf_id
    if card.ms_id:
        ids["ms"] = card.ms_id
    wanted: Hub = "hf" if use_hf else "ms"
    hub = wanted if wanted in ids else next(iter(ids))
    if hub != wanted:
        logger.info("dataset %r is on '%s' only, from where it is taken", card.name, hub)
    subsets = spec.subsets or ((card.hub_subset,) if card.hub_subset else ())
    if subsets == (ALL,) and card.hub_subsets:
        # Others there may have other columns.
        subsets = card.hub_subsets
    on_hub = DatasetSpec(ids[hub], hub, subsets, spec.count, spec.revision)
    return FoundDataset(files=tuple(fetch_dataset(on_hub, hub, split=card.split)), card=card)


def _find_in_folder(folder: Path, spec: DatasetSpec) -> list[Path]:
    names = leave_out_texts(data_files(folder), name=spec.name)
    if not names:
        raise UnsupportedDataset(f"dataset {spec.name!r} is a folder that holds no {_suffixes()} file")
    # A clone of a dataset on a hub says which files belong to what.
    if read_metadata(folder) or (spec.subsets and spec.subsets != (ALL,)):
        return find_in_folder(folder, spec)
    splits = inferred_subsets(names)[0].splits
    if len(splits) > 1 and not spec.subsets:
        raise InvalidSpec(
            f"dataset {spec.name!r} is a folder with the splits {quote(splits)}, by the names of its files; choose, "
            f"such as '{spec.name}:{TRAIN if TRAIN in splits else next(iter(splits))}', or take all files as "
            f"'{spec.name}:{ALL}'"
        )
    check_kinds(names, spec)
    return [folder / name for name in names]


def _describe_missing(spec: DatasetSpec, path: Path) -> DatasetNotFound | UnsupportedDataset:
    if os.path.exists(path):
        return UnsupportedDataset(f"dataset {spec.name!r} is a device or pipe; expected a file: write its rows to one")
    return DatasetNotFound(
        f"dataset {str(spec)!r} is neither a file nor a known dataset; {_suggest_files(path)}; "
        f"datasets: {_suggest_names(path.name)}"
    )


def _suggest_names(name: str) -> str:
    names = DATASETS.names()
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return nearest(name, close) if close else f"no name of the {len(names)} known ones is near"


def _suggest_files(path: Path) -> str:
    folder = path.parent
    if not os.path.isdir(folder):
        return f"files: there is no folder {str(folder)!r}"
    names = difflib.get_close_matches(path.name, _file_names(folder), n=3, cutoff=0.6) or _data_names(folder)
    if not names:
        return f"files: {str(folder)!r} holds no {_suffixes()} file"
    return f"files: nearest in {str(folder)!r} are {quote(names)}"


def _data_names(folder: Path) -> list[str]:
    readable = sources_by_suffix()
    return [name for name in _file_names(folder) if data_suffix(name) in readable][:_SHOWN_NAMES]


def _file_names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in os.scandir(folder) if each.is_file())
    except PermissionError:
        # The names would only have been a hint.
        return []


def _suffixes() -> str:
    return " or ".join(sorted(sources_by_suffix()))
