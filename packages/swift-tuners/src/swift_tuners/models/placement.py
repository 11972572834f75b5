"""Where a model's weights go: on one device, spread over several, or as a user maps them."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import torch
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from ..args import ModelArgs
from ..errors import UnsupportedConfig
from ..host_modules import is_under
from ..registry import nearest

if TYPE_CHECKING:
    from torch import nn

    from ..tuner import JSON

SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")
_SIZE = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)

DeviceMap = str | dict[str, str | int] | None


def choose_device_map(args: ModelArgs) -> DeviceMap:
    """Return the map that transformers takes; None lets ZeRO-3 place the weights.

    Raises:
        UnsupportedConfig: there is no such device, or several processes would each spread the model over all of them.
    """
    given = args.device_map
    if is_deepspeed_zero3_enabled():
        if given is not None:
            raise UnsupportedConfig(f"device_map={given!r}: ZeRO-3 places the weights itself; leave it out")
        return None
    if given is None:
        return own_device()
    if given.lstrip().startswith("{"):
        return _read_map(given)
    if given in SPREADING:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UnsupportedConfig(
                f"device_map={given!r} spreads one model over all devices, and there are "
                f"{os.environ['WORLD_SIZE']} processes, each with its own model; leave it out, or start one process"
            )
        return given
    _check_device(given, option=f"device_map={given!r}")
    return given


def read_max_memory(args: ModelArgs) -> dict[int | str, str] | None:
    """Return how much each device takes, GPUs by their numbers, or None for all that is free.

    Raises:
        UnsupportedConfig: a device or a size is none, or there is nothing to spread.
    """
    if not args.max_memory:
        return None
    if args.device_map not in SPREADING:
        raise UnsupportedConfig(
            f"max_memory={args.max_memory!r} limits devices over which a model is spread, and device_map is "
            f"{args.device_map!r}; expected device_map='auto'"
        )
    for device, size in args.max_memory.items():
        if not (device.isdigit() or device in ("cpu", "disk", "mps")):
            raise UnsupportedConfig(f"max_memory names a device {device!r}; expected the number of a GPU, or cpu")
        if not _SIZE.fullmatch(size):
            raise UnsupportedConfig(f"max_memory of device {device!r} is {size!r}; expected a size such as '20GiB'")
    return {int(device) if device.isdigit() else device: size for device, size in args.max_memory.items()}


def check_placed(model: nn.Module, placement: DeviceMap) -> None:
    """Check that a user's map names modules of the model, and all that hold weights.

    Args:
        model: as it was loaded.
        placement: what `choose_device_map` returned.

    Raises:
        UnsupportedConfig: it does not.
    """
    if not isinstance(placement, dict):
        return
    # Of tied weights one place is enough.
    weights = [name for name, _ in model.named_parameters()]
    known = {name for name, _ in model.named_modules(remove_duplicate=False)} | set(weights)
    for name in placement:
        if name not in known:
            raise UnsupportedConfig(
                f"device_map names {name!r}, which is no module of {type(model).__name__}; {nearest(name, known)}"
            )
    missing = [name for name in weights if not any(is_under(name, root) for root in placement)]
    if missing:
        raise UnsupportedConfig(
            f"device_map has no device for {missing[0]!r} and {len(missing) - 1} other weights; name every module that "
            'holds some, or say "" for all'
        )


def own_device() -> str:
    """Return the device of this process: its GPU if there is one, else the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def _read_map(given: str) -> dict[str, str | int]:
    try:
        content: JSON = json.loads(given)
    except ValueError as error:
        raise UnsupportedConfig(f"device_map={given!r} is no JSON object: {error}") from error
    found: dict[str, str | int] = {}
    if not isinstance(content, dict) or not content:
        raise UnsupportedConfig(f"device_map={given!r} is empty; expected devices by module name")
    for module, device in content.items():
        if not isinstance(device, str | int) or isinstance(device, bool):
            raise UnsupportedConfig(f"device_map puts {module!r} on {device!r}; expected a device such as 'cpu' or 0")
        if device != "disk":
            _check_device(device, option=f"device_map of {module!r}, {device!r},")
        found[module] = device
    return found


def _check_device(device: str | int, *, option: str) -> None:
    """Raise UnsupportedConfig for what is no device, or one that this machine has not."""
    try:
        known = torch.device(device)
        if known.type not in ("meta", "cpu"):
            torch.empty(0, device=known)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UnsupportedConfig(
            f"{option} is no device of this machine: {reason}; expected one such as cpu or cuda:0, or one of "
            f"{', '.join(SPREADING)}"
        ) from error
