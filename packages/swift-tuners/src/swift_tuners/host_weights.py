"""What tuners do to the host's own weights: train some and put the originals back, or untie shared ones to merge."""

from __future__ import annotations

from collections import Counter

from torch import nn


class SwappedParameter:
    """A parameter of the host that trains with a tuner, and its original values, for while the tuner is off."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._other = parameter.detach().clone()

    def swap(self) -> None:
        """Exchange tuned and original values; the parameter stays the same object."""
        present = self.parameter.data
        self.parameter.data = self._other.to(present.device, present.dtype)
        self._other = present


def find_shared(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that more than one module holds, such as the weight of a tied head."""
    counts = Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))
    return {each for each, count in counts.items() if count > 1}


def untie(module: nn.Module, shared: set[int]) -> None:
    """Give a module a weight of its own where it shares one, so that a change of it does not reach the other module."""
    weight = getattr(module, "weight", None)
    if isinstance(weight, nn.Parameter) and id(weight) in shared:
        module.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)


def record_untied(model: nn.Module) -> None:
    """Let a transformers config say that embedding and head differ, if they do; else saving would drop one of them."""
    config = getattr(model, "config", None)
    if config is None or not getattr(config, "tie_word_embeddings", False):
        return
    weights = [
        getattr(getattr(model, ask, lambda: None)(), "weight", None)
        for ask in ("get_input_embeddings", "get_output_embeddings")
    ]
    if all(weight is not None for weight in weights) and weights[0] is not weights[1]:
        config.tie_word_embeddings = False
