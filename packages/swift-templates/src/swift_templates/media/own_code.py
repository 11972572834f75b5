"""Models whose pictures or sounds only code in their own folder can show: said so, instead of showing nothing.

Such code is not run here, since a model's folder is data. Its texts are encoded as those of any other model.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InvalidModelFolder

_SENSES = ("vision_config", "visual", "audio", "audio_config", "mm_vision_tower", "img_processor", "vision_tower")


def find_own_code(path: Path) -> str | None:
    """Return why a folder's processor cannot be had; None where it can, or where the model takes texts only.

    Raises:
        InvalidModelFolder: a file is not JSON.
    """
    config = _read(path / "config.json")
    own = "AutoModelForCausalLM" in _auto_map(config) or "AutoModel" in _auto_map(config)
    processors = [_read(path / name) for name in ("processor_config.json", "preprocessor_config.json")]
    of_processor = any(_auto_map(each).keys() & {"AutoProcessor", "AutoImageProcessor"} for each in processors)
    native = any(isinstance(each.get("processor_class"), str) and not _auto_map(each) for each in processors)
    if not of_processor and (native or not own or not any(config.get(name) for name in _SENSES)):
        return None
    return (
        f"what shows pictures, videos and sounds to a model of type {config.get('model_type')!r} is code in the "
        "model's folder, which is not run here; texts are encoded, and for media write a MediaProcessor "
        "(swift_templates.media.processor) and hand it to Template.from_folder"
    )


def _auto_map(config: dict[str, object]) -> dict[str, object]:
    value = config.get("auto_map")
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidModelFolder(f"{str(path)!r} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}
