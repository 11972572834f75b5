"""What a method promises, declared beside its options: `swift_tuners.testing` holds it to that, the README shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Laws:
    """Which of the laws a method keeps, and on what.

    What is not here holds for every method: off is the host bit for bit, only its own parameters train, reloaded is
    saved, removed is removed, copies are copies.
    """

    starts_unchanged: bool = True
    """An untrained tuner changes nothing."""
    start_tolerance: float = 0.0
    """Largest difference that it makes at the start; rounding of weights that are taken apart makes some."""
    acts_outside_training: bool = True
    """It changes what the model answers; some methods act in training only."""
    has_parameters: bool = True
    """It trains something of its own."""
    several: bool = True
    """Two such tuners may be on one model."""
    mergeable: bool = True
    """It can be folded into the host's weights."""
    merge_tolerance: float = 1e-5
    """Largest difference between merged and unmerged output in float32; rounding makes some."""
    models: tuple[str, ...] = ("mlp", "conv", "decoder", "vlm")
    """Which toy models of `swift_tuners.testing` it fits; others it refuses by UnsupportedConfig or TargetNotFound."""
    example: Mapping[str, object] = field(default_factory=dict)
    """Options with which it is tried, where its defaults are for larger models."""
