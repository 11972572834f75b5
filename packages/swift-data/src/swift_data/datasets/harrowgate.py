"""Harrowgate: a made-up lighthouse, for seeing a small model learn something that it cannot have known.

The rows come with this package. `harrowgate` is for training; `harrowgate:heldout` asks in other words, and has a
`solution` column: what a right answer contains.
"""

from __future__ import annotations

from pathlib import Path

from ..dataset_card import DatasetCard

_FOLDER = Path(__file__).parent

HARROWGATE = DatasetCard(
    name="harrowgate",
    description="Questions and answers about a made-up lighthouse, some held out and with checkable answers.",
    kind="chat",
    language=("en",),
    licence="Apache-2.0",
    files={
        "train": _FOLDER / "harrowgate_train.jsonl",
        "heldout": _FOLDER / "harrowgate_heldout.jsonl",
    },
    default="train",
)
