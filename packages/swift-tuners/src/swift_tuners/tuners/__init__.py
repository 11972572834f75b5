"""One file per tuner, found by its name: `TUNERS` is what `--tuner NAME` selects from."""

from __future__ import annotations

from ..args import TunerArgs
from ..registry import Registry

TUNERS: Registry[TunerArgs] = Registry(kind="tuner", package=__name__, base=TunerArgs)
