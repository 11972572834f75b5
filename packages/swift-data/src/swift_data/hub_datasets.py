"""Datasets on hubs: an id to the files of the parts that are asked for, in the hub's own local cache.

What the cache holds is used as it is, without asking whether there is something newer. No code of a dataset is run: one
that has a loading script and no declared files is refused.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

from swift_templates.errors import MissingDependency

from .compression import COMPRESSIONS, data_suffix
from .dataset_layout import (
    TRAIN,
    Subset,
    check_shards,
    choose_splits,
    declared_subsets,
    inferred_subsets,
    match_files,
    subsets_by_place,
)
from .errors import UnreadableDataset, UnsupportedDataset
from .fields import quote
from .source import sources_by_suffix
from .spec import ALL, DatasetSpec, Hub

logger = logging.getLogger(__name__)

README: Final = "README.md"

# Files of data's kind that hold none: what `datasets` and hubs write about a dataset.
_ABOUT: Final = frozenset(
    (
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "state.json",
        "configuration.json",
        "croissant.json",
    )
)
# Beside rows it is a licence, a list of requirements or a note.
_TEXT: Final = ".txt"
_PACKAGES: Final = {"hf": "huggingface_hub", "ms": "modelscope"}


class HubFiles(Protocol):
    """What a module in `swift_data.hubs` does."""

    NAME: str

    def find_cached(self, name: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
        """Return a dataset's folder in the cache."""

    def download(self, name: str, revision: str | None, patterns: Sequence[str]) -> Path:
        """Fetch files of a dataset and return its folder."""


def fetch_dataset(spec: DatasetSpec, hub: Hub, *, split: str = TRAIN) -> list[Path]:
    """Return the files of a dataset on a hub.

    Args:
        spec: what is asked for.
        hub: where it is.
        split: the split that a subset means where there are several.

    Raises:
        DatasetNotFound: there is no such dataset, or it is not in the cache and cannot be fetched.
        InvalidSpec: it has no such subset.
        UnsupportedDataset: it has no files that can be read, or needs its own code to be loaded.
        UnreadableDataset: files of it are missing.
        MissingDependency: the hub's package is not installed (swift_templates.errors).
    """
    files = _import_hub(hub, spec)
    # The script is looked for, never run.
    head = [README, f"{spec.name.rpartition('/')[2]}.py"]
    folder = files.find_cached(spec.name, spec.revision, head)
    if folder is not None and any(folder.iterdir()):
        patterns = _patterns(folder, spec, split)
        # Files that are known to be missing make this None.
        if files.find_cached(spec.name, spec.revision, patterns) is not None:
            try:
                return find_in_folder(folder, spec, split=split)
            except (UnreadableDataset, _NoFiles):
                # Fetched for another subset, or not to the end.
                pass
    folder = files.download(spec.name, spec.revision, head)
    folder = files.download(spec.name, spec.revision, _patterns(folder, spec, split))
    return find_in_folder(folder, spec, split=split)


class _NoFiles(UnsupportedDataset):
    """A part of a dataset has no files."""


def find_in_folder(folder: Path, spec: DatasetSpec, *, split: str = TRAIN) -> list[Path]:
    """Return the files of the parts that a spec asks for, in a folder that is laid out as a dataset on a hub.

    Raises:
        InvalidSpec: it has no such subset.
        UnsupportedDataset: it has no files that can be read, or of several kinds, or needs its own code to be loaded.
        UnreadableDataset: files of it are missing.
    """
    everything = data_files(folder)
    files = leave_out_texts(everything, name=spec.name)
    subsets = declared_subsets(read_metadata(folder), name=spec.name)
    others: Sequence[Subset] = ()
    declared = bool(subsets)
    if not declared:
        _refuse_script(folder, spec)
        if not files:
            raise _NoFiles(f"dataset {spec.name!r} holds no file that can be read; readable are {_suffixes()}")
        subsets = inferred_subsets(files)
        others = [*_subsets_by_kind(files), *subsets_by_place(files)]
    found: list[str] = []
    for patterns in choose_splits(subsets, spec, split=split, others=others):
        # Text that is declared is meant.
        matching = match_files(files, patterns) or match_files(everything, patterns)
        if not matching:
            raise _NoFiles(
                f"dataset {spec.name!r} has no readable file {', '.join(patterns)}; readable are {_suffixes()}"
            )
        found += matching
    check_shards(found, name=spec.name)
    if not declared:
        check_kinds(found, spec)
    return [folder / name for name in dict.fromkeys(found)]


def data_files(folder: Path) -> list[str]:
    """Return the relative names of the files below a folder that hold rows, sorted; hidden ones are left out."""
    readable = sources_by_suffix()
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if data_suffix(name.name) in readable
        and name.name not in _ABOUT
        and not any(part.startswith((".", "__")) for part in name.parts)
    )


def leave_out_texts(files: Sequence[str], *, name: str) -> list[str]:
    """Return the names of files without those of plain text, such as a licence, unless there are no others."""
    kept = [file for file in files if data_suffix(file) != _TEXT]
    if not kept:
        return list(files)
    if left_out := sorted(set(files) - set(kept)):
        logger.info("dataset %r: files of plain text beside others are left out: %s", name, quote(left_out))
    return kept


def check_kinds(files: Sequence[str], spec: DatasetSpec) -> None:
    """Raise UnsupportedDataset where files are of several kinds, unless all of them are asked for."""
    kinds = _kinds(files)
    if len(kinds) > 1 and spec.subsets != (ALL,):
        raise UnsupportedDataset(
            f"dataset {spec.name!r} holds files of several kinds, {quote(kinds)}, which may hold the same rows; choose "
            f"one, such as '{spec.name}:{kinds[0].removeprefix('.')}', or take all files as '{spec.name}:{ALL}'"
        )


def _kinds(files: Sequence[str]) -> list[str]:
    return sorted({data_suffix(file) for file in files})


def _subsets_by_kind(files: Sequence[str]) -> list[Subset]:
    """Return a subset for each kind of files, called by its ending: 'jsonl'."""
    return [
        Subset(
            kind.removeprefix("."), inferred_subsets([file for file in files if data_suffix(file) == kind])[0].splits
        )
        for kind in _kinds(files)
    ]


def read_metadata(folder: Path) -> Mapping[str, object]:
    """Return what stands in the head of a folder's README.md.

    Raises:
        UnsupportedDataset: it cannot be read.
        MissingDependency: the head declares files, and huggingface_hub is not installed (swift_templates.errors).
    """
    readme = folder / README
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    if not text.startswith("---") or not re.search(r"^configs:", text, re.MULTILINE):
        return {}
    try:
        from .hubs.hf import read_head
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"huggingface_hub is needed to read the head of {str(readme)!r}; pip install 'swift-data[hubs]'"
        ) from error
    return read_head(readme)


def _patterns(folder: Path, spec: DatasetSpec, split: str) -> list[str]:
    """Return which files to fetch: those that are declared for a part, or all that may hold rows."""
    subsets = declared_subsets(read_metadata(folder), name=spec.name)
    if not subsets:
        _refuse_script(folder, spec)
        suffixes = sources_by_suffix()
        return [f"*{suffix}{end}" for suffix in suffixes for end in ("", *COMPRESSIONS)]
    declared = {pattern for patterns in choose_splits(subsets, spec, split=split) for pattern in patterns}
    # Hubs' patterns have no `**`: their `*` goes through folders.
    plain = sorted(pattern.replace("**/", "*") for pattern in declared)
    return [form for pattern in plain for form in (pattern, f"{pattern.rstrip('/')}/*")]


def _refuse_script(folder: Path, spec: DatasetSpec) -> None:
    script = f"{spec.name.rpartition('/')[2]}.py"
    if (folder / script).is_file():
        raise UnsupportedDataset(
            f"dataset {spec.name!r} is loaded by a script of its own, {script}, which is not run. Hugging Face has a "
            f"Parquet copy of many such: 'hf::{spec.name}@refs/convert/parquet'; or write the rows to a file yourself"
        )


def _import_hub(hub: Hub, spec: DatasetSpec) -> HubFiles:
    try:
        return cast("HubFiles", importlib.import_module(f"{__package__}.hubs.{hub}"))
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{_PACKAGES[hub]} is needed to fetch dataset {spec.name!r} from '{hub}::'; pip install 'swift-data[hubs]' "
            "(or, if you mean a file or folder, check its path)"
        ) from error


def _suffixes() -> str:
    return ", ".join(sorted(sources_by_suffix()))
