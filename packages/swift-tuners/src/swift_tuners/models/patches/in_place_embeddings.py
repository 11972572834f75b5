"""Models that change the embedding's output in place, which cannot be the first tensor of a graph."""

from __future__ import annotations

from types import MethodType
from typing import Any, cast

from torch import Tensor, nn

from ..patch import Patch, model_types


class InPlaceEmbeddings(Patch):
    """Hand on a copy of the embedding's output where gradients are to begin there."""

    symptom = (
        "gradient checkpointing with frozen embeddings ends in 'a leaf Variable that requires grad is being used in an "
        "in-place operation'"
    )
    link = "https://github.com/huggingface/transformers/pull/35898"
    remove_when = "the models named here add and scale embeddings out of place, as that pull request did for Deberta"

    MODEL_TYPES = frozenset({"blip", "blt", "ctrl", "git", "kosmos-2", "udop"})

    def concerns(self, model: nn.Module) -> bool:
        """Say whether this is one of those models."""
        return bool(self.MODEL_TYPES & model_types(model)) and hasattr(model, "enable_input_require_grads")

    def apply(self, model: nn.Module) -> None:
        """Let `enable_input_require_grads`, which checkpointing calls, add a copy after its hooks."""
        cast("Any", model).enable_input_require_grads = MethodType(_require_gradients, model)


def _require_gradients(model: Any) -> None:  # noqa: ANN401  # bound to a model of transformers
    before = {module: len(module._forward_hooks) for module in model.modules()}
    type(model).enable_input_require_grads(model)
    for module, count in before.items():
        if len(module._forward_hooks) > count:
            # In the list of the others, so that `disable_input_require_grads` takes it off with them.
            model._require_grads_hooks.append(module.register_forward_hook(_copy_leaf))


def _copy_leaf(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.clone() if output.is_leaf and output.requires_grad else output
