"""Which class of transformers loads a model: by what it is for, and by what its config says it is."""

from __future__ import annotations

from typing import TypeAlias

from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from ..args import ModelArgs
from ..errors import UnsupportedConfig

AutoClass: TypeAlias = type[AutoModelForCausalLM | AutoModelForImageTextToText | AutoModelForSequenceClassification]


def choose_class(args: ModelArgs, config: PreTrainedConfig) -> AutoClass:
    """Return the class that loads this model for this task.

    Raises:
        UnsupportedConfig: transformers has no sequence classifier of this architecture.
    """
    if args.task_type == "seq_cls":
        _check_classifier(config)
        return AutoModelForSequenceClassification
    return AutoModelForImageTextToText if _reads_pictures(config) else AutoModelForCausalLM


def set_labels(args: ModelArgs, config: PreTrainedConfig) -> None:
    """Write what the user said about classes into a config.

    Raises:
        UnsupportedConfig: there would be no class, or the model is no classifier.
    """
    options = {"num_labels": args.num_labels, "problem_type": args.problem_type}
    given = [name for name, value in options.items() if value is not None]
    if args.task_type != "seq_cls":
        if given:
            raise UnsupportedConfig(f"{given[0]}={options[given[0]]!r} is about classes; it needs task_type='seq_cls'")
        return
    if args.num_labels is not None:
        if args.num_labels < 1:
            raise UnsupportedConfig(f"num_labels={args.num_labels} leaves the classifier no output; expected 1 or more")
        # Unequal numbers would also drop the names that the labels have.
        if args.num_labels != config.num_labels:
            config.num_labels = args.num_labels
    if args.problem_type is not None:
        config.problem_type = args.problem_type


def _reads_pictures(config: PreTrainedConfig) -> bool:
    kind = config.model_type
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        # Code that comes with a model says which class is its own.
        own = getattr(config, "auto_map", None) or {}
        return "AutoModelForImageTextToText" in own and "AutoModelForCausalLM" not in own
    # Some types have a class for text alone as well; the weights are those of the class that the config names.
    named = set(config.architectures or ())
    text = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    return text not in named or MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[kind] in named


def _check_classifier(config: PreTrainedConfig) -> None:
    own = getattr(config, "auto_map", None) or {}
    if config.model_type in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return
    if "AutoModelForSequenceClassification" not in own:
        raise UnsupportedConfig(
            f"transformers has no sequence classifier of model type {config.model_type!r}; "
            "expected another model, or task_type='causal_lm'"
        )
