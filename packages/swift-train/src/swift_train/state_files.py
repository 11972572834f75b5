"""Nested state, such as an optimizer's, as two files without pickle: numbers and words in JSON, tensors in safetensors.

In the JSON a tensor is a reference to its name in the other file. What JSON cannot say is an object with one key that
begins with '$': {"$tensor": name}, {"$tuple": [...]}, and {"$pairs": [[key, value], ...]} for a mapping whose keys are
not all words, or look like such a key. Floats come back to the bit, infinities and NaN too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, Union

from swift_tuners.errors import InvalidCheckpoint
from swift_tuners.late_writing import take_snapshot, write_snapshot
from swift_tuners.tuner import JSON
from swift_tuners.weights import read_safetensors
from torch import Tensor

from .errors import BrokenCheckpoint, CheckpointNotWritten

State: TypeAlias = Union[  # noqa: UP007  # a forward reference
    bool, int, float, str, Tensor, Sequence["State"], Mapping[int, "State"], Mapping[str, "State"], None
]
"""What can be saved: nested mappings, lists and tuples of numbers, words and tensors."""


def write_state(state: State, folder: Path, name: str) -> None:
    """Write `NAME.json`, and `NAME.safetensors` if there are tensors.

    Raises:
        CheckpointNotWritten: the state holds an object of another kind.
        OSError: the disk refuses.
    """
    prepare_state(state, folder, name, copy=False)()


def prepare_state(state: State, folder: Path, name: str, *, copy: bool) -> Callable[[], None]:
    """Return the function that writes what `write_state` would.

    Args:
        state: to be saved.
        folder: it goes to.
        name: of the files.
        copy: take the values as they are now, in host memory, so that the function may run while they change.

    Raises:
        CheckpointNotWritten: the state holds an object of another kind.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(state, tensors, {}, name), indent=1)
    return partial(_write, text, take_snapshot(tensors) if copy else _to_host(tensors), folder, name)


def read_state(folder: Path, name: str) -> State:
    """Return what `write_state` wrote, tensors on the CPU.

    Raises:
        BrokenCheckpoint: a file is missing or is none of these.
    """
    path = folder / f"{name}.json"
    try:
        encoded: JSON = json.loads(path.read_text(encoding="utf-8"))
        tensors = read_safetensors(path.with_suffix(".safetensors")) if _has_tensors(encoded) else {}
        return _decode(encoded, tensors)
    except FileNotFoundError:
        raise BrokenCheckpoint(
            f"{str(path)!r} does not exist; expected a checkpoint of a run, with all that goes on in it, and not of a "
            "model only (--save_only_model)"
        ) from None
    except (ValueError, KeyError, TypeError, InvalidCheckpoint) as error:
        raise BrokenCheckpoint(f"{str(path)!r} and its tensors cannot be read: {error}") from error


def _write(text: str, tensors: dict[str, Tensor], folder: Path, name: str) -> None:
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    if tensors:
        write_snapshot(tensors, folder / f"{name}.safetensors")


def _to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors themselves where they can be written as they are; what shares memory is copied."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        host = tensor.detach().cpu().contiguous()
        memory = host.untyped_storage().data_ptr()
        found[name] = host.clone() if memory in seen else host
        seen.add(memory)
    return found


def _encode(value: State, tensors: dict[str, Tensor], names: dict[int, str], place: str) -> JSON:
    """Turn a value into JSON, and put its tensors into `tensors`; `names` has those of tensors met before, by id."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        if id(value) not in names:
            names[id(value)] = place
            tensors[place] = value
        return {"$tensor": names[id(value)]}
    if isinstance(value, Mapping):
        items = [(key, _encode(each, tensors, names, f"{place}.{key}")) for key, each in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
            return {str(key): each for key, each in items}
        if not all(isinstance(key, str | int) for key, _ in items):
            raise CheckpointNotWritten(f"{place} has the keys {list(value)!r:.120}; expected words or whole numbers")
        return {"$pairs": [[key, each] for key, each in items]}
    if isinstance(value, list | tuple):
        encoded = [_encode(each, tensors, names, f"{place}.{number}") for number, each in enumerate(value)]
        return {"$tuple": encoded} if isinstance(value, tuple) else encoded
    raise CheckpointNotWritten(
        f"{place} is {value!r:.80}, a {type(value).__name__}; expected tensors, numbers, words, and lists and "
        "mappings of them: only these can be saved without pickle"
    )


def _decode(value: JSON, tensors: Mapping[str, Tensor]) -> State:
    if isinstance(value, list):
        return [_decode(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not next(iter(value)).startswith("$"):
        return {key: _decode(each, tensors) for key, each in value.items()}
    ((kind, content),) = value.items()
    if kind == "$tensor" and isinstance(content, str):
        return tensors[content]
    if kind == "$tuple" and isinstance(content, list):
        return tuple(_decode(each, tensors) for each in content)
    if kind == "$pairs" and isinstance(content, list):
        return _decode_pairs(content, tensors)
    raise ValueError(f"{kind!r} is unknown; it was written by a later version")


def _decode_pairs(pairs: list[JSON], tensors: Mapping[str, Tensor]) -> State:
    decoded: dict[int | str, State] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], int | str):
            raise ValueError(f"{pair!r:.80} is no pair of a key and a value")
        decoded[pair[0]] = _decode(pair[1], tensors)
    return decoded  # type: ignore[return-value]  # keys of both kinds in one mapping


def _has_tensors(value: JSON) -> bool:
    if isinstance(value, dict):
        return "$tensor" in value or any(map(_has_tensors, value.values()))
    return isinstance(value, list) and any(map(_has_tensors, value))
