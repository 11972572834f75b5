"""Models whose input embedding is a list of embeddings, one for each stream of tokens."""

from __future__ import annotations

from types import MethodType
from typing import Any, cast

from torch import Tensor, nn

from ..patch import Patch


class ListedEmbeddings(Patch):
    """Let gradients begin at each embedding of the list; a hook on the list itself is never called."""

    symptom = (
        "with reentrant gradient checkpointing the adapters inside of the blocks get no gradient, without an error"
    )
    link = "https://github.com/huggingface/transformers/pull/21598"
    remove_when = "transformers' enable_input_require_grads looks into lists of embeddings (MusicGen has one)"

    def concerns(self, model: nn.Module) -> bool:
        """Say whether the model's input embedding is a list."""
        return hasattr(model, "enable_input_require_grads") and isinstance(_input_embedding(model), nn.ModuleList)

    def apply(self, model: nn.Module) -> None:
        """Let `enable_input_require_grads` add hooks to the items."""
        cast("Any", model).enable_input_require_grads = MethodType(_require_gradients, model)


def _require_gradients(model: Any) -> None:  # noqa: ANN401  # bound to a model of transformers
    type(model).enable_input_require_grads(model)
    for embedding in model.get_input_embeddings():
        model._require_grads_hooks.append(embedding.register_forward_hook(_begin_here))


def _begin_here(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    # Not in place: the items' outputs are added up, and an embedding that trains has a graph already.
    return output if output.requires_grad else output.detach().requires_grad_()


def _input_embedding(model: nn.Module) -> object:
    try:
        return cast("Any", model).get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
