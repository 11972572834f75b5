"""The frame of the optimizers that are made here: one parameter after the other, in the backward pass if asked.

State is float32 whatever the parameter's type, and is kept so by loading. It consists of tensors, numbers and lists, so
that it can be saved without pickle.
"""

from __future__ import annotations

import copy
import math
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .errors import InvalidTrainArgs

State = dict[str, Any]
"""What an optimizer keeps of one parameter: tensors, numbers, and lists of numbers."""


class KeepsPrecision(torch.optim.Optimizer):
    """An optimizer whose state keeps its types; torch would cast what it loads to the parameters' types."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, copied."""
        super().load_state_dict(state_dict)
        numbers = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(numbers, parameters, strict=True):
            saved = state_dict["state"].get(number)
            if saved is not None:
                self.state[parameter] = {name: _copy_to(value, parameter.device) for name, value in saved.items()}


class ParameterOptimizer(KeepsPrecision):
    """An optimizer that is a rule for one parameter.

    Args:
        groups: of parameters, with 'lr' and 'weight_decay'.
        defaults: of groups.
        in_backward: update each parameter as soon as its gradient is there, and free the gradient. The learning rate is
            the one that stands in the groups then. Gradients cannot be clipped by the norm of all of them.

    Raises:
        InvalidTrainArgs: in_backward with several processes, whose gradients are averaged only afterwards.

    Attributes:
        in_backward: as given.
        gathers: while true, gradients of a backward pass are left to gather: of a step's several passes, only the last
            updates. They take memory in between.
    """

    takes_sharded: ClassVar[bool] = False
    """Whether the rule works on the parts of a parameter that FSDP2 has split up."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, defaults: dict[str, Any], in_backward: bool = False
    ) -> None:
        self.in_backward = in_backward
        self.gathers = False
        self._group_of: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._updated: set[int] = set()
        if in_backward and count_processes() > 1:
            raise InvalidTrainArgs(
                f"updates in the backward pass are asked for with {count_processes()} processes; expected one "
                "process, or no such updates: leave --galore_optim_per_parameter or _layerwise out"
            )
        super().__init__(groups, defaults)

    @abstractmethod
    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Change a parameter by its gradient, which is float32 and stays as it is.

        Args:
            parameter: of any floating type.
            gradient: of the parameter's shape.
            state: what the rule keeps, empty at first.
            group: the parameter's, with the present learning rate.
        """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in more parameters."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            self._group_of[id(parameter)] = len(self.param_groups) - 1
            self._numbers[id(parameter)] = len(self._numbers)
            if self.in_backward and parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_make_hook(self))

    def number_of(self, parameter: nn.Parameter) -> int:
        """Return a parameter's place in the order of all, by which rules draw random numbers apart."""
        return self._numbers[id(parameter)]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # as torch's
        """Update what has a gradient: in the backward mode, nothing is left to do."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, group)
        self._updated.clear()
        return loss

    def update_in_backward(self, parameter: nn.Parameter) -> None:
        """Update a parameter whose gradient has just been made, and free the gradient, unless gradients gather.

        Raises:
            InvalidTrainArgs: it was updated in this step already.
        """
        if self.gathers:
            return
        if id(parameter) in self._updated:
            raise InvalidTrainArgs(
                "a weight that is updated in the backward pass got a second gradient in one step; expected one "
                "backward pass per step: set --gradient_accumulation_steps 1, or leave --galore_optim_per_parameter out"
            )
        self._updated.add(id(parameter))
        with torch.no_grad():
            self._update(parameter, self.param_groups[self._group_of[id(parameter)]])
        parameter.grad = None

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise InvalidTrainArgs(
                f"{type(self).__name__} got a sparse gradient of a parameter of shape {tuple(parameter.shape)}; "
                "expected a dense one: build the embedding with sparse=False, or use --optim sgd"
            )
        if not self.takes_sharded and hasattr(parameter, "placements"):
            raise InvalidTrainArgs(
                f"{type(self).__name__} needs whole weights and FSDP2 has split them up; use --optim adamw, or DDP"
            )
        self.update(parameter, gradient.float(), self.state[parameter], group)


def count_processes() -> int:
    """Return how many processes train together."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_distributed else 1


def adam_direction(gradient: Tensor, state: State, *, betas: Sequence[float], epsilon: float) -> Tensor:
    """Take a gradient into Adam's moments and return the direction that they give, without the learning rate.

    m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; the direction is (m / c1) / (sqrt(v / c2) + epsilon)
    with c = 1 - beta^t.

    Args:
        gradient: float32, of any shape.
        state: gets 'step', 'exp_avg' and 'exp_avg_sq', the latter of the gradient's shape.
        betas: decays of the moments.
        epsilon: added to the root.

    Source: Adam: A Method for Stochastic Optimization, arXiv 1412.6980, algorithm 1.
    """
    if "exp_avg" not in state:
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    step = state["step"] = state.get("step", 0) + 1
    beta1, beta2 = betas
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root = state["exp_avg_sq"].sqrt().div_(math.sqrt(1 - beta2**step)).add_(epsilon)
    return state["exp_avg"].div(root).div_(1 - beta1**step)


def apply_direction(parameter: Tensor, direction: Tensor, *, group: dict[str, Any]) -> None:
    """Step against a direction, with decoupled decay: p = p (1 - lr decay) - lr direction, rounded once.

    Args:
        parameter: changed in place.
        direction: float32, of the parameter's shape.
        group: with 'lr' and 'weight_decay'.
    """
    rate, decay = group["lr"], group["weight_decay"]
    if parameter.dtype == torch.float32:
        parameter.mul_(1 - rate * decay).add_(direction, alpha=-rate)
    else:
        parameter.copy_(parameter.float().mul_(1 - rate * decay).add_(direction, alpha=-rate))


def _make_hook(optimizer: ParameterOptimizer) -> Callable[[nn.Parameter], None]:
    # A strong reference would keep the optimizer as long as the model.
    reference = weakref.ref(optimizer)

    def update(parameter: nn.Parameter) -> None:
        living = reference()
        if living is not None:
            living.update_in_backward(parameter)

    return update


def _copy_to(value: object, device: torch.device) -> object:
    return value.detach().to(device, copy=True) if isinstance(value, Tensor) else copy.deepcopy(value)
