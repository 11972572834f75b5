"""LoRA that does not start from zero: PiSSA, OLoRA, CorDA, LoftQ and EVA.

Most of these take a part of rank r out of the base weight W and put it into the adapter: W = W_res + s B0 A0. While the
tuner is on, the host holds W_res; off, its own W again, bit for bit. Saved, such an adapter is a LoRA of rank 2r on the
unchanged W, since W_res + s B A = W + s [B, -B0] [A; A0]: any program that knows LoRA loads it.

Sources: PiSSA, arXiv 2404.02948; OLoRA, arXiv 2406.01775; CorDA, arXiv 2406.05223; LoftQ, arXiv 2310.08659;
EVA, arXiv 2410.07170.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig
from torch import Tensor, nn

from .errors import InvalidCheckpoint, UnsupportedConfig
from .host_weights import find_shared
from .offloaded_weights import is_offloaded
from .peft_activations import Batch, corda_factors, eva_directions
from .peft_checkpoint import KEY_PREFIX, write_peft_config
from .peft_layers import PeftLayer, named_layers
from .peft_loftq import loftq_factors
from .peft_saved_start import START_FILE, double_rank
from .peft_saved_start import SavedStart as SavedStart
from .peft_started_weight import StartedWeight
from .peft_tuner import PEFT_WEIGHTS_FILE, PeftTuner
from .quantizer import quantizer_of
from .targets import unwrap
from .tuner import AnyTuner
from .weights import check_state, write_safetensors

_PISSA = re.compile(r"pissa(_niter_[0-9]+)?")
_CALIBRATED = ("eva", "corda")
# Methods of PEFT that add to the output of a layer whatever is in it, or have layers of their own.
_ADDING = ("lora", "adalora", "vera", "fourierft", "loha", "lokr", "ln_tuning", "trainable_tokens")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def start_of(config: PeftConfig) -> str | None:
    """Return the name of a LoRA config's start if it is one of this module's."""
    start = getattr(config, "init_lora_weights", True)
    if not isinstance(config, LoraConfig) or not isinstance(start, str):
        return None
    known = _PISSA.fullmatch(start) or start.lower() in ("olora", "loftq", *_CALIBRATED)
    return start.lower() if known else None


class StartedLoraTuner(PeftTuner):
    """A LoRA whose start is computed from the base weights, or from what the model does on some data.

    Args:
        config: PEFT's config, whose `init_lora_weights` names the start.
        name: the adapter's name.
        from_checkpoint: the config was saved with an adapter.
        saved: what was saved beside it by this class; then it trains on in its rank-r form, or answers as a plain LoRA
            of rank 2r.

    Attributes:
        calibration: batches of arguments for the host, which EVA and CorDA need; `Swift.prepare_model` sets it.
    """

    def __init__(
        self, config: PeftConfig, *, name: str, from_checkpoint: bool = False, saved: SavedStart | None = None
    ) -> None:
        super().__init__(config, name=name, from_checkpoint=from_checkpoint)
        self.calibration: Sequence[Batch] | None = None
        self._saved = saved
        self._start = start_of(config)
        if from_checkpoint and self._start == "eva":
            # EVA leaves the base weights alone: what was trained is a LoRA like any other.
            self._start = None
        self._asked = copy.deepcopy(self.lora_config)
        # PEFT injects a plain LoRA; the start is made here, where the host's own weights are kept.
        own = self.lora_config
        own.init_lora_weights, own.loftq_config, own.eva_config, own.corda_config = True, {}, None, None
        self._weights: dict[str, StartedWeight] = {}
        self._resolved = False

    @property
    def lora_config(self) -> LoraConfig:
        """The config, as what it is."""
        return cast("LoraConfig", self.config)

    @property
    def needs_calibration(self) -> bool:
        """Whether the start is computed from activations."""
        return self._start in _CALIBRATED and not self.from_checkpoint

    def attach(self, model: nn.Module) -> None:
        """Inject the adapter and make its start; see `PeftTuner.attach`.

        Raises:
            UnsupportedConfig: also where the start does not fit the config or a layer, or its calibration is missing.
            InvalidCheckpoint: only PEFT's calibration data could tell the start of this checkpoint.
        """
        if self._saved is not None and self.trainable:
            self._take_saved_form(self._saved)
        self._check_start()
        calibration, self.calibration = self.calibration, None
        if self._start == "eva":
            self._attach_eva(model, calibration or [])
            return
        super().attach(model)
        if self._start is None:
            return
        try:
            layers = self._check_layers()
            if self._start == "corda":
                factors = corda_factors(model, self._asked, layers, calibration or [], self.name)
            for path, layer in layers.items():
                weight = StartedWeight(layer, self.name)
                self._weights[path] = weight
                if self._saved is not None:
                    # The start comes with the checkpoint's weights.
                    continue
                if self._start == "corda":
                    weight.start_from(*factors[path])
                elif self._start == "loftq":
                    weight.replace(*loftq_factors(layer, self._asked, self.name))
                else:
                    weight.start_by_peft(self._start)
        except BaseException:
            self.detach()
            raise

    def activate(self, active: bool) -> None:
        """Switch the adapter on or off, and the part of the base weights that went into it with it."""
        if active == self.active:
            return
        super().activate(active)
        for weight in self._weights.values():
            weight.swapped.swap()

    def detach(self) -> None:
        """Take the adapter off; the base weights are the host's own again."""
        super().detach()
        self._weights = {}

    def merge(self) -> None:
        """Fold the adapter into the host's weights; see `PeftTuner.merge`."""
        self.check_merge()
        self.activate(True)
        weights, self._weights = self._weights, {}
        try:
            super().merge()
        except BaseException:
            self._weights = weights
            raise

    def conflict_with(self, other: AnyTuner) -> str | None:
        """Return why the other one cannot be here: saved, this one is a sum with the whole weight."""
        start = self._saved.start if self._saved is not None and self.trainable else self._start
        if start in (None, "eva", "loftq") or not isinstance(other, PeftTuner):
            return None
        if other.kind in _ADDING and not getattr(other.config, "use_dora", False):
            return None
        return (
            f"init_lora_weights={start!r} takes a part out of the base weights, and the other method does not just add "
            "to what they give, so that together they could not be saved for the unchanged base"
        )

    def host_parameters(self) -> list[nn.Parameter]:
        """Return the base weights that a part was taken out of."""
        return [*super().host_parameters(), *(weight.swapped.parameter for weight in self._weights.values())]

    def tensors(self) -> list[Tensor]:
        """Return the adapter's parameters, the start's, and of the base weights the values that are off."""
        weights = self._weights.values()
        return [*super().tensors(), *(each for weight in weights for each in (*weight.initial, weight.swapped.stored))]

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds: where a part was taken out of a weight, A and B with rank 2r."""
        state = super().state()
        if self._start == "loftq":
            return state
        for path, weight in self._weights.items():
            (a_keys, b_keys), (initial_a, initial_b) = _keys(state, path), weight.initial
            state |= dict.fromkeys(a_keys, torch.cat([state[a_keys[0]], initial_a]))
            state |= dict.fromkeys(b_keys, torch.cat([state[b_keys[0]], -initial_b], dim=1))
        return state

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns, or PEFT's own of rank r. Raises CheckpointMismatch."""
        rank_r = super().state()
        if any(key in state and state[key].shape == tensor.shape for key, tensor in rank_r.items() if "lora_A" in key):
            super().load_state(state, origin=origin)
            return
        base = f"it was made for another model, config or start than tuner {self.name!r}"
        check_state(state, self.state(), origin=origin, base=base)
        given = dict(state)
        if self._start != "loftq":
            for path, weight in self._weights.items():
                a_keys, b_keys = _keys(rank_r, path)
                rank = len(rank_r[a_keys[0]])
                (own_a, initial_a), (own_b, initial_b) = (
                    state[a_keys[0]].split(rank),
                    state[b_keys[0]].split(rank, dim=1),
                )
                given |= dict.fromkeys(a_keys, own_a) | dict.fromkeys(b_keys, own_b)
                weight.take_out(initial_a, -initial_b, active=self.active)
        super().load_state(given, origin=origin)

    def save(self, folder: Path) -> None:
        """Write a PEFT checkpoint for the unchanged base, and beside it what training on needs."""
        if not self._weights:
            super().save(folder)
            (folder / START_FILE).unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors({KEY_PREFIX + key: each for key, each in self.state().items()}, folder / PEFT_WEIGHTS_FILE)
        own = self.lora_config
        if self._start == "loftq":
            write_peft_config(self._asked_as_saved(), self.model, folder)
            return
        write_peft_config(double_rank(own), self.model, folder)
        SavedStart.of(own, str(self._start)).write(folder)

    def _resolve_targets(self, model: nn.Module) -> None:
        # Once EVA has spread the ranks, a name of the user's may have none left.
        if not self._resolved:
            super()._resolve_targets(model)

    def _asked_as_saved(self) -> LoraConfig:
        """Return the config with its start, which PEFT computes anew from the base weights."""
        config = copy.deepcopy(self.lora_config)
        config.init_lora_weights = self._asked.init_lora_weights
        config.loftq_config = self._asked.loftq_config
        return config

    def _take_saved_form(self, saved: SavedStart) -> None:
        saved.apply(self.lora_config)
        self._start = saved.start

    def _check_start(self) -> None:
        """Raise if the start cannot be made with the rest of the config, or lacks its data."""
        config, start = self._asked, self._start
        if start is None:
            return
        if start == "corda" and self.from_checkpoint and self._saved is None:
            raise InvalidCheckpoint(
                f"adapter {self.name!r} was saved in PEFT's own form for CorDA, which only its calibration data can "
                "restore; save it in PEFT with path_initial_model_for_weight_conversion, as a plain LoRA"
            )
        if self.needs_calibration and not self.calibration:
            raise UnsupportedConfig(
                f"init_lora_weights={start!r} of tuner {self.name!r} starts from what the model does on some data; "
                "give it as Swift.prepare_model(model, config, calibration=[...]), each item the arguments of one "
                "forward, such as {'input_ids': ...}"
            )
        if config.use_dora and start != "eva":
            raise UnsupportedConfig(
                f"use_dora with init_lora_weights={start!r}: DoRA measures the magnitude of the whole weight, and this "
                "start takes a part of it away; leave one of them out"
            )
        if config.target_parameters:
            raise UnsupportedConfig(
                f"target_parameters with init_lora_weights={start!r}: this start is made for linear layers only; leave "
                "one of them out"
            )
        if config.use_rslora and (config.rank_pattern or config.alpha_pattern) and start not in ("eva", "loftq"):
            raise UnsupportedConfig(
                f"use_rslora and rank_pattern or alpha_pattern with init_lora_weights={start!r}: PEFT has no form in "
                "which this could be saved for the unchanged base; leave one of them out"
            )

    def _check_layers(self) -> dict[str, PeftLayer]:
        """Return the layers that start, by their names; raise UnsupportedConfig where one cannot."""
        shared = find_shared(self.model)
        layers: dict[str, PeftLayer] = {}
        for path, layer in named_layers(self.model, self.name):
            if "lora_A" not in layer.adapter_layer_names:
                continue
            base = unwrap(cast("nn.Module", layer))
            weight, quantizer, reason = getattr(base, "weight", None), quantizer_of(base), ""
            if quantizer is not None:
                reason = f"its weight is quantized with {quantizer.name}; load the base unquantized"
            elif not (isinstance(base, nn.Linear) or type(base).__name__ == "Conv1D"):
                reason = f"it is a {type(base).__name__} and no linear layer"
            elif isinstance(weight, nn.Parameter) and weight.dtype not in _FLOATS:
                reason = f"its weight is quantized, of type {weight.dtype}; load the base unquantized"
            elif not isinstance(weight, nn.Parameter):
                reason = (
                    "its weight is computed from others (a parametrization, such as weight norm); remove that first"
                )
            elif is_offloaded(base):
                reason = "device_map has offloaded its weight; give it a device, or use another start"
            elif id(weight) in shared:
                reason = "its weight is tied to another layer's, which would change too"
            elif cast("Any", layer).r[self.name] > min(weight.shape):
                reason = f"rank {cast('Any', layer).r[self.name]} is more than its smaller side, {min(weight.shape)}"
            if reason:
                raise UnsupportedConfig(f"init_lora_weights={self._start!r} cannot start in {path!r}: {reason}")
            layers[path] = layer
        return layers

    def _attach_eva(self, model: nn.Module, calibration: Sequence[Batch]) -> None:
        """Attach with the ranks and directions that the data gives; the output is unchanged, as B = 0."""
        # PEFT resolves the targets by injecting; the ranks must be known before the adapter stays.
        super().attach(model)
        names = [path for path, layer in named_layers(model, self.name) if "lora_A" in layer.adapter_layer_names]
        super().detach()
        found = eva_directions(model, self._asked, names, calibration)
        config = self.lora_config
        config.target_modules = [name for name in names if name not in found or len(found[name])]
        self._spread_ranks({name: len(rows) for name, rows in found.items() if len(rows)})
        self._resolved = True
        super().attach(model)
        layers = dict(named_layers(model, self.name))
        for name, directions in found.items():
            if len(directions):
                cast("Any", layers[name]).lora_A[self.name].weight.data.copy_(directions)

    def _spread_ranks(self, ranks: dict[str, int]) -> None:
        config, eva = self.lora_config, self._asked.eva_config
        rank_pattern, alpha_pattern = dict(config.rank_pattern or {}), dict(config.alpha_pattern or {})
        # Longer names first: PEFT takes the first entry that is the end of a layer's name.
        for name in sorted(ranks, key=len, reverse=True):
            before = _matching(config.rank_pattern, name, config.r)
            alpha = _matching(config.alpha_pattern, name, config.lora_alpha)
            rank_pattern[name] = ranks[name]
            if eva is None or eva.adjust_scaling_factors:
                alpha_pattern[name] = alpha * ranks[name] / before
        own_first = {name: rank_pattern.pop(name) for name in sorted(ranks, key=len, reverse=True)}
        config.rank_pattern = own_first | rank_pattern
        alphas_first = {name: alpha_pattern.pop(name) for name in own_first if name in alpha_pattern}
        config.alpha_pattern = alphas_first | alpha_pattern


def _matching(pattern: Mapping[str, Any] | None, name: str, default: float) -> float:
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", name):
            return float(value)
    return default


def _keys(state: Mapping[str, Tensor], path: str) -> tuple[list[str], list[str]]:
    """Return the keys of A and those of B of a layer, several where it lies in a block of several names.

    Other tuners' layers around it are in its path and not in the keys.
    """
    plain = ".".join(part for part in path.split(".") if part not in ("base_layer", "original_module"))
    first = [state[f"{plain}.{matrix}.weight"] for matrix in ("lora_A", "lora_B")]
    a_keys, b_keys = ([key for key, each in state.items() if each.data_ptr() == own.data_ptr()] for own in first)
    return a_keys, b_keys
