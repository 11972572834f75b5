"""Qwen-Audio (the first)'s sounds: a token for each 40 ms.

    <audio>[[[AUDIO:modality]]] x 25</audio>

The model's own code takes one argument, `audio_info`, with `input_audios` (sounds, 80, 3000), half a minute each;
`input_audio_lengths` (sounds, 2), frames behind the encoder's convolutions and tokens; and `audio_span_tokens`
(sounds,), the tokens with those around them. Here they are arguments of their own, to be put into one.

Source: process_audio of tokenization_qwen.py and audio.py, QwenLM/Qwen-Audio. Deviations: a sound of more than half a
minute is refused, where that code cuts it without a word; the spectrum is computed in float64, and differs by rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InvalidMedia, TemplateMismatch
from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, whole
from ..mel import HOP, SAMPLE_RATE, log_mel
from ..processor import DecodedMedia, SeenMedia
from ..streams import MediaSampling

_MOST_SAMPLES = 30 * SAMPLE_RATE
_TOKEN = "[[[AUDIO:modality]]]"
# A frame for every second one of the spectrum, and a token for every second one of those.
_FEWEST_SAMPLES = 3 * HOP


class QwenAudio(FolderProcessor):
    """Shows sounds to Qwen-Audio."""

    placeholders: Mapping[MediaKind, str] = {"audio": "<audio></audio>"}
    sampling = MediaSampling(sample_rate=SAMPLE_RATE)

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        self._bands = whole(folder.part("audio"), "n_mels", 80)

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of Qwen-Audio."""
        return folder.model_type == "qwen" and "audio_start_id" in folder.part("audio")

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens and spectra of sounds."""
        spectra, lengths = [], []
        for kind, sound in media:
            if kind != "audio" or not isinstance(sound, np.ndarray):
                raise TemplateMismatch(f"the conversation has media of kind {kind!r}; the model takes: audio")
            if not _FEWEST_SAMPLES <= len(sound) <= _MOST_SAMPLES:
                raise InvalidMedia(
                    f"audio: {len(sound) / SAMPLE_RATE:g} seconds; the model hears "
                    f"{_FEWEST_SAMPLES / SAMPLE_RATE:g} to {_MOST_SAMPLES / SAMPLE_RATE:g}: give it in pieces"
                )
            spectra.append(log_mel(np.pad(sound, (0, _MOST_SAMPLES - len(sound))), num_bands=self._bands))
            frames = (len(sound) // HOP - 1) // 2 + 1
            lengths.append((frames, (frames - 2) // 2 + 1))
        return SeenMedia(
            texts=tuple(f"<audio>{_TOKEN * count}</audio>" for _, count in lengths),
            arrays={
                "input_audios": np.stack(spectra),
                "input_audio_lengths": np.array(lengths, dtype=np.int64),
                "audio_span_tokens": np.array([count + 2 for _, count in lengths], dtype=np.int64),
            },
        )
