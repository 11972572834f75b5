"""LibriSpeech: a thousand hours of English books, read aloud, with transcripts in capitals."""

from __future__ import annotations

from ..dataset_card import DatasetCard

LIBRISPEECH = DatasetCard(
    name="librispeech",
    description="Books read aloud, with transcripts.",
    kind="audio",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="openslr/librispeech_asr",
    ms_id="openslr/librispeech_asr",
    hub_subset="clean",
    hub_subsets=("clean", "other"),
    split="train.100",
    columns={"text": "response"},
    constants={"query": "Transcribe the speech."},
    examples=(
        {
            "file": "1-1-0001.flac",
            "audio": {"bytes": None, "path": "1-1-0001.flac"},
            "text": "THE LAMP IS LIT AT DUSK",
            "speaker_id": 1,
            "chapter_id": 1,
            "id": "1-1-0001",
        },
        {
            "file": "1-1-0002.flac",
            "audio": {"bytes": None, "path": "1-1-0002.flac"},
            "text": "BOATS COME BACK",
            "speaker_id": 1,
            "chapter_id": 1,
            "id": "1-1-0002",
        },
    ),
)
