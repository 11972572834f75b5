"""LLaMA-Pro: new blocks between the model's own, which alone train, so that what it knows stays.

The blocks are split into groups; copies of the last ones of each group follow it. In a copy the weights that write into
the residual stream (o_proj, down_proj) are zero at the start: x + 0 + 0 = x, the model answers as before.

Source: LLaMA Pro: Progressive LLaMA with Block Expansion, arXiv 2401.02415, section 3.2. Deviations: which weights must
be zero is found by trying, so any block with a residual will do; groups need not be of one size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..errors import InvalidCheckpoint
from ..laws import Laws

if TYPE_CHECKING:
    from ..tuner import JSON, TunerConfig
    from ._llamapro import LLaMAProTuner

HOST_BLOCKS = "host_blocks"
"""In a checkpoint, beside the options: how many blocks the host had."""


@dataclass(kw_only=True)
class LLaMAProConfig(TunerArgs):
    """New blocks, the identity at the start, that alone train."""

    # torch chooses other kernels for convolutions whose weights need gradients.
    laws: ClassVar[Laws] = Laws(start_tolerance=1e-6, models=("conv", "decoder", "vlm"), example={"num_new_blocks": 2})

    num_new_blocks: int = 4
    """How many blocks are added; a multiple of the number of groups."""
    num_groups: int | None = None
    """Into how many groups the model's blocks are split; by default one for each new block."""

    def build_config(self) -> LLaMAProConfig:
        """Return the options, which are the config."""
        return self

    def build_tuner(self, name: str) -> LLaMAProTuner:
        """Return the tuner, not yet attached."""
        from ._llamapro import LLaMAProTuner

        return LLaMAProTuner(self, name=name)

    @classmethod
    def read_config(cls, saved: Mapping[str, JSON]) -> TunerConfig:
        """Return the config of a checkpoint, whose tuner only fits a host of as many blocks."""
        options = dict(saved)
        host_blocks = options.pop(HOST_BLOCKS, None)
        if isinstance(host_blocks, bool) or not isinstance(host_blocks, int | None):
            raise InvalidCheckpoint(f"{HOST_BLOCKS} of a llamapro tuner is {host_blocks!r:.80}; expected a number")
        super().read_config(options)
        return _SavedConfig(cls(**options), host_blocks)  # type: ignore[arg-type]  # checked just now


@dataclass(frozen=True)
class _SavedConfig:
    """The options of a checkpoint, and the number of blocks that its host had."""

    options: LLaMAProConfig
    host_blocks: int | None

    def build_tuner(self, name: str) -> LLaMAProTuner:
        """Return the tuner, not yet attached."""
        from ._llamapro import LLaMAProTuner

        return LLaMAProTuner(self.options, name=name, host_blocks=self.host_blocks)
