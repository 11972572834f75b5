"""Muon for matrices inside of the network, AdamW for the rest: embedding, head, vectors, and stacked experts.

The momentum of a matrix is replaced by the nearest matrix whose singular values are all alike, by five steps of a
Newton-Schulz iteration. Steps are scaled so that their size is AdamW's, hence one learning rate serves both.

State: one momentum per number of a matrix, AdamW's two for the rest, in the parameters' own precision; torch iterates
in bfloat16.

Source: Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io/posts/muon; the scaling by
0.2 sqrt(max(rows, columns)) from Muon is Scalable for LLM Training, arXiv 2502.16982, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..errors import InvalidTrainArgs
from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs, read_options
from ..parameter_places import DividedGroup, Groups, divide_groups, locate_parameters


@dataclass(frozen=True, kw_only=True)
class MuonOptions:
    """What `--optim_args` may say."""

    momentum: float = 0.95
    """Decay of the momentum."""
    nesterov: bool = True
    """Look one step ahead."""
    ns_steps: int = 5
    """Steps of the iteration."""
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """How steps are scaled: to AdamW's size, or by sqrt(max(1, rows / columns))."""


class MuonWithAdamW(torch.optim.Optimizer):
    """torch's Muon and torch's AdamW as one optimizer: both work on its groups and its state.

    Args:
        matrices: groups for Muon.
        rest: groups for AdamW.
        options: of Muon.
        args: of AdamW.
    """

    def __init__(
        self, matrices: list[DividedGroup], rest: list[DividedGroup], options: MuonOptions, args: OptimizerArgs
    ) -> None:
        self._inner: list[torch.optim.Optimizer] = []
        if matrices:
            self._inner.append(
                torch.optim.Muon(
                    matrices,
                    momentum=options.momentum,
                    nesterov=options.nesterov,
                    ns_steps=options.ns_steps,
                    adjust_lr_fn=options.adjust_lr,
                )
            )
        if rest:
            betas = (args.adam_beta1, args.adam_beta2)
            self._inner.append(torch.optim.AdamW(rest, betas=betas, eps=args.adam_epsilon, fused=True))
        super().__init__([group for inner in self._inner for group in inner.param_groups], {})
        self._share()

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401  # as torch's own
        """Make both steps."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for inner in self._inner:
            inner.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        start = 0
        for inner in self._inner:
            inner.param_groups = self.param_groups[start : start + len(inner.param_groups)]
            inner.state = self.state
            start += len(inner.param_groups)


class Muon(OptimizerKind):
    """Muon with AdamW, both torch's."""

    options = MuonOptions

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer. Raises InvalidTrainArgs where an option is not one of torch's."""
        options = read_options(MuonOptions, args.optim_args, optimizer="muon")
        matrices, rest = _divide(model, groups)
        try:
            return MuonWithAdamW(matrices, rest, options, args)
        except ValueError as error:
            raise InvalidTrainArgs(f"optimizer 'muon' cannot be used: {error}") from error

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return one moment per number of a matrix, two of the rest, and AdamW's step counts."""
        matrices, rest = _divide(model, groups)
        moments = sum(each.numel() * each.element_size() for group in matrices for each in group["params"])
        return moments + sum(2 * each.numel() * each.element_size() + 4 for group in rest for each in group["params"])


def _divide(model: nn.Module, groups: Groups) -> tuple[list[DividedGroup], list[DividedGroup]]:
    places = locate_parameters(model)
    divided = divide_groups(groups, lambda parameter: {"is_matrix": places.is_hidden_matrix(parameter)})
    matrices = [group for group in divided if group["is_matrix"]]
    return matrices, [group for group in divided if not group["is_matrix"]]
