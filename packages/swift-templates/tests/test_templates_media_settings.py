"""Which folder gets which processor for its media, and what is said of folders whose settings are wrong or missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_templates.errors import InvalidModelFolder, TemplateMismatch
from swift_templates.media.folder_processor import FolderProcessor, ProcessorFolder, load_folder_processor, processors
from swift_templates.media.processor import DecodedMedia
from swift_templates.messages import JSON

# Of the 25 in its processor_config.json.
SIZES: JSON = [[384, 384], [384, 768], [768, 384], [384, 1152], [1152, 384], [768, 768]]
MINICPM: dict[str, JSON] = {"version": 2.6, "max_slice_nums": 9, "scale_resolution": 448, "use_image_id": True}
DEEPSEEK: dict[str, JSON] = {"candidate_resolutions": SIZES, "patch_size": 14, "downsample_ratio": 2}
COGVLM: dict[str, JSON] = {
    "auto_map": {"AutoModelForCausalLM": "modeling_cogvlm.CogVLMForCausalLM"},
    "vision_config": {"image_size": 490, "patch_size": 14},
    "vocab_size": 32000,
}


def load(
    path: Path,
    config: dict[str, JSON],
    settings: dict[str, JSON] | None = None,
    *,
    tokens: Sequence[str] = (),
    named: dict[str, JSON] | None = None,
    template: str | None = None,
) -> FolderProcessor | None:
    """Write the small files of a folder, and load what shows media to its model; the first token is number 7."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "preprocessor_config.json").write_text(json.dumps(settings or {}), encoding="utf-8")
    added = {str(7 + index): {"content": text} for index, text in enumerate(tokens)}
    written = {"added_tokens_decoder": added, **(named or {})}
    (path / "tokenizer_config.json").write_text(json.dumps(written), encoding="utf-8")
    return load_folder_processor(path, template)


def deepseek(path: Path) -> FolderProcessor:
    found = load(path, {"model_type": "deepseek_vl_v2"}, DEEPSEEK, tokens=("<image>",))
    assert found is not None
    return found


def minicpm(path: Path, **settings: JSON) -> FolderProcessor:
    tokens = ("<image>", "</image>", "<slice>", "</slice>")
    found = load(path, {"model_type": "minicpmv"}, {**MINICPM, **settings}, tokens=tokens)
    assert found is not None
    return found


def phi3(path: Path, num_crops: int) -> FolderProcessor:
    found = load(path, {"model_type": "phi3_v"}, {"num_crops": num_crops}, named={"bos_token": "<s>"})
    assert found is not None
    return found


AUDIO: dict[str, JSON] = {"model_type": "qwen", "audio": {"audio_start_id": 155163, "n_mels": 80}}
QWEN_VL: dict[str, JSON] = {"model_type": "qwen", "visual": {"image_start_id": 151857, "image_size": 448}}


def test_a_folder_finds_its_processor_by_what_its_configuration_says(tmp_path: Path) -> None:
    found = {
        "deepseek_vl2": deepseek(tmp_path),
        "minicpm_v": minicpm(tmp_path),
        "phi3_vision": phi3(tmp_path, 4),
        "cogvlm": load(tmp_path, COGVLM, tokens=("<unk>",), named={"pad_token": "<unk>"}),
        "idefics": load(tmp_path, {"model_type": "idefics"}, tokens=("<image>",)),
        "qwen_audio": load(tmp_path, AUDIO),
        "qwen_vl": load(tmp_path, QWEN_VL),
    }
    assert {name: type(each) for name, each in found.items()} == {
        name: processors.load_class(name) for name in processors.names()
    }


NOT_KNOWN: dict[str, tuple[dict[str, JSON], dict[str, JSON]]] = {
    "a text model": ({"model_type": "qwen"}, {}),
    "DeepSeek-OCR": ({"model_type": "deepseek_vl_v2", "architectures": ["DeepseekOCRForCausalLM"]}, DEEPSEEK),
    "MiniCPM-V 2": ({"model_type": "minicpmv"}, {"version": 2.0}),
    "MiniCPM-V without a version": ({"model_type": "minicpmv"}, {}),
    "MiniCPM-V 4.6": ({"model_type": "minicpmv4_6"}, {"version": 4.6}),
    "CogAgent": (COGVLM | {"auto_map": {"AutoModelForCausalLM": "modeling_cogagent.CogAgentForCausalLM"}}, {}),
    "Phi-3 vision without a number of squares": ({"model_type": "phi3_v"}, {}),
    "Idefics 2": ({"model_type": "idefics2"}, {}),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_models_that_see_otherwise_are_left_to_others(name: str, tmp_path: Path) -> None:
    assert load(tmp_path, *NOT_KNOWN[name], tokens=("<image>", "<unk>"), template="minicpm_v") is None


def test_a_family_that_is_named_chooses_where_the_folder_says_nothing(tmp_path: Path) -> None:
    tokens = ("<image>", "</image>", "<slice>", "</slice>")
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"id": 7 + index, "content": text} for index, text in enumerate(tokens)]}),
        encoding="utf-8",
    )
    found = load_folder_processor(tmp_path, "minicpm-v")
    assert isinstance(found, processors.load_class("minicpm_v"))
    assert load_folder_processor(tmp_path, "qwen2_5") is None and load_folder_processor(tmp_path) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (DEEPSEEK | {"patch_size": "14"}, "setting 'patch_size' is '14'; expected a whole number above 0"),
        (DEEPSEEK | {"downsample_ratio": 0}, "setting 'downsample_ratio' is 0; expected a whole number above 0"),
        (DEEPSEEK | {"image_mean": [0.5, None, 0.5]}, "'image_mean' is .*; expected 3 numbers"),
        (DEEPSEEK | {"candidate_resolutions": [384, 384]}, r"expected a list of \[width, height\]"),
        (DEEPSEEK | {"candidate_resolutions": [[384, 384], [500, 384]]}, "expected multiples of its first width"),
    ],
)
def test_a_setting_that_is_not_what_its_name_says_is_a_clear_error(
    settings: dict[str, JSON], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModelFolder, match=said):
        load(tmp_path, {"model_type": "deepseek_vl_v2"}, settings, tokens=("<image>",))


def test_a_tokenizer_without_the_tokens_of_pictures_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelFolder, match="the model writes '<image>' around its media, and its tokenizer in"):
        load(tmp_path, {"model_type": "deepseek_vl_v2"}, DEEPSEEK)
    with pytest.raises(InvalidModelFolder, match="names no pad_token, which stands for pictures; name it"):
        load(tmp_path, COGVLM)


def test_a_processors_fingerprint_is_that_of_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, same, other = minicpm(tmp_path), minicpm(tmp_path), minicpm(tmp_path, max_slice_nums=4)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    prints = set()
    for root in ("a", "b"):
        monkeypatch.setenv("SWIFT_CACHE", str(tmp_path / root))
        found = load(tmp_path, QWEN_VL)
        assert found is not None
        prints.add(found.fingerprint)
    assert len(prints) == 2


def test_a_model_of_pictures_refuses_sounds(tmp_path: Path) -> None:
    with pytest.raises(TemplateMismatch, match="has media that are no pictures; the model takes: image"):
        deepseek(tmp_path).see([DecodedMedia("audio", np.zeros(9, dtype=np.float32))])


def test_the_small_files_are_objects(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidModelFolder, match="holds a list; expected a JSON object"):
        ProcessorFolder.read(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidModelFolder, match=r"config\.json' is not JSON"):
        ProcessorFolder.read(tmp_path)
