"""AdaLoRA: a low-rank update B E A with singular values E, whose least important ones are cut step by step.

The tuner always holds all the ranks, cut ones as zeros, and PEFT's allocator decides which those are. A checkpoint
holds what is left, in PEFT's format; what only training needs lies in a file of its own.

Source: AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, arXiv 2303.10512, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from peft import AdaLoraConfig, PeftConfig
from peft.tuners.adalora import RankAllocator
from torch import Tensor, nn

from .errors import CheckpointMismatch, UnsupportedConfig
from .late_writing import write_weights
from .peft_checkpoint import KEY_PREFIX, write_peft_config
from .peft_layers import plain_key
from .peft_tuner import PEFT_WEIGHTS_FILE, PeftTuner

if TYPE_CHECKING:
    from torch.optim import Optimizer

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
_WHOLE = "whole."
Pattern = dict[str, list[bool]]


class AdaLoraTuner(PeftTuner):
    """A LoRA with a schedule of ranks, driven by `on_step`.

    Args:
        config: PEFT's config.
        name: the adapter's name.
        from_checkpoint: the config was saved with an adapter.
    """

    def __init__(self, config: PeftConfig, *, name: str, from_checkpoint: bool = False) -> None:
        super().__init__(config, name=name, from_checkpoint=from_checkpoint)
        own = self.ada_config
        # PEFT takes one AdaLoRA that trains, and any number that answer; what trains is up to the model around.
        own.inference_mode = True
        if own.target_r > own.init_r or (own.target_r == own.init_r and not from_checkpoint):
            raise UnsupportedConfig(
                f"AdaLoRA of tuner {name!r} goes from init_r={own.init_r} to target_r={own.target_r}; "
                "expected a smaller target_r: ranks are only ever cut"
            )
        # The model has the pattern of PEFT's keys, without adapter name; PEFT must not cut the layers by it.
        self.rank_pattern: Pattern | None = own.rank_pattern
        own.rank_pattern = None
        self._allocator: RankAllocator | None = None

    @property
    def ada_config(self) -> AdaLoraConfig:
        """The config, as what it is."""
        return cast("AdaLoraConfig", self.config)

    def attach(self, model: nn.Module) -> None:
        """Inject the adapter with all its ranks; see `PeftTuner.attach`."""
        super().attach(model)
        self._allocator = RankAllocator(self._view(), self.ada_config, self.name)

    def detach(self) -> None:
        """Take the adapter off."""
        super().detach()
        self._allocator = None

    def plan_steps(self, num_steps: int) -> None:
        """Spread the schedule over this many optimizer steps, the number that the run will make.

        Raises:
            UnsupportedConfig: tinit and tfinal leave no step between them.
        """
        config = self.ada_config
        if config.tinit >= num_steps - config.tfinal:
            raise UnsupportedConfig(
                f"AdaLoRA with tinit={config.tinit} and tfinal={config.tfinal} has no step left to cut ranks in a run "
                f"of {num_steps}; decrease them"
            )
        config.total_step = num_steps

    def on_step(self, step: int, optimizer: Optimizer | None = None) -> None:
        """Weigh the ranks by their gradients, and cut the least important ones as the schedule says.

        Raises:
            UnsupportedConfig: the gradients are gone already.
        """
        if not (self.active and self.trainable):
            return
        config, allocator, view = self.ada_config, self._allocator, self._view()
        assert allocator is not None, "the tuner is not attached"
        last = cast("int", config.total_step) - config.tfinal
        if step > last:
            if self.rank_pattern is not None:
                self._mask(self.rank_pattern)
            return
        if step < last or not allocator.ipt:
            self._check_gradients(step)
        if step == last and not allocator.ipt:
            # PEFT weighs the ranks before the last cut; a run that begins here has not.
            allocator.update_ipt(view)
        _, pattern = allocator.update_and_allocate(view, step, force_mask=step == last)
        if pattern:
            self.rank_pattern = {name.replace(f".{self.name}", ""): kept for name, kept in pattern.items()}
        if step == last:
            allocator.reset_ipt()

    def auxiliary_loss(self) -> Tensor | None:
        """Return orth_reg_weight times the mean of |A A^T - I| and |B^T B - I| over all A and B."""
        losses = []
        for name, parameter in self.parameters().items():
            if "lora_A" in name or "lora_B" in name:
                product = parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
                identity = torch.eye(*product.shape, dtype=product.dtype, device=product.device)
                losses.append(torch.linalg.norm(product - identity))
        if not losses or not self.ada_config.orth_reg_weight:
            return None
        return self.ada_config.orth_reg_weight * (sum(losses[1:], start=losses[0]) / len(losses))

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors under PEFT's keys, without the ranks that are cut."""
        state, pattern = super().state(), self._kept()
        for name, kept in (pattern or {}).items():
            for key, dim in _keys(name):
                if len(kept) == state[key].shape[dim]:
                    index = torch.tensor(kept, device=state[key].device).nonzero()[:, 0]
                    state[key] = state[key].index_select(dim, index)
        return state

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns into the adapter, cut ranks as zeros; see `PeftTuner.load_state`."""
        given, whole = dict(state), super().state()
        for name, kept in (self.rank_pattern or {}).items():
            for key, dim in _keys(name):
                if key not in given or key not in whole or given[key].shape == whole[key].shape:
                    continue
                if given[key].dim() != 2 or given[key].shape[dim] != sum(kept) or len(kept) != whole[key].shape[dim]:
                    raise CheckpointMismatch(
                        f"{origin} holds {key} with shape {tuple(given[key].shape)}, but its rank_pattern keeps "
                        f"{sum(kept)} of {len(kept)} ranks; its config and weights do not belong together"
                    )
                index = torch.tensor(kept).nonzero()[:, 0]
                shape = (*given[key].shape[:dim], len(kept), *given[key].shape[dim + 1 :])
                given[key] = given[key].new_zeros(shape).index_copy(dim, index.to(given[key].device), given[key])
        super().load_state(given, origin=origin)

    def save(self, folder: Path) -> None:
        """Write a PEFT checkpoint with the ranks that are left, and beside it what training on needs."""
        folder.mkdir(parents=True, exist_ok=True)
        write_weights({KEY_PREFIX + key: each for key, each in self.state().items()}, folder / PEFT_WEIGHTS_FILE)
        written = copy.deepcopy(self.ada_config)
        written.rank_pattern = self._kept()
        write_peft_config(written, self.model, folder)
        self.save_training_state(folder)

    def load(self, folder: Path) -> None:
        """Read a PEFT checkpoint, ours or PEFT's own, into the attached adapter."""
        super().load(folder)
        self.read_training_state(folder)

    def training_state(self) -> dict[str, Tensor]:
        """Return the importances, and the adapter with the ranks that are cut at present: they may come back."""
        if self._allocator is None or not self.trainable or (self.rank_pattern is None and not self._allocator.ipt):
            return {}
        state = {_WHOLE + key: tensor for key, tensor in super().state().items()}
        for average in _AVERAGES:
            state |= {f"{average}.{key}": tensor for key, tensor in getattr(self._allocator, average).items()}
        masks = {f"kept.{name}": torch.tensor(kept) for name, kept in (self.rank_pattern or {}).items()}
        return _without_name(state, self.name) | masks

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `training_state` returned in an earlier run. Raises CheckpointMismatch."""
        assert self._allocator is not None, "the tuner is not attached"
        super().load_state(
            {key.removeprefix(_WHOLE): each for key, each in state.items() if key.startswith(_WHOLE)},
            origin="the training state",
        )
        kept = {key.removeprefix("kept."): each.tolist() for key, each in state.items() if key.startswith("kept.")}
        self.rank_pattern = kept or None
        own = dict(self._own_parameters())
        for average in _AVERAGES:
            found = {name: state.get(f"{average}.{_without(name, self.name)}") for name in own}
            values = {name: each.to(own[name].device) for name, each in found.items() if each is not None}
            setattr(self._allocator, average, values)

    def _kept(self) -> Pattern | None:
        """Return which ranks have an effect: not cut, or grown again since the last cut."""
        if self.rank_pattern is None:
            return None
        whole = super().state()
        return {
            name: [bool(each) for each in (torch.tensor(kept) | (whole[name][:, 0].cpu() != 0))]
            for name, kept in self.rank_pattern.items()
        }

    def _mask(self, pattern: Pattern) -> None:
        for name, parameter in self._own_parameters():
            if f"lora_E.{self.name}" in name:
                kept = torch.tensor(pattern[_without(name, self.name)], device=parameter.device)
                parameter.data.masked_fill_(~kept[:, None], 0.0)

    def _check_gradients(self, step: int) -> None:
        parameters = [parameter for _, parameter in self._own_parameters()]
        if all(parameter.grad is None for parameter in parameters):
            raise UnsupportedConfig(
                f"AdaLoRA of tuner {self.name!r} weighs ranks by their gradients, and there are none at step {step}; "
                "call on_step after optimizer.step() and before zero_grad()"
            )
        for parameter in parameters:
            # A layer that this step did not use, such as an expert without tokens, has no importance in it.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _own_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.parameters().items():
            if any(f".{each}.{self.name}" in name for each in ("lora_A", "lora_B", "lora_E")):
                yield plain_key(self.model, name, self.name), parameter

    def _view(self) -> nn.Module:
        """Return what PEFT's allocator takes for the model: it would go by parts of names, which others may share."""
        return cast("nn.Module", _OwnParameters(self._own_parameters()))


class _OwnParameters:
    def __init__(self, parameters: Iterator[tuple[str, nn.Parameter]]) -> None:
        self._parameters = list(parameters)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self._parameters


def _keys(pattern_name: str) -> list[tuple[str, int]]:
    """Return the keys of A, E and B of an entry of a rank pattern, each with the dimension of its ranks."""
    layer = pattern_name.removesuffix(".lora_E")
    return [(f"{layer}.lora_A", 0), (f"{layer}.lora_E", 0), (f"{layer}.lora_B", 1)]


def _without(name: str, adapter: str) -> str:
    return name.removesuffix(f".{adapter}")


def _without_name(state: Mapping[str, Tensor], adapter: str) -> dict[str, Tensor]:
    return {_without(key, adapter): tensor for key, tensor in state.items()}
