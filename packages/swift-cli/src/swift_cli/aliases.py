"""Other spellings that users know, in one table.

An alias stands for an option's short spelling, on the command line and in YAML, wherever a command has that option.
The fields of a group chosen by name need no entry: the field `rank` of `--tuner lora` is `--lora_rank` as well.
"""

from __future__ import annotations

from collections.abc import Mapping

ALIASES: Mapping[str, str] = {
    "lr": "learning_rate",
    "model_id_or_path": "model",
    "optimizer": "optim",
    "train_type": "tuner",
    "tuner_type": "tuner",
}
"""Another spelling of an option, and the option's own."""

VALUE_ALIASES: Mapping[str, Mapping[str, str]] = {
    "infer_backend": {"pt": "torch", "transformers": "torch"},
}
"""For an option's field name: other spellings of its values, and their own."""
