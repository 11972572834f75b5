"""Models that do not say which of their modules is the input embedding, though they have one."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import nn

from ...module_map import map_modules
from ..patch import Patch


class MissingEmbeddingGetter(Patch):
    """Give the model a `get_input_embeddings` that returns the embedding that looking finds."""

    symptom = "attaching a PEFT method ends in '`get_input_embeddings` not auto-handled for ...; please override'"
    link = "https://github.com/huggingface/transformers/pull/42558"
    remove_when = "PP-FormulaNet's get_input_embeddings returns its decoder's embedding"

    def concerns(self, model: nn.Module) -> bool:
        """Say whether asking the model raises, and looking finds an embedding."""
        ask = getattr(model, "get_input_embeddings", None)
        if ask is None:
            return False
        try:
            ask()
        except NotImplementedError:
            return map_modules(model).embedding is not None
        return False

    def apply(self, model: nn.Module) -> None:
        """Answer with the embedding, also when a tuner has put a wrapper around it by then."""
        name = map_modules(model).embedding
        assert name is not None
        cast("Any", model).get_input_embeddings = partial(model.get_submodule, name)
