"""Reformer's reversible blocks, whose backward pass runs only if their input has a gradient."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from ..patch import Patch, model_types


class ReversibleBlocks(Patch):
    """Let gradients begin at the embedding, also when it is frozen."""

    symptom = "a frozen embedding below adapters ends in 'element 0 of tensors does not require grad'"
    link = "https://github.com/huggingface/transformers/pull/21598"
    remove_when = "Reformer's blocks run without an autograd function of their own"

    def concerns(self, model: nn.Module) -> bool:
        """Say whether this is a Reformer."""
        return "reformer" in model_types(model)

    def apply(self, model: nn.Module) -> None:
        """Switch on what gradient checkpointing switches on for other models."""
        cast("Any", model).enable_input_require_grads()
