"""What a user may say about the data; light, so that a help text needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class DataArgs:
    """Which rows, in which order."""

    dataset: list[str] = field(default_factory=list)
    """Training sets: files or known names, each with an optional count, such as a.jsonl#500."""
    val_dataset: list[str] = field(default_factory=list)
    """Validation sets, spelled like training sets."""
    split_dataset_ratio: float = 0.0
    """Share of the training rows set aside for validation where no val_dataset is given."""
    dataset_shuffle: bool = True
    """Shuffle the training rows anew in each epoch."""
    data_seed: int = 42
    """Seed of sampling, splitting and shuffling."""
    columns: dict[str, str] = field(default_factory=dict)
    """Your column names to ours, such as '{"ask": "query", "reply": "response"}'."""
    on_bad_row: Literal["raise", "skip"] = "raise"
    """A row that cannot be used is an error, or is left out and counted."""
    packing: bool = False
    """Fill each batch row up to packing_length with whole samples, without cross-talk."""
    packing_length: int | None = None
    """Tokens per pack; by default max_length."""
