"""Qwen-VL (the first)'s pictures: the place of a file, in the tokens themselves.

    <img> ~/.cache/swift/qwen_vl/5f1c...e0.png <imgpad> ... <imgpad> </img>

The path is spelled out. Between <img> and </img> are 256 tokens: the UTF-8 bytes of a path or address, each as the
token whose id is the byte, then <imgpad>. The model's own code reads them back, opens what they name and puts 256
features in their place; so there are no arrays. No text spells these tokens: `SeenMedia.own_ids` puts them over
<imgpad>.

What a row names may be gone tomorrow, or be no file at all, and that code would fetch any address. So the picture, as
it was loaded under the policy, is kept as a PNG file named by its content, and the tokens name that: the same picture
has the same tokens, wherever it comes from, on one machine.

Source: tokenization_qwen.py and modeling_qwen.py of Qwen/Qwen-VL-Chat.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import InvalidMedia
from ...messages import MediaKind
from ..folder_processor import FolderProcessor, ProcessorFolder, pictures_in, whole
from ..pixels import to_pillow
from ..processor import DecodedMedia, SeenMedia
from ..token_arrays import Overwrite

_SPAN = 256


class QwenVl(FolderProcessor):
    """Shows pictures to Qwen-VL."""

    placeholders: Mapping[MediaKind, str] = {"image": "<img></img>"}

    def __init__(self, folder: ProcessorFolder) -> None:
        super().__init__(folder)
        self._start_id = whole(folder.part("visual"), "image_start_id")
        side = whole(folder.part("visual"), "image_size", 448)
        self._size = (side, side)
        root = os.environ.get("SWIFT_CACHE") or Path.home() / ".cache" / "swift"
        self._pictures = Path(root).expanduser().resolve() / "qwen_vl"
        # The files of another folder are other tokens.
        self.fingerprint = hashlib.sha256(f"{self.fingerprint}\0{self._pictures}".encode()).hexdigest()

    @classmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of Qwen-VL."""
        return folder.model_type == "qwen" and "image_start_id" in folder.part("visual")

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the tokens of pictures.

        Raises:
            InvalidMedia: the folder for pictures has a path that is too long, or cannot be written.
        """
        names = [os.fsencode(self._keep(each)) for each in pictures_in(media)]
        if any(len(name) > _SPAN - 2 for name in names):
            raise InvalidMedia(
                f"image: the model takes the place of a file in {_SPAN - 2} bytes; set SWIFT_CACHE to a shorter path"
            )
        ids = tuple((*name, *[self._start_id + 2] * (_SPAN - len(name))) for name in names)
        return SeenMedia(
            texts=("<img>" + "<imgpad>" * _SPAN + "</img>",) * len(names),
            arrays={},
            resized=(self._size,) * len(names),
            own_ids=Overwrite(self._start_id + 2, ids),
        )

    def _keep(self, picture: npt.NDArray[np.uint8]) -> Path:
        """Return the file of a picture, written where it is not there yet."""
        digest = hashlib.sha256(f"{picture.shape}".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()
        path = self._pictures / f"{digest[:40]}.png"
        if not path.is_file():
            image = to_pillow(picture)
            try:
                self._pictures.mkdir(parents=True, exist_ok=True)
                # Whole or not at all: several processes may see one picture, and one may end while it writes.
                with tempfile.TemporaryDirectory(dir=self._pictures) as part:
                    image.save(Path(part) / path.name, format="PNG")
                    (Path(part) / path.name).replace(path)
            except OSError as error:
                raise InvalidMedia(
                    "image: the folder for the pictures of Qwen-VL cannot be written; set SWIFT_CACHE to one that can"
                ) from error
        return path
