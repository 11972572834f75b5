"""LongLoRA's tuner: PEFT's LoRA, weights of the host that train in place, and an exchanged attention, as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..host_modules import host_modules
from ..module_map import map_modules
from ..swift import build_tuner
from ..tuner import Phase, Tuner
from ..weights import check_state
from ._host_training import HostWeights, Place, own_parameters
from .lora import LoraArgs

if TYPE_CHECKING:
    from ..models.attention import ShiftedAttention
    from .longlora import LongLoRAConfig

_LORA, _HOST = "lora.", "host."


class LongLoRATuner(Tuner["LongLoRAConfig"]):
    """Trains LoRA, embedding and norms, in training with shifted sparse attention."""

    phase = Phase.WRAP
    kind = "longlora"

    def __init__(self, config: LongLoRAConfig, *, name: str) -> None:
        super().__init__(config, name=name)
        options = LoraArgs(
            rank=config.rank, alpha=config.alpha, dropout=config.dropout, target_modules=config.target_modules
        )
        self._lora = build_tuner(options.build_config(), name=name)
        self._model: nn.Module | None = None
        self._weights: HostWeights | None = None
        self._attention: ShiftedAttention | None = None

    @property
    def weights(self) -> HostWeights:
        """The host's weights that train."""
        assert self._weights is not None, "the tuner is not attached"
        return self._weights

    @property
    def attention(self) -> ShiftedAttention:
        """The exchanged attention."""
        assert self._attention is not None, "the tuner is not attached"
        return self._attention

    def attach(self, model: nn.Module) -> None:
        """Attach LoRA and exchange the attention.

        Raises:
            UnsupportedConfig: the model's attention cannot be exchanged, or its embedding cannot train.
            TargetNotFound: a target names no module.
        """
        if not 0 < self.config.group_size_ratio <= 1:
            raise UnsupportedConfig(f"group_size_ratio={self.config.group_size_ratio!r}; expected more than 0, up to 1")
        found, modules = map_modules(model), dict(host_modules(model))
        attention = [modules[name] for name in found.attention]
        if not any("config" in vars(module) for module in attention):
            raise UnsupportedConfig(
                f"longlora tuner {self.name!r} finds no attention of transformers in {type(model).__name__}; it needs "
                "a decoder such as Llama or Qwen; use lora"
            )
        # transformers is imported only now: the model is one of its.
        from ..models.attention import ShiftedAttention

        exchanged = ShiftedAttention(model, attention, ratio=self.config.group_size_ratio)
        wanted = {found.embedding} if self.config.train_embedding else set()
        wanted |= set(found.norms) if self.config.train_norms else set()
        places = {name: place for name, place in own_parameters(model).items() if name.rpartition(".")[0] in wanted}
        _check_trainable(places, self.name)
        # Offloaded weights are refused here, before anything is changed.
        weights = HostWeights(places, owner=self.name, restorable=self.config.restorable)
        self._lora.attach(model)
        self._model, self.active, self._attention, self._weights = model, True, exchanged, weights
        exchanged.switch(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return LoRA's parameters, and the host's that train."""
        assert self._model is not None, "the tuner is not attached"
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        return self._lora.parameters() | {
            names[id(place.parameter)]: place.parameter for place in self.weights.places.values()
        }

    def host_parameters(self) -> list[nn.Parameter]:
        """Return embedding and norms."""
        return [*self._lora.host_parameters(), *(place.parameter for place in self.weights.places.values())]

    def state(self) -> dict[str, Tensor]:
        """Return LoRA's tensors under 'lora.', and the host's that train under 'host.'."""
        return {
            **{_LORA + name: tensor for name, tensor in self._lora.state().items()},
            **{_HOST + name: tensor for name, tensor in self.weights.values().items()},
        }

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns into the tuner. Raises CheckpointMismatch; then nothing is copied."""
        made_for = f"it was made for another model or config than tuner {self.name!r}"
        check_state(state, self.state(), origin=origin, base=made_for)
        lora = {name.removeprefix(_LORA): tensor for name, tensor in state.items() if name.startswith(_LORA)}
        self._lora.load_state(lora, origin=origin)
        for name, tensor in self.weights.values().items():
            tensor.copy_(state[_HOST + name])

    def tensors(self) -> list[Tensor]:
        """Return what offloading moves: while the tuner is off, not what is in the host."""
        return [*self._lora.tensors(), *self.weights.values().values()]

    def activate(self, active: bool) -> None:
        """Switch LoRA, the trained values and the attention.

        Raises:
            UnsupportedConfig: without restorable, when it would be switched off.
        """
        self.weights.switch(active)
        self._lora.activate(active)
        self.attention.switch(active)
        self.active = active

    def detach(self) -> None:
        """Take all of it off. Raises UnsupportedConfig without restorable, once something changed."""
        self.weights.restore()
        self._lora.detach()
        self._leave()

    def check_merge(self) -> None:
        """Raise CannotMerge if LoRA cannot be folded in."""
        self._lora.check_merge()

    def merge(self) -> None:
        """Fold LoRA in, keep embedding and norms, and give the model its attention back."""
        self._lora.merge()
        self.weights.keep()
        self._leave()

    def _leave(self) -> None:
        self.attention.switch(False)
        self._model = self._weights = self._attention = None


def _check_trainable(places: Mapping[str, Place], tuner: str) -> None:
    for name, place in places.items():
        if not place.parameter.is_floating_point():
            raise UnsupportedConfig(
                f"longlora tuner {tuner!r} would train {name!r}, which is quantized; load the model with its embedding "
                "and norms unquantized, or set train_embedding and train_norms to false"
            )
