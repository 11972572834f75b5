"""AISHELL-1: Mandarin, read aloud, with its transcript, whose words are written apart."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_text


def _join_words(raw: Mapping[str, object]) -> dict[str, object]:
    transcript = to_text(get(raw, "Text:LABEL", field="the row"), field="Text:LABEL")
    return {"audio": raw.get("Audio:FILE"), "response": transcript.replace(" ", "")}


AISHELL1_ZH = DatasetCard(
    name="aishell1_zh",
    description="Read Mandarin with transcripts.",
    kind="audio",
    language=("zh",),
    licence="Apache-2.0",
    ms_id="speech_asr/speech_asr_aishell1_trainsets",
    prepare=_join_words,
    constants={"query": "语音转文本"},
    examples=(
        {"Audio:FILE": "wav/1.wav", "Text:LABEL": "灯塔 今晚 亮 了"},
        {"Audio:FILE": "wav/2.wav", "Text:LABEL": "船 已经 回来"},
    ),
)
