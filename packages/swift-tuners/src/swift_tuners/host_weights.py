"""What tuners do to the host's own weights: train some and put the originals back, or untie shared ones to merge.

Some of PEFT's layers also take parameters out of their modules to compute with others, and put new ones there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .errors import UnsupportedConfig
from .offloaded_weights import computing_device

if TYPE_CHECKING:
    from .tuner import AnyTuner


class SwappedParameter:
    """A parameter of the host that trains with a tuner, and its original values, for while the tuner is off."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._other = parameter.detach().clone()

    @property
    def stored(self) -> Tensor:
        """The values that are not in the model at present: the originals while the tuner is on, else the tuned ones."""
        return self._other

    def swap(self) -> None:
        """Exchange tuned and original values; the parameter stays the same object."""
        present = self.parameter.data
        self.parameter.data = self._other.to(present.device, present.dtype)
        self._other = present


class PlacedParameters:
    """Which parameters modules hold, and in which order, so that the same objects can be put there again."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._places = [(module, dict(module._parameters)) for module in modules]

    def keep(self, modules: Iterable[nn.Module]) -> None:
        """Forget all but these modules."""
        kept = {id(module) for module in modules}
        self._places = [(module, held) for module, held in self._places if id(module) in kept]

    def note(self, module: nn.Module) -> None:
        """Take over what a module holds now, if it is one of those."""
        self._places = [(each, dict(each._parameters) if each is module else held) for each, held in self._places]

    def restore(self) -> None:
        """Put the parameters back, with their present values."""
        for module, held in self._places:
            for name, parameter in held.items():
                present = module._parameters.get(name)
                if parameter is not None and present is not None and present is not parameter:
                    parameter.data = present.data
            module._parameters.clear()
            module._parameters.update(held)


def check_has_values(tuner: AnyTuner, host: nn.Module) -> None:
    """Raise UnsupportedConfig if a tuner's weights were put beside offloaded ones, on 'meta', where they hold nothing.

    A host that lies on 'meta' as a whole, to be filled later, is no such case.
    """
    lost = next((name for name, parameter in tuner.parameters().items() if parameter.is_meta), None)
    if lost is not None and computing_device(host.modules()) is not None:
        raise UnsupportedConfig(
            f"{tuner.kind} tuner {tuner.name!r} would have {lost!r} beside weights that device_map has offloaded, such "
            "as the embedding's; give these a device in device_map, or use another method, such as lora"
        )


def check_not_shared(tuner: AnyTuner, others: Iterable[AnyTuner], host: nn.Module) -> None:
    """Raise UnsupportedConfig if an attached tuner changes weights of the host which another one changes too."""
    own = {id(each) for each in (*tuner.host_parameters(), *tuner.parameters().values())}
    names = {id(parameter): name for name, parameter in host.named_parameters()}
    for other in others:
        theirs = (*other.host_parameters(), *other.parameters().values())
        shared = [names.get(id(each), "a weight") for each in theirs if id(each) in own]
        if shared:
            raise UnsupportedConfig(
                f"tuners {other.name!r} ({other.kind}) and {tuner.name!r} ({tuner.kind}) both change the host's "
                f"own weight {shared[0]!r}; only one of them can: choose other targets, or detach {other.name!r}"
            )


def find_shared(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that more than one module holds, such as the weight of a tied head."""
    counts = Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))
    return {each for each, count in counts.items() if count > 1}


def untie(module: nn.Module, shared: set[int], name: str = "weight") -> None:
    """Give a module a weight of its own where it shares one, so that a change of it does not reach the other module."""
    weight = getattr(module, name, None)
    if isinstance(weight, nn.Parameter) and id(weight) in shared:
        setattr(module, name, nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad))


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
