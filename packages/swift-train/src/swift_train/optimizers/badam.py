"""BAdam: Adam on one block of the model at a time; another block every K steps.

Blocks are the language model's layers, and what is in none of them. Only the active block has gradients, moments, and,
where parameters have fewer bits, float32 copies; all of it is dropped when the block changes. Blocks come in a random
order, each once before any comes again; which is active follows from seed and step alone, so that processes agree.

State: 8 bytes per number of the active block, 12 where parameters have fewer than 32 bits. With several processes the
others' gradients are made and ignored, since DDP must know beforehand what trains.

Source: BAdam: A Memory Efficient Full Parameter Optimization Method for Large Language Models, arXiv 2404.02827,
algorithm 1. Deviation: embedding, head and final norm are a block too; the authors' code leaves them out by default.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidTrainArgs
from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs, read_options
from ..parameter_optimizer import ParameterOptimizer, State, adam_direction, apply_direction, count_processes
from ..parameter_places import DividedGroup, Groups, divide_groups, locate_parameters

ORDERS = ("random", "ascending", "descending")


@dataclass(frozen=True, kw_only=True)
class BadamOptions:
    """What `--optim_args` may say."""

    switch_interval: int = 50
    """Steps between two blocks (K)."""
    switch_mode: str = "random"
    """The order of blocks: random, ascending or descending."""
    seed: int = 42
    """Of the random order."""


class BadamRule(ParameterOptimizer):
    """The method's rule; 'block' of a group is its block's number, 'num_steps' what it has seen.

    Args:
        groups: each of one block.
        options: of the method.
        args: of Adam.
    """

    def __init__(self, groups: list[DividedGroup], options: BadamOptions, args: OptimizerArgs) -> None:
        self._options = options
        betas = [args.adam_beta1, args.adam_beta2]
        super().__init__(groups, defaults={"betas": betas, "eps": args.adam_epsilon, "num_steps": 0})
        self._active = self.active_block
        self._rest()

    @property
    def active_block(self) -> int:
        """The number of the block that the next step trains."""
        blocks = sorted({group["block"] for group in self.param_groups})
        turn, place = divmod(self.param_groups[0]["num_steps"] // self._options.switch_interval, len(blocks))
        if self._options.switch_mode == "descending":
            blocks.reverse()
        elif self._options.switch_mode == "random":
            # A string seeds alike in every process and version of Python.
            random.Random(f"{self._options.seed}:{turn}").shuffle(blocks)
        return blocks[place]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # as torch's
        """Update the active block, and change it when it is time."""
        active = self._active = self.active_block
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["block"] != active:
                    parameter.grad = None
        loss = super().step(closure)
        for group in self.param_groups:
            group["num_steps"] += 1
        if self.active_block != active:
            for parameter in list(self.state):
                del self.state[parameter]
            self._rest()
        return loss

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step as Adam, on a float32 copy where the parameter has fewer bits."""
        if group["block"] != self._active:
            # A closure makes gradients of all blocks.
            return
        direction = adam_direction(gradient, state, betas=group["betas"], epsilon=group["eps"])
        if parameter.dtype == torch.float32:
            apply_direction(parameter, direction, group=group)
            return
        if "copy" not in state:
            state["copy"] = parameter.detach().float()
        apply_direction(state["copy"], direction, group=group)
        parameter.copy_(state["copy"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, and with it the active block."""
        super().load_state_dict(state_dict)
        self._rest()

    def _rest(self) -> None:
        """Let only the active block have gradients, so that none are made for the others."""
        if count_processes() > 1:
            return
        active = self.active_block
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(group["block"] == active)


class Badam(OptimizerKind):
    """BAdam, here."""

    options = BadamOptions

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer; from now on only the active block requires gradients."""
        options = read_options(BadamOptions, args.optim_args, optimizer="badam")
        if options.switch_interval < 1 or options.switch_mode not in ORDERS:
            raise InvalidTrainArgs(
                f"optim_args of 'badam' are {args.optim_args!r}; expected switch_interval of 1 or more and switch_mode "
                f"{', '.join(ORDERS)}"
            )
        return BadamRule(_divide(model, groups), options, args)

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return what the largest block takes."""
        sizes: dict[int, int] = {}
        for group in _divide(model, groups):
            sizes.setdefault(group["block"], 0)
            for each in group["params"]:
                sizes[group["block"]] += each.numel() * (8 if each.dtype == torch.float32 else 12)
        return max(sizes.values())


def _divide(model: nn.Module, groups: Groups) -> list[DividedGroup]:
    places = locate_parameters(model)
    rest = len(places.map.layers)

    def describe(parameter: nn.Parameter) -> dict[str, object]:
        layer = places.layer_of(parameter)
        return {"block": rest if layer is None else layer}

    divided = divide_groups(groups, describe)
    if len({group["block"] for group in divided}) < 2:
        raise InvalidTrainArgs(
            f"{type(model).__name__} has one block that trains; badam takes turns between a model's layers: use "
            "--optim adamw, or train more than one layer"
        )
    return divided
