"""One training sample as arrays: the border between words and weights.

`labels[t]` is the token AT t, not the one after it: whoever computes a loss does the shift.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""The label of a token that is not trained."""


@dataclass
class Encoded:
    """Token ids, which of them are trained, and how much each weighs.

    `labels[t] == input_ids[t]` exactly where `loss_scale[t] > 0`, and -100 elsewhere. T is the number of tokens.
    """

    input_ids: npt.NDArray[np.int64]
    """(T,)"""
    labels: npt.NDArray[np.int64]
    """(T,)"""
    loss_scale: npt.NDArray[np.float32]
    """(T,)"""
    media: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays that go with the tokens, such as pixel values."""
    unbroken: tuple[tuple[int, int], ...] = ()
    """Stretches of tokens (start, end), ascending, that a cut must not go through: media, calls with their results."""
    media_places: tuple[tuple[int, int], ...] | None = None
    """Which of those are media; None where that is not known, so that each may be one."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.input_ids)

    @property
    def num_trained(self) -> int:
        """The number of tokens that are trained."""
        return int(np.count_nonzero(self.labels != IGNORED))
