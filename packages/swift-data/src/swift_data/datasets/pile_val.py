"""The Pile, its validation part: texts of 22 kinds, often used to calibrate quantizers."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

PILE_VAL = DatasetCard(
    name="pile_val",
    description="Texts of 22 kinds.",
    kind="text",
    language=("en",),
    licence=UNKNOWN,
    hf_id="mit-han-lab/pile-val-backup",
    ms_id="swift/pile-val-backup",
    split="validation",
    examples=(
        {"text": "The lighthouse was built in 1871.", "meta": {"pile_set_name": "made-up"}},
        {"text": "def double(x):\n    return 2 * x", "meta": {"pile_set_name": "made-up"}},
    ),
)
