"""xLAM: 60,000 questions with the calls that answer them, both in texts of JSON."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get


def _to_messages(raw: Mapping[str, object]) -> dict[str, object]:
    question = {"role": "user", "content": get(raw, "query", field="the row")}
    calls = {"role": "tool_call", "content": get(raw, "answers", field="the row")}
    return {"messages": [question, calls], "tools": get(raw, "tools", field="the row")}


XLAM = DatasetCard(
    name="xlam",
    description="Questions with the calls that answer them.",
    kind="agent",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="Salesforce/xlam-function-calling-60k",
    ms_id="LLM-Research/xlam-function-calling-60k",
    prepare=_to_messages,
    examples=(
        {
            "id": 0,
            "query": "Are the lamps at the top and in the hall on?",
            "answers": (
                '[{"name": "lamp", "arguments": {"room": "top"}}, {"name": "lamp", "arguments": {"room": "hall"}}]'
            ),
            "tools": '[{"name": "lamp", "description": "Is it on?", "parameters": {"room": {"type": "str"}}}]',
        },
        {
            "id": 1,
            "query": "Ring the bell.",
            "answers": '[{"name": "bell", "arguments": {}}]',
            "tools": '[{"name": "bell", "description": "Ring it", "parameters": {}}]',
        },
    ),
)
