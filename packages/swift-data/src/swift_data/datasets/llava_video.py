"""LLaVA-Video-178K: dialogues about videos; their first question has '<image>' where the video belongs."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_list, to_object


def _mark_video(raw: Mapping[str, object]) -> dict[str, object]:
    turns = to_list(get(raw, "conversations", field="the row"), field="conversations", of="turns")
    marked = []
    for index, turn in enumerate(turns):
        item = to_object(turn, field=f"conversations[{index}]")
        value = item.get("value")
        marked.append({**item, "value": value.replace("<image>", "<video>") if isinstance(value, str) else value})
    return {"conversations": marked, "video": raw.get("video")}


LLAVA_VIDEO = DatasetCard(
    name="llava_video",
    description="Dialogues about videos.",
    kind="video",
    language=("en",),
    licence="Apache-2.0",
    hf_id="lmms-lab/LLaVA-Video-178K",
    ms_id="lmms-lab/LLaVA-Video-178K",
    hub_subset="0_30_s_academic_v0_1",
    split="open_ended",
    prepare=_mark_video,
    examples=(
        {
            "id": "1",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat happens?"},
                {"from": "gpt", "value": "A boat comes home."},
            ],
            "data_source": "made-up",
            "video": "boats/1.mp4",
        },
        {
            "id": "2",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is lit?"},
                {"from": "gpt", "value": "The lamp of a lighthouse."},
            ],
            "data_source": "made-up",
            "video": "lamps/2.mp4",
        },
    ),
)
