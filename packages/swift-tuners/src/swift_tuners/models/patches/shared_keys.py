"""Models in which later layers use the keys and values of earlier ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MethodType
from typing import Any, cast

from torch import nn

from ..patch import Patch, model_types

logger = logging.getLogger(__name__)


class SharedKeys(Patch):
    """Checkpoint such models without reentrance.

    A reentrant checkpoint cuts the graph between layers but for the hidden states: what else goes from one to the other
    loses its gradient.
    """

    symptom = (
        "with reentrant gradient checkpointing the gradients are wrong, without an error (Gemma 3n and 4), or backward "
        "ends in 'Trying to backward through the graph a second time' (DiffusionGemma)"
    )
    link = "https://github.com/unslothai/unsloth-zoo/pull/813"
    remove_when = (
        "transformers no longer takes use_reentrant=True, or hands shared keys over as inputs of the checkpoint"
    )

    def concerns(self, model: nn.Module) -> bool:
        """Say whether layers share keys."""
        config: Any = getattr(model, "config", None)
        if not hasattr(model, "gradient_checkpointing_enable") or not hasattr(config, "get_text_config"):
            return False
        shared = getattr(config.get_text_config(decoder=True), "num_kv_shared_layers", 0)
        return bool(shared) or "diffusion_gemma" in model_types(model)

    def apply(self, model: nn.Module) -> None:
        """Let `gradient_checkpointing_enable` overrule `use_reentrant`."""
        cast("Any", model).gradient_checkpointing_enable = MethodType(_enable_checkpointing, model)


def _enable_checkpointing(
    model: Any,  # noqa: ANN401  # bound to a model of transformers
    gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
    **others: Any,  # noqa: ANN401  # options of transformers' own method
) -> None:
    wanted = dict(gradient_checkpointing_kwargs or {})
    if wanted.get("use_reentrant"):
        logger.warning(
            "use_reentrant=True is ignored: layers of %s share keys, which it would cut", type(model).__name__
        )
    wanted["use_reentrant"] = False
    type(model).gradient_checkpointing_enable(model, gradient_checkpointing_kwargs=wanted, **others)
