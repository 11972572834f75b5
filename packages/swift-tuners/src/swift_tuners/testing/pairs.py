"""`check_pair`: two tuners live on one model together, or are refused in either order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from torch import Tensor, nn

from ..errors import CannotMerge, UnsupportedConfig
from ..model import SwiftModel
from ..swift import Swift
from ..tuner import TunerConfig
from .laws import frozen, remember, require, same
from .models import Inputs, answer, disturb


def check_pair(
    make_one: Callable[[], TunerConfig],
    make_other: Callable[[], TunerConfig],
    make_model: Callable[[], nn.Module],
    inputs: Inputs,
    *,
    merge_tolerance: float = 1e-4,
) -> str | None:
    """Check that two tuners mix, in whatever order the user gives them.

    Both off is the host; detaching one is switching it off; saved and reloaded they answer alike; merged as unmerged;
    removed, the host is as before. A pair that cannot be is refused in both orders, and the host is as before.

    Args:
        make_one: returns a config.
        make_other: returns another one, of the same method or not.
        make_model: returns a model, equal at each call, which each of them fits.
        inputs: arguments of its forward.
        merge_tolerance: largest absolute difference between merged and unmerged output.

    Returns:
        The reason for which the pair is refused, or None where it mixes.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    reasons = []
    for order in (("one", "other"), ("other", "one")):
        configs = {"one": make_one(), "other": make_other()}
        host = frozen(make_model())
        unchanged = remember(host, inputs)
        try:
            model = Swift.prepare_model(host, {name: configs[name] for name in order})
        except UnsupportedConfig as error:
            unchanged()
            reasons.append(str(error))
            continue
        disturb(model)
        plain, on = answer(frozen(make_model()), inputs), answer(model, inputs)
        alone = {}
        for name in order:
            model.set_active_tuners(name)
            alone[name] = answer(model, inputs)
        model.deactivate()
        require(same(answer(model, inputs), plain), "with both off the host answers as without, bit for bit")
        model.activate(*order)
        require(same(answer(model, inputs), on), "with both on again they answer as before, bit for bit")
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = Swift.from_pretrained(frozen(make_model()), folder)
        distance = (answer(loaded, inputs) - on).abs().max().item()
        require(distance <= merge_tolerance, f"reloaded they answer as saved; these by {distance}")
        _check_merged(loaded, inputs, on, merge_tolerance)
        model.detach(order[0])
        require(same(answer(model, inputs), alone[order[1]]), f"without {order[0]!r} the other answers as alone")
        model.unload()
        unchanged()
    require(len(reasons) != 1, f"a pair is refused in one order only: {reasons}")
    return reasons[0] if reasons else None


def _check_merged(model: SwiftModel, inputs: Inputs, expected: Tensor, tolerance: float) -> None:
    try:
        merged = Swift.merge(model)
    except CannotMerge:
        return
    distance = (answer(merged, inputs) - expected).abs().max().item()
    require(distance <= tolerance, f"merged they answer as unmerged; these by {distance}")
