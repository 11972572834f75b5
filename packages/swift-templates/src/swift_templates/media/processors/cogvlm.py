"""CogVLM chat and CogVLM2's one picture: as a square, before all text.

    <s><unk> x 1227Question: ...

The filling token of the tokenizer stands for patches, two more than there are. CogVLM2 joins four patches to one token
and has 2306 of another token. The model's own code takes `images` (1, 1, 3, S, S) and `token_type_ids` (1, T), 1 for
the picture, out of which it makes the places.

Source: build_conversation_input_ids of modeling_cogvlm.py, zai-org/cogvlm-chat-hf and cogvlm2-llama3-chat-19B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InvalidModelFolder
from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, pictures_in, whole
from ..pixels import CLIP_MEAN, CLIP_STD, normalize, resize, to_pillow
from ..processor import DecodedMedia, SeenMedia
from ..token_arrays import Numbers

# CogVLM2 stands on Llama 3, and its configuration says nothing else of what is new.
_LLAMA3_VOCABULARY = 128_256
_LLAMA3_FILLER = "<|reserved_special_token_0|>"


class CogVlm(FolderProcessor):
    """Shows a picture to CogVLM."""

    placeholders: Mapping[MediaKind, str] = {"image": "<image>"}

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        vision = folder.part("vision_config")
        self._side = whole(vision, "image_size")
        is_second = whole(folder.config, "vocab_size") >= _LLAMA3_VOCABULARY
        patches = self._side // whole(vision, "patch_size") // (2 if is_second else 1)
        self._count = patches**2 + 2
        filler = _LLAMA3_FILLER if is_second else folder.named_tokens.get("pad_token")
        if filler is None:
            raise InvalidModelFolder("the tokenizer names no pad_token, which stands for pictures; name it")
        self._filler, self._token_id = filler, folder.token_id(filler)

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of CogVLM or CogVLM2; CogAgent and the video model have classes of their own."""
        vision = folder.part("vision_config")
        needed = "image_size" in vision and "patch_size" in vision and "vocab_size" in folder.config
        return folder.is_class("CogVLMForCausalLM") and needed

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens and pixels of the picture."""
        pictures = pictures_in(media, most=1)
        images = [normalize(resize(to_pillow(each), self._side, self._side), CLIP_MEAN, CLIP_STD) for each in pictures]
        return SeenMedia(
            texts=(self._filler * self._count,) * len(pictures),
            arrays={"images": np.stack(images)[None]},
            resized=((self._side, self._side),) * len(pictures),
            token_arrays={"token_type_ids": Numbers((self._token_id,), (1,) * self._count)},
        )
