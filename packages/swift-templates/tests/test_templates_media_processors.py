"""What models with code of their own see of pictures and sounds, as numbers worked out by hand from what is published.

Pixels are compared with Pillow's own, taken apart by plain loops; two computations, with torch's and transformers'.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from swift_templates.errors import InvalidMedia, TemplateMismatch
from swift_templates.media.folder_processor import FolderProcessor, load_folder_processor
from swift_templates.media.mel import log_mel
from swift_templates.media.pixels import interpolate
from swift_templates.media.processor import DecodedMedia, SeenMedia
from swift_templates.messages import JSON

image_module = pytest.importorskip("PIL.Image")

Picture = npt.NDArray[np.uint8]
RED, BLUE = (255, 0, 0), (0, 0, 255)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_WHITE = [(1 - mean) / std for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)]
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
) -> FolderProcessor | None:
    """Write the small files of a folder, and load what shows media to its model; the first token is number 7."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "preprocessor_config.json").write_text(json.dumps(settings or {}), encoding="utf-8")
    added = {str(7 + index): {"content": text} for index, text in enumerate(tokens)}
    written = {"added_tokens_decoder": added, **(named or {})}
    (path / "tokenizer_config.json").write_text(json.dumps(written), encoding="utf-8")
    return load_folder_processor(path)


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


def see(processor: FolderProcessor, *pictures: Picture) -> SeenMedia:
    return processor.see([DecodedMedia("image", each) for each in pictures])


def plain(width: int, height: int, color: tuple[int, int, int] = RED) -> Picture:
    return np.broadcast_to(np.array(color, dtype=np.uint8), (height, width, 3)).copy()


def noise(width: int, height: int) -> Picture:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_deepseek_vl2_cuts_a_picture_into_the_tiles_that_waste_least(tmp_path: Path) -> None:
    picture = np.concatenate([plain(400, 400, RED), plain(400, 400, BLUE)], axis=1)
    seen = see(deepseek(tmp_path), picture)
    # 800 x 400 fills 768 x 384 wholly. 384 // 14 is 27, every other patch is 14: the whole is 14 lines of 15, then 1,
    # then 14 lines over both tiles of 2 * 14 + 1.
    assert seen.arrays["images_spatial_crop"].tolist() == [[[2, 1]]]
    assert seen.texts == ("<image>" * (14 * 15 + 1 + 14 * 29),)
    images = seen.arrays["images"]
    assert images.shape == (1, 3, 3, 384, 384) and images.dtype == np.float32
    # (255 / 255 - 0.5) / 0.5 is 1, and 0 becomes -1.
    assert images[0, 1, :, 200, 100].tolist() == [1, -1, -1] and images[0, 2, :, 200, 300].tolist() == [-1, -1, 1]
    # The whole is 384 x 192 in the middle, red on the left, on int(0.5 * 255) = 127.
    grey = np.float32(127 / 255 - 0.5) / np.float32(0.5)
    assert images[0, 0, :, 95, 200] == pytest.approx([grey] * 3, abs=1e-7)  # a rounding of float32
    assert images[0, 0, :, 96, 100].tolist() == [1, -1, -1] and images[0, 0, :, 287, 300].tolist() == [-1, -1, 1]
    ids = np.array([7] * (14 * 15 + 1 + 14 * 29) + [3])
    marks = seen.token_arrays["images_seq_mask"](ids, None)
    assert marks.shape == (1, 618) and marks.dtype == np.bool_ and not marks[0, -1] and marks[0, :-1].all()


@pytest.mark.parametrize(
    ("size", "expected"),
    # 100 x 100 is kept whole by any size, so the smallest wastes least; 300 x 900 fits 384 x 1152 best.
    [((100, 100), [1, 1]), ((300, 900), [1, 3]), ((2000, 700), [3, 1]), ((900, 900), [2, 2])],
)
def test_deepseek_vl2_chooses_its_tiles_by_proportion(
    size: tuple[int, int], expected: list[int], tmp_path: Path
) -> None:
    assert see(deepseek(tmp_path), plain(*size)).arrays["images_spatial_crop"].tolist() == [[expected]]


def test_deepseek_vl2_does_not_cut_more_than_two_pictures(tmp_path: Path) -> None:
    processor = deepseek(tmp_path)
    seen = see(processor, *[plain(800, 400)] * 3)
    assert seen.arrays["images_spatial_crop"].tolist() == [[[1, 1]] * 3]
    assert seen.texts == ("<image>" * (210 + 1 + 210),) * 3 and seen.arrays["images"].shape == (1, 6, 3, 384, 384)
    assert processor.is_joint and len(set(see(processor, *[plain(800, 400)] * 2).texts)) == 1


def test_minicpm_v_slices_a_picture_in_a_grid_of_its_proportions(tmp_path: Path) -> None:
    picture = noise(900, 600)
    seen = see(minicpm(tmp_path), plain(100, 100), picture)
    # 540,000 pixels are 2.69 times 448 * 448, so 3 slices, or one less or more; of all grids 2 x 1 is nearest to 1.5.
    features = "<unk>" * 64
    small = f"<image_id>0</image_id><image>{features}</image>"
    whole = f"<image_id>1</image_id><image>{features}</image>"
    assert seen.texts == (small, whole + f"<slice>{features}</slice>" * 2)
    # A small picture is enlarged to 448 x 448. The whole: int(448 / sqrt(1.5)) is 365 high and int(365 * 1.5) is 547
    # wide, so 26 and 39 patches. A slice of 450 x 600: 517 high and 387 wide, so 37 and 28.
    assert seen.arrays["tgt_sizes"].tolist() == [[[32, 32], [26, 39], [37, 28], [37, 28]]]
    pixels = seen.arrays["pixel_values"]
    assert pixels.shape == (1, 4, 3, 14, 14 * 37 * 28) and pixels.dtype == np.float32
    large = image_module.fromarray(picture).resize((2 * 392, 518), image_module.Resampling.BICUBIC)
    for index, (image, left) in enumerate([(large, 0), (large, 392)], start=2):
        values = np.asarray(image).astype(np.float32)[:, left : left + 392] / np.float32(127.5) - 1
        for patch in (0, 1, 28, 37 * 28 - 1):
            y, x = 14 * (patch // 28), 14 * (patch % 28)
            block = pixels[0, index, :, :, 14 * patch : 14 * patch + 14].transpose(1, 2, 0)
            # Divided by 127.5 in one step instead of two: a rounding of float32.
            assert np.allclose(block, values[y : y + 14, x : x + 14], atol=1e-6)
    assert not pixels[0, 1, :, :, 14 * 26 * 39 :].any()


def test_minicpm_v_is_told_where_the_tokens_of_each_slice_are(tmp_path: Path) -> None:
    bounds = see(minicpm(tmp_path), noise(900, 600)).token_arrays["image_bound"]
    # Tokens 7 to 10 are <image>, </image>, <slice>, </slice>.
    ids = np.array([1, 7, 0, 0, 8, 9, 0, 0, 10, 9, 0, 0, 10, 2])
    assert bounds(ids, None).tolist() == [[[2, 4], [6, 8], [10, 12]]]
    with pytest.raises(TemplateMismatch, match="has 2 slices of pictures; the processor made 3"):
        bounds(ids[:-5], None)


def test_minicpm_v_writes_a_line_of_slices_for_each_row(tmp_path: Path) -> None:
    text = see(minicpm(tmp_path, use_image_id=False, image_feature_size=1), plain(900, 900)).texts[0]
    # 810,000 pixels are 4.04 times 448 * 448; of 4 to 6 slices 2 x 2 is square.
    line = "<slice><unk></slice>" * 2
    assert text == f"<image><unk></image>{line}\n{line}"


@pytest.mark.parametrize(
    ("num_crops", "size", "grid", "count"),
    [
        # 4 squares: 3 x 2 are 6, so 2 wide; 672 x 448 is filled up to 672 x 672.
        (4, (600, 400), (2, 2), 757),
        # 16 squares: 5 x 4 are 20, so 4 wide; 1344 x 896 is filled up to 1344 x 1008.
        (16, (600, 400), (3, 4), 1921),
        (16, (400, 600), (4, 3), (12 + 1) * 144 + 1 + 5 * 12),
        (16, (336, 336), (4, 4), (16 + 1) * 144 + 1 + 5 * 12),
        (4, (2000, 100), (1, 4), (4 + 1) * 144 + 1 + 2 * 12),
    ],
)
def test_phi3_vision_brings_pictures_to_squares(
    num_crops: int, size: tuple[int, int], grid: tuple[int, int], count: int, tmp_path: Path
) -> None:
    seen = see(phi3(tmp_path, num_crops), noise(*size))
    assert seen.arrays["image_sizes"].tolist() == [[336 * grid[0], 336 * grid[1]]]
    assert seen.texts == ("<|image|>" * count + "<s>",)
    pixels = seen.arrays["pixel_values"]
    assert pixels.shape == (1, 1 + num_crops, 3, 336, 336) and pixels.dtype == np.float32
    assert not pixels[0, 1 + grid[0] * grid[1] :].any() and pixels[0, grid[0] * grid[1]].any()


@pytest.mark.parametrize("is_high", [False, True])
def test_phi3_vision_fills_the_squares_with_white_on_both_sides(is_high: bool, tmp_path: Path) -> None:
    picture = noise(600, 400)
    seen = see(phi3(tmp_path, 4), picture.transpose(1, 0, 2).copy() if is_high else picture)
    # 448 of 672 rows are the picture's, behind 112 white ones.
    resized = np.asarray(image_module.fromarray(picture).resize((672, 448), image_module.Resampling.BILINEAR))
    squares = seen.arrays["pixel_values"][0, 1:]
    squares = squares.transpose(0, 1, 3, 2) if is_high else squares
    first, last = squares[0], squares[3]
    mean, std = np.array(CLIP_MEAN), np.array(CLIP_STD)
    # Float32 against float64.
    assert np.allclose(first[:, :112], np.array(CLIP_WHITE)[:, None, None], atol=1e-6)
    assert np.allclose(first[:, 112:].transpose(1, 2, 0), (resized[:224, :336] / 255 - mean) / std, atol=1e-5)
    assert np.allclose(last[:, :224].transpose(1, 2, 0), (resized[224:, 336:] / 255 - mean) / std, atol=1e-5)
    assert np.allclose(last[:, 224:], np.array(CLIP_WHITE)[:, None, None], atol=1e-6)


def test_numbers_are_interpolated_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal((3, 40, 25)).astype(np.float32)
    for height, width in ((10, 10), (40, 25), (7, 60)):
        expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None], (height, width), mode="bicubic")
        # torch adds in float32.
        assert np.allclose(interpolate(values, height, width), expected[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "filler", "side", "count"),
    [
        (COGVLM, "<unk>", 490, 35 * 35 + 2),
        # CogVLM2 joins 2 x 2 patches: 1344 // 14 // 2 is 48.
        (COGVLM | {"vision_config": {"image_size": 1344, "patch_size": 14}, "vocab_size": 128256},
         "<|reserved_special_token_0|>", 1344, 48 * 48 + 2),
    ],
    ids=["cogvlm", "cogvlm2"],
)  # fmt: skip
def test_cogvlm_sees_one_square_before_the_text(
    config: dict[str, JSON], filler: str, side: int, count: int, tmp_path: Path
) -> None:
    processor = load(tmp_path, config, tokens=(filler,), named={"pad_token": "<unk>"})
    assert processor is not None
    picture = noise(60, 40)
    seen = see(processor, picture)
    assert seen.texts == (filler * count,) and seen.resized == ((side, side),)
    resized = image_module.fromarray(picture).resize((side, side), image_module.Resampling.BICUBIC)
    expected = (np.asarray(resized)[5, 9] / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    images = seen.arrays["images"]
    # Float32 against float64.
    assert images.shape == (1, 1, 3, side, side) and images[0, 0, :, 5, 9] == pytest.approx(expected, abs=1e-6)
    types = seen.token_arrays["token_type_ids"](np.array([1, *[7] * count, 3, 4]), None)
    assert types.tolist() == [[0, *[1] * count, 0, 0]]
    with pytest.raises(TemplateMismatch, match="has 2 pictures; the model takes 1"):
        see(processor, picture, picture)


AUDIO: dict[str, JSON] = {"model_type": "qwen", "audio": {"audio_start_id": 155163, "n_mels": 80}}


@pytest.mark.parametrize(
    ("samples", "frames", "tokens"),
    # 100 spectra a second, of which every second one is a frame, of which every second one is a token.
    [(16000, 50, 25), (480_000, 1500, 750), (480, 2, 1), (16000 + 159, 50, 25), (16000 + 160, 51, 25)],
)
def test_qwen_audio_has_a_token_for_40_milliseconds(samples: int, frames: int, tokens: int, tmp_path: Path) -> None:
    processor = load(tmp_path, AUDIO)
    assert processor is not None and processor.sampling.sample_rate == 16000
    seen = processor.see([DecodedMedia("audio", np.zeros(samples, dtype=np.float32))])
    assert seen.texts == ("<audio>" + "[[[AUDIO:modality]]]" * tokens + "</audio>",)
    assert seen.arrays["input_audio_lengths"].tolist() == [[frames, tokens]]
    assert seen.arrays["audio_span_tokens"].tolist() == [tokens + 2]
    assert seen.arrays["input_audios"].shape == (1, 80, 3000)


def test_qwen_audio_refuses_what_its_own_code_would_cut(tmp_path: Path) -> None:
    processor = load(tmp_path, AUDIO)
    assert processor is not None
    for samples in (480_001, 479):
        with pytest.raises(InvalidMedia, match=r"the model hears 0.03 to 30: give it in pieces"):
            processor.see([DecodedMedia("audio", np.zeros(samples, dtype=np.float32))])
    with pytest.raises(TemplateMismatch, match="media of kind 'image'; the model takes: audio"):
        see(processor, plain(4, 4))


def test_a_spectrum_is_whispers() -> None:
    transformers = pytest.importorskip("transformers")
    sound = np.random.default_rng(0).uniform(-1, 1, 480_000).astype(np.float32)
    sound[240_000:] *= np.sin(2 * np.pi * 440 * np.arange(240_000) / 16000).astype(np.float32) / 50
    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    expected = extractor([sound], sampling_rate=16000, return_tensors="np")["input_features"][0]
    made = log_mel(sound)
    # Both round to float32 at the end, and whisper's steps between are partly float32.
    assert made.shape == expected.shape == (80, 3000) and np.allclose(made, expected, atol=1e-4)


def test_a_tone_is_loudest_in_its_own_band() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    # 8 kHz are 15 + 27 * ln 8 / ln 6.4 = 45.245 mels, 81 steps; 1 kHz is 15 mels, so 26.85 steps up: the band that
    # is highest there is number 26 of 0 to 79, whose middle is 27 steps up.
    assert log_mel(tone)[:, 50].argmax() == math.floor(15 / (45.245 / 81) + 0.5) - 1


QWEN_VL: dict[str, JSON] = {"model_type": "qwen", "visual": {"image_start_id": 151857, "image_size": 448}}


def test_qwen_vl_has_the_bytes_of_a_files_place_as_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFT_CACHE", str(tmp_path / "kept"))
    processor = load(tmp_path / "model", QWEN_VL)
    assert processor is not None
    first, second = noise(30, 20), plain(5, 5)
    seen = see(processor, first, second, first)
    assert seen.texts == ("<img>" + "<imgpad>" * 256 + "</img>",) * 3 and not seen.arrays
    assert seen.resized == ((448, 448),) * 3 and seen.own_ids is not None
    row = np.array([5, *(151857, *[151859] * 256, 151858, 6) * 3])
    ids = seen.own_ids(row)
    spans = [ids[2 + 259 * index : 2 + 259 * index + 256].tolist() for index in range(3)]
    assert spans[0] == spans[2] != spans[1]
    # What the model's own code does with them: to the first <imgpad>, but for the last token.
    for span, picture in zip(spans, (first, second, first), strict=True):
        name = bytes(span[: span[:-1].index(151859)]).decode("utf-8")
        with image_module.open(name) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), picture)
    rest = [index for index in range(len(row)) if row[index] != 151859]
    assert np.array_equal(ids[rest], row[rest])
    with pytest.raises(TemplateMismatch, match="has places for 767 tokens of media; the processor made 768"):
        seen.own_ids(np.delete(row, 3))


def test_qwen_vl_refuses_a_folder_whose_path_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFT_CACHE", str(tmp_path / "a" / ("b" * 120) / ("c" * 120)))
    processor = load(tmp_path / "model", QWEN_VL)
    assert processor is not None
    with pytest.raises(InvalidMedia, match="in 254 bytes; set SWIFT_CACHE to a shorter path"):
        see(processor, plain(5, 5))
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("SWIFT_CACHE", str(tmp_path / "file"))
    processor = load(tmp_path / "model", QWEN_VL)
    assert processor is not None
    with pytest.raises(InvalidMedia, match="cannot be written; set SWIFT_CACHE to one that can"):
        see(processor, plain(5, 5))
