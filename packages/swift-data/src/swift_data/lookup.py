"""From a spec to the files that hold its rows: an existing file first, then a known dataset's name."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from swift_templates.errors import UnknownName
from swift_templates.registry import nearest

from .dataset_card import DATASETS, load_card
from .errors import DatasetNotFound, UnsupportedDataset
from .fields import quote
from .source import find_source, sources_by_suffix
from .spec import DatasetSpec

# How many names of a folder a message lists.
_SHOWN_NAMES = 5


def find_files(spec: DatasetSpec) -> list[Path]:
    """Return the files of a dataset, in order.

    Raises:
        DatasetNotFound: it is neither a file nor a known name; the message holds the nearest of both.
        UnsupportedDataset: it is a folder, a file of an unknown type, or on a hub.
        InvalidSpec: a subset is asked for that does not exist.
    """
    if spec.hub is not None:
        raise UnsupportedDataset(
            f"dataset {str(spec)!r} is on a hub, which is not supported yet; download it and give its file"
        )
    path = Path(spec.name)
    # Unlike Path's own methods, these say False to a name that is too long to be one.
    if os.path.isfile(path):
        if spec.subsets:
            raise UnsupportedDataset(f"dataset {str(spec)!r} asks for subsets of a file; it has none, leave them out")
        find_source(path)
        return [path]
    try:
        return load_card(spec.name).find_files(spec)
    except UnknownName as error:
        # A name that is not known is a path to something that is missing, or no file.
        raise _describe_missing(spec, path) from error


def _describe_missing(spec: DatasetSpec, path: Path) -> DatasetNotFound | UnsupportedDataset:
    if os.path.isdir(path):
        names = _data_files(path)
        holds = f"it holds {quote(names)}" if names else f"it holds no {_suffixes()} file"
        return UnsupportedDataset(f"dataset {spec.name!r} is a folder; expected a file: {holds}")
    if os.path.exists(path):
        return UnsupportedDataset(f"dataset {spec.name!r} is a device or pipe; expected a file: write its rows to one")
    return DatasetNotFound(
        f"dataset {str(spec)!r} is neither a file nor a known dataset; {_suggest_files(path)}; "
        f"datasets: {nearest(path.name, DATASETS.names())}"
    )


def _suggest_files(path: Path) -> str:
    folder = path.parent
    if not os.path.isdir(folder):
        return f"files: there is no folder {str(folder)!r}"
    names = difflib.get_close_matches(path.name, _file_names(folder), n=3, cutoff=0.6) or _data_files(folder)
    if not names:
        return f"files: {str(folder)!r} holds no {_suffixes()} file"
    return f"files: nearest in {str(folder)!r} are {quote(names)}"


def _data_files(folder: Path) -> list[str]:
    readable = sources_by_suffix()
    return [name for name in _file_names(folder) if os.path.splitext(name)[1].lower() in readable][:_SHOWN_NAMES]


def _file_names(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in os.scandir(folder) if each.is_file())
    except PermissionError:
        # The names would only have been a hint.
        return []


def _suffixes() -> str:
    return " or ".join(sorted(sources_by_suffix()))
