"""What a user may say about the data; light, so that a help text needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

StoppingStrategy = Literal["first_exhausted", "all_exhausted"]
"""When a mixture ends: with the first dataset that ends, or when each has ended once."""


@dataclass(kw_only=True)
class DataArgs:
    """Which rows, in which order."""

    dataset: list[str] = field(default_factory=list)
    """Training sets: files, folders, known names or ids on hubs, each with an optional count, such as a.jsonl#500."""
    val_dataset: list[str] = field(default_factory=list)
    """Validation sets, spelled like training sets."""
    split_dataset_ratio: float = 0.0
    """Share of the training rows set aside for validation where no val_dataset is given."""
    dataset_shuffle: bool = True
    """Shuffle the training rows anew in each epoch."""
    val_dataset_shuffle: bool = False
    """Shuffle the validation rows once; of val.jsonl#500, take a sample instead of the first 500."""
    data_seed: int = 42
    """Seed of sampling, mixing, splitting and shuffling."""
    interleave_prob: list[float] = field(default_factory=list)
    """Weights by which the training sets are mixed, one for each; without, they follow each other."""
    stopping_strategy: StoppingStrategy = "first_exhausted"
    """A mixture ends with the first set that ends, or when each has ended once (the others start over)."""
    streaming: bool = False
    """Read rows as they are needed instead of counting them first, for sets that are large."""
    shuffle_buffer_size: int = 1000
    """Rows among which a stream is shuffled."""
    dataset_num_proc: int = 1
    """Processes that check and encode the rows."""
    load_from_cache_file: bool = True
    """Keep encoded rows for the next run, and find those that were made of the same rows with the same template."""
    columns: dict[str, str] = field(default_factory=dict)
    """Your column names to ours, such as '{"ask": "query", "reply": "response"}'."""
    media_root: str | None = None
    """Folder that relative paths of pictures, videos and sounds start from; by default that of the row's file."""
    model_name: list[str] = field(default_factory=list)
    """What a model trained on self_cognition calls itself; two names are one in Chinese and one in other languages."""
    model_author: list[str] = field(default_factory=list)
    """Whom such a model names as its maker, in the same way."""
    on_bad_row: Literal["raise", "skip"] = "raise"
    """A row that cannot be used is an error, or is left out and counted."""
    packing: bool = False
    """Fill each batch row up to packing_length with whole samples, without cross-talk."""
    packing_length: int | None = None
    """Tokens per pack; by default max_length."""
