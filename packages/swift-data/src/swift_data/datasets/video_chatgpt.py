"""VideoChatGPT: questions about videos; the column names the video without its ending."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_text


def _name_file(raw: Mapping[str, object]) -> dict[str, object]:
    name = to_text(get(raw, "video_name", field="the row"), field="video_name")
    return {"video": f"{name}.mp4", "query": raw.get("question"), "response": raw.get("answer")}


VIDEO_CHATGPT = DatasetCard(
    name="video_chatgpt",
    description="Questions about videos.",
    kind="video",
    language=("en",),
    licence="MIT",
    hf_id="lmms-lab/VideoChatGPT",
    ms_id="swift/VideoChatGPT",
    hub_subset="Generic",
    hub_subsets=("Generic", "Temporal"),
    split="test",
    prepare=_name_file,
    examples=(
        {"video_name": "v_boat", "question": "What happens?", "answer": "A boat comes home.", "question_1": None},
        {"video_name": "v_lamp", "question": "What is lit?", "answer": "The lamp of a lighthouse.", "question_1": None},
    ),
)
