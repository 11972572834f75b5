"""The layout of a dataset's folder: which files belong to which subset and split.

Hubs' datasets say so in the head of their README.md (`configs:`), or by the names of folders and files, as the library
`datasets` reads them. A split of training rows is what a subset means, unless another is asked for: `main@test`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from swift_templates.registry import nearest

from .errors import InvalidSpec, UnreadableDataset, UnsupportedDataset
from .fields import quote
from .spec import ALL, DatasetSpec

TRAIN: Final = "train"

_SPLIT_WORDS: Final = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_NAMES: Final = {
    split: re.compile(rf"(?:^|[-._ /0-9])(?:{'|'.join(words)})(?:[-._ /0-9]|$)", re.IGNORECASE)
    for split, words in _SPLIT_WORDS.items()
}
# How the hub's own Parquet copies are laid out: subset/split/0000.parquet.
_CONVERTED: Final = re.compile(r"(?P<subset>[^/]+)/(?P<split>[^/]+)/\d{4}\.parquet")
_SHARD: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<rest>\D.*)")


@dataclass(frozen=True)
class Subset:
    """A part of a dataset.

    Attributes:
        name: how it is asked for.
        splits: for each of its splits the patterns of its files' names, or the names.
        is_default: whether it is meant where none is named.
    """

    name: str
    splits: Mapping[str, Sequence[str]]
    is_default: bool = False


def declared_subsets(metadata: Mapping[str, object], *, name: str) -> list[Subset]:
    """Return the subsets that the head of a README.md declares with their files; none where it does not.

    Raises:
        UnsupportedDataset: they are declared in a way that is not known, or lie elsewhere.
    """
    configs = metadata.get("configs")
    if not isinstance(configs, list):
        return []
    subsets = []
    for config in configs:
        if not isinstance(config, dict) or ("data_files" not in config and "data_dir" not in config):
            continue
        folder = str(config.get("data_dir") or "").strip("/")
        splits = _declared_splits(config.get("data_files") or "**", f"{folder}/" if folder else "", name=name)
        subsets.append(
            Subset(str(config.get("config_name") or "default"), splits, is_default=config.get("default") is True)
        )
    return subsets


def _declared_splits(data_files: object, folder: str, *, name: str) -> dict[str, list[str]]:
    given = data_files if isinstance(data_files, list) else [data_files]
    splits: dict[str, list[str]] = {}
    for item in given:
        if isinstance(item, str):
            splits.setdefault(TRAIN, []).append(item)
        elif isinstance(item, dict) and "path" in item:
            paths = item["path"] if isinstance(item["path"], list) else [item["path"]]
            splits.setdefault(str(item.get("split") or TRAIN), []).extend(map(str, paths))
        elif isinstance(item, dict):
            for split, paths in item.items():
                splits.setdefault(str(split), []).extend(map(str, paths if isinstance(paths, list) else [paths]))
        else:
            raise UnsupportedDataset(f"dataset {name!r} declares data_files {item!r}; expected names of files")
    for patterns in splits.values():
        for pattern in patterns:
            if "://" in pattern or pattern.startswith("/") or ".." in pattern.split("/"):
                raise UnsupportedDataset(
                    f"dataset {name!r} has files elsewhere, at {pattern!r}; download them yourself"
                )
    return {split: [folder + pattern.removeprefix("./") for pattern in patterns] for split, patterns in splits.items()}


def inferred_subsets(files: Sequence[str]) -> list[Subset]:
    """Return the subsets and splits that the names of a dataset's files mean.

    Args:
        files: relative names, with '/' between folders.
    """
    converted = [_CONVERTED.fullmatch(file) for file in files]
    if files and all(converted):
        found: dict[str, dict[str, list[str]]] = {}
        for match in converted:
            assert match is not None, "all of them match"
            split = match["split"].removeprefix("partial-")
            found.setdefault(match["subset"], {}).setdefault(split, []).append(match.string)
        return [Subset(name, splits) for name, splits in found.items()]
    return [Subset("default", _split_by_name(files), is_default=True)]


def subsets_by_place(files: Sequence[str]) -> list[Subset]:
    """Return what may be asked for though nothing says that it is a subset: a folder, or a file without its ending."""
    places: dict[str, list[str]] = {}
    for file in files:
        place, slash, _ = file.partition("/")
        places.setdefault(place if slash else place.partition(".")[0], []).append(file)
    return [Subset(name, _split_by_name(found)) for name, found in places.items()]


def _split_by_name(files: Sequence[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for file in files:
        for split, pattern in _SPLIT_NAMES.items():
            if pattern.search(file):
                splits.setdefault(split, []).append(file)
                break
    return splits or {TRAIN: list(files)}


def choose_splits(
    subsets: Sequence[Subset], spec: DatasetSpec, *, split: str = TRAIN, others: Sequence[Subset] = ()
) -> list[Sequence[str]]:
    """Return the patterns of each part that a spec asks for, in its order.

    Args:
        subsets: what the dataset has.
        spec: what is asked for: names of subsets, of splits of the default one, or `subset@split`.
        split: which split a subset means that has several.
        others: what may be asked for besides, but is not part of 'all'.

    Raises:
        InvalidSpec: there is no such part, or none is asked for and no default exists.
    """
    if spec.subsets == (ALL,):
        return [_choose_split(subset, split, spec) for subset in subsets]
    default = _find_default(subsets)
    if not spec.subsets:
        if default is None:
            names = nearest("", [*(subset.name for subset in subsets), ALL])
            raise InvalidSpec(f"dataset {spec.name!r} needs a subset, such as '{spec.name}:{subsets[0].name}'; {names}")
        return [_choose_split(default, split, spec)]
    by_name = {subset.name: subset for subset in [*others, *subsets]}
    splits = default.splits if default is not None else {}
    chosen = []
    for wanted in spec.subsets:
        name, _, named_split = wanted.rpartition("@")
        if wanted in splits:
            chosen.append(splits[wanted])
        elif wanted in by_name:
            chosen.append(_choose_split(by_name[wanted], split, spec))
        elif name in by_name and named_split in by_name[name].splits:
            chosen.append(by_name[name].splits[named_split])
        else:
            known = [*(subset.name for subset in subsets), *splits, ALL]
            if name in by_name:
                known = [f"{name}@{each}" for each in by_name[name].splits]
            raise InvalidSpec(f"dataset {spec.name!r} has no subset {wanted!r}; {nearest(wanted, known)}")
    return chosen


def _find_default(subsets: Sequence[Subset]) -> Subset | None:
    if len(subsets) == 1:
        return subsets[0]
    marked = [subset for subset in subsets if subset.is_default] or [each for each in subsets if each.name == "default"]
    return marked[0] if marked else None


def _choose_split(subset: Subset, split: str, spec: DatasetSpec) -> Sequence[str]:
    if len(subset.splits) == 1:
        return next(iter(subset.splits.values()))
    if split not in subset.splits:
        raise InvalidSpec(
            f"subset {subset.name!r} of dataset {spec.name!r} has no split {split!r}; it has {quote(subset.splits)}: "
            f"ask for one as '{spec.name}:{subset.name}@{next(iter(subset.splits))}'"
        )
    return subset.splits[split]


def match_files(files: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns, sorted; a folder's name stands for all files in it."""
    expressions = [_to_expression(pattern) for pattern in patterns]
    return sorted(file for file in files if any(expression.fullmatch(file) for expression in expressions))


def check_shards(files: Iterable[str], *, name: str) -> None:
    """Raise UnreadableDataset where files are numbered, such as -00000-of-00005, and a number is missing."""
    found: dict[tuple[str, str, int], set[int]] = {}
    for file in files:
        if match := _SHARD.fullmatch(file):
            found.setdefault((match["stem"], match["rest"], int(match["total"])), set()).add(int(match["number"]))
    for (stem, rest, total), numbers in found.items():
        if missing := sorted(set(range(total)) - numbers):
            raise UnreadableDataset(
                f"dataset {name!r} lacks {len(missing)} of the {total} files {stem}-*{rest}, such as number "
                f"{missing[0]}; fetch it again"
            )


def _to_expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", pattern.rstrip("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    try:
        return re.compile("".join(meaning.get(part) or _to_literal(part) for part in parts) + "(?:/.*)?")
    except re.error as error:
        raise UnsupportedDataset(f"{pattern!r} is no pattern of files' names: {error}") from error


def _to_literal(part: str) -> str:
    if not (part.startswith("[") and part.endswith("]")):
        return re.escape(part)
    return part.replace("[!", "[^", 1).replace("\\", "\\\\")
