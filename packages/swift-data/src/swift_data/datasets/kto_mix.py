"""KTO mix: 14,000 answers with a mark, good or bad, made out of pairs; messages in two columns."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

KTO_MIX = DatasetCard(
    name="kto_mix",
    description="Answers marked as good or bad.",
    kind="kto",
    language=("en",),
    licence=UNKNOWN,
    hf_id="trl-lib/kto-mix-14k",
    examples=(
        {
            "prompt": [{"role": "user", "content": "How high is it?"}],
            "completion": [{"role": "assistant", "content": "41 metres."}],
            "label": True,
        },
        {
            "prompt": [{"role": "user", "content": "Capital of Norway?"}],
            "completion": [{"role": "assistant", "content": "Bergen."}],
            "label": False,
        },
    ),
)
