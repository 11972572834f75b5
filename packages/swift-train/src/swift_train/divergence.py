"""A loss that is no longer a finite number: which samples it comes from, and whether the run stops or skips the step.

A step is dropped as a whole, on all processes, or not at all; nothing is put in the place of what is not finite.

N tokens with a weight, S sequences of a forward pass, T tokens of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from swift_templates.encoded import Encoded
from torch import Tensor

from .errors import TrainingDiverged

OnNan: TypeAlias = Literal["stop", "skip"]
_SHOWN: Final = 3


def sum_by_sequence(logps_N: Tensor, weights_N: Tensor, sequences_N: Tensor) -> Tensor:
    """Return the loss of each sequence of a forward pass: sums of -weight * logp, in nats.

    Args:
        logps_N: log-probabilities in nats.
        weights_N: weights of the tokens.
        sequences_N: int64, which sequence each token belongs to.

    Returns:
        float64 (S,), with zeros for sequences that have no token with a weight.
    """
    # A token that stands for none, in a pass without weights, may be of no sequence.
    numbers_N = sequences_N.long().clamp_min(0)
    num_sequences = int(numbers_N.max()) + 1 if len(numbers_N) else 0
    losses_S = torch.zeros(num_sequences, dtype=torch.float64, device=logps_N.device)
    return losses_S.index_add_(0, numbers_N, -(weights_N.double() * logps_N.detach().double()))


def find_sample(
    input_ids_T: npt.NDArray[np.int64], samples: Sequence[Encoded], candidates: Iterable[int]
) -> int | None:
    """Return which of some samples has these tokens, by its number; None if none has."""
    return next((each for each in candidates if np.array_equal(samples[each].input_ids, input_ids_T)), None)


class LossGuard:
    """Collects what is not finite in one step's forward passes, and decides at its end.

    Args:
        on_nan: 'stop' ends the run; 'skip' drops the step's update, says so, and counts it.
        say: tells the user.

    Attributes:
        num_skipped: how many steps were dropped.
        is_dropping: whether the step that was decided about last is one of them.
    """

    def __init__(self, on_nan: OnNan, *, say: Callable[[str], None]) -> None:
        self.on_nan = on_nan
        self.num_skipped = 0
        self.is_dropping = False
        self._say = say
        self._found: list[str] = []

    def look_into(self, losses_S: Tensor, name_sample: Callable[[int], str]) -> None:
        """Take note of a forward pass whose loss is not finite.

        Args:
            losses_S: of its sequences, as `sum_by_sequence` returns them.
            name_sample: says where a sequence comes from, by its number: file and line.
        """
        bad = (~losses_S.isfinite()).nonzero()[:, 0].tolist()
        if not bad:
            self._found.append("the sum over a forward pass, though each sample's loss is finite")
        elif len(bad) == len(losses_S) > 1:
            self._found.append(
                f"all {len(bad)} samples of a forward pass, so it is the weights rather than a sample; the first is "
                f"{name_sample(bad[0])} ({float(losses_S[bad[0]])})"
            )
        else:
            named = [f"{name_sample(index)} ({float(losses_S[index])})" for index in bad[:_SHOWN]]
            self._found.append(", ".join(named) + (f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""))

    @property
    def has_found(self) -> bool:
        """Whether a forward pass of this step was not finite, on this process."""
        return bool(self._found)

    def drops_step(self, step: int, *, on_any_process: Callable[[bool], bool] = bool) -> bool:
        """Say whether a step's update is to be dropped; called by all processes after its last forward pass.

        Args:
            step: its number, counted from 1.
            on_any_process: says whether a fact holds on any process; all of them ask at once.

        Raises:
            TrainingDiverged: it is, and the run is to stop; nothing is trained on it.
        """
        found, self._found = self._found, []
        self.is_dropping = on_any_process(bool(found))
        if not self.is_dropping:
            return False
        where = "; ".join(found) or "samples of another process, which names them"
        if self.on_nan == "stop":
            raise TrainingDiverged(
                f"the loss of step {step} is not a finite number: {where}; nothing was trained on it; look at the "
                "sample, try a lower --learning_rate or --torch_dtype float32, or leave such steps out with "
                "--on_nan skip"
            )
        self.num_skipped += 1
        self._say(f"Step {step} is skipped, {self.num_skipped} so far: the loss is not a finite number: {where}.")
        return True
