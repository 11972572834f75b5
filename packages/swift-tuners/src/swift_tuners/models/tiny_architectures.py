"""Every text and image-text architecture of transformers, tiny and with random weights: what tests run methods over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from .tiny_config import tiny_config

Task = Literal["causal-lm", "image-text"]
CLASSES: dict[Task, Mapping[str, str]] = {
    "causal-lm": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "image-text": MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}


def list_architectures(task: Task) -> list[str]:
    """Return the model types that transformers has for a task, sorted."""
    return sorted(CLASSES[task])


def build_tiny(model_type: str, task: Task = "causal-lm", *, seed: int = 0) -> PreTrainedModel:
    """Return a tiny model of this type in evaluation mode; the same at each call.

    Raises:
        KeyError: transformers has no such type.
    """
    # Not by AutoModel: it takes some classes for others than their own config's.
    kind: type[PreTrainedModel] = getattr(transformers, CLASSES[task][model_type])
    config = tiny_config(model_type)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # The causal model may be one part of what the config describes.
        text, wanted = config.get_text_config(decoder=True), kind.config_class
        part = wanted is not None and isinstance(text, wanted) and not isinstance(config, wanted)
        return kind(text if part else config).eval()
