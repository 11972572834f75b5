"""Norms that keep running statistics, such as BatchNorm: they change in training though nobody trains them.

With its own parameters frozen such a norm stays in evaluation while the model around it trains: what changed it would
be left behind when the tuners go. Where a tuner trains its parameters, the statistics are that tuner's too.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""The buffers, as torch's norms call them."""


def keeps_statistics(module: nn.Module) -> bool:
    """Say whether this is a norm whose forward in training changes its running statistics."""
    # torch's BatchNorm and InstanceNorm of all dimensions, and what derives from them; a frozen copy has no such flag.
    return getattr(module, "track_running_stats", False) is True and module._buffers.get("running_mean") is not None


def is_trained(norm: nn.Module) -> bool:
    """Say whether all of a norm's own parameters train; one without parameters does not."""
    own = [each for each in norm._parameters.values() if each is not None]
    return bool(own) and all(each.requires_grad for each in own)


class RestingNorms:
    """The norms of a model that were taken out of training, since their own parameters are frozen."""

    def __init__(self) -> None:
        self._resting: list[nn.Module] = []

    def update(self, host: nn.Module) -> None:
        """Take out the norms that are frozen now, and bring back those that train again."""
        frozen = {id(each): each for each in _norms(host) if not is_trained(each)}
        for norm in self._resting:
            if id(norm) not in frozen:
                norm.training = host.training
        known = {id(each) for each in self._resting}
        # A norm that was in evaluation before is nobody's to bring back.
        self._resting = [each for key, each in frozen.items() if key in known or each.training]
        for norm in self._resting:
            norm.training = False

    def release(self, host: nn.Module) -> None:
        """Bring all of them back."""
        for norm in self._resting:
            norm.training = host.training
        self._resting = []


def _norms(host: nn.Module) -> Iterator[nn.Module]:
    return (module for module in host.modules() if keeps_statistics(module))
