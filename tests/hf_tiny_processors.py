"""Tiny processors of transformers, one for each kind of model that takes media, with the text that its chat has there.

Classes that insist on a video processor, which needs torchvision, get none: pictures and sounds don't ask for it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from swift_templates.testing import write_tiny_folder

BASE = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>")
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'image' and IMAGE %}{{ IMAGE }}{% elif part.type == 'audio' and AUDIO %}{{ AUDIO }}"
    "{% elif part.type == 'video' and VIDEO %}{{ VIDEO }}"
    "{% else %}{{ raise_exception('no such media') }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
OMNI = (*QWEN, "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
MEDIA_OF_QWEN = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO_OF_QWEN = "<|vision_start|><|video_pad|><|vision_end|>"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of processor."""

    build: Callable[[Any], Any]
    special: tuple[str, ...]
    image: str = ""
    audio: str = ""
    video: str = ""
    begin: str = ""
    """Begins a chat; Llama 3.2's processor puts it there if it is not."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Attributes of the tokenizer that the processor asks for."""

    @property
    def chat(self) -> str:
        """A chat template with its placeholders."""
        made = self.begin + CHAT
        for name in ("image", "audio", "video"):
            made = made.replace(name.upper(), repr(getattr(self, name)))
        return made

    def tokenizer(self, folder: Path) -> Any:  # noqa: ANN401  # transformers is untyped
        """Write a tiny model folder, and return its tokenizer."""
        write_tiny_folder(folder, chat_template=self.chat, special_tokens=(*BASE, *self.special), bos_token="<s>")
        return transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            bos_token="<s>",
            extra_special_tokens=dict(self.named),
        )


def without_video(name: str) -> Any:  # noqa: ANN401
    """Return a processor's class that takes no video processor."""

    def take(self: object, *_: object) -> None:
        """Take what there is."""

    return type(name, (getattr(transformers, name),), {"check_argument_for_proper_class": take})


def _llava(tokenizer: Any) -> Any:  # noqa: ANN401
    return transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _llava_next(tokenizer: Any) -> Any:  # noqa: ANN401
    return transformers.LlavaNextProcessor(
        transformers.LlavaNextImageProcessor(
            size={"shortest_edge": 16}, crop_size=16, image_grid_pinpoints=[[32, 16], [16, 32]]
        ),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _llava_onevision(tokenizer: Any) -> Any:  # noqa: ANN401
    return without_video("LlavaOnevisionProcessor")(
        image_processor=transformers.LlavaOnevisionImageProcessor(
            size={"height": 16, "width": 16}, image_grid_pinpoints=[[16, 16], [32, 16], [16, 32], [32, 32]]
        ),
        tokenizer=tokenizer,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
    )


class Videos(transformers.ImageProcessingMixin):
    """A stand-in for the video processors of Qwen and GLM, which need torchvision: patches as they are, not resized."""

    patch_size: int

    def __init__(self, patch_size: int) -> None:
        more: dict[str, Any] = {"merge_size": 2, "temporal_patch_size": 2, "fps": 2.0, "max_frames": 768}
        super().__init__(patch_size=patch_size, **more)  # type: ignore[no-untyped-call]  # transformers'

    def __call__(self, videos: Any, *, video_metadata: Any = None, **_: object) -> dict[str, Any]:  # noqa: ANN401
        """Return the grids that the real ones make of frames whose sides are multiples of a merged patch."""
        grids, patches = [], []
        for frames in videos:
            count, height, width = frames.shape[:3]
            grid = (-(-count // 2), height // self.patch_size, width // self.patch_size)
            grids.append(grid)
            shape: tuple[int, ...] = (math.prod(grid), 6 * self.patch_size**2)
            pixels = np.resize(np.moveaxis(frames, 3, 1), shape)
            patches.append(pixels.astype(np.float32) / 255)
        return {
            "pixel_values_videos": torch.from_numpy(np.concatenate(patches)),
            "video_grid_thw": torch.tensor(grids),
            "video_metadata": video_metadata,
        }


def _qwen_images(patch_size: int) -> Any:  # noqa: ANN401
    side = 2 * patch_size
    return transformers.Qwen2VLImageProcessor(min_pixels=side * side, max_pixels=4 * side * side, patch_size=patch_size)


def _qwen(name: str, patch_size: int = 14) -> Callable[[Any], Any]:
    def build(tokenizer: Any) -> Any:  # noqa: ANN401
        return without_video(name)(
            image_processor=_qwen_images(patch_size), tokenizer=tokenizer, video_processor=Videos(patch_size)
        )

    return build


def _omni(name: str) -> Kind:
    def build(tokenizer: Any) -> Any:  # noqa: ANN401
        return without_video(name)(
            image_processor=_qwen_images(14),
            # Asked for its merge_size even where there is no video.
            video_processor=Videos(14),
            feature_extractor=transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=2),
            tokenizer=tokenizer,
        )

    return Kind(
        build=build,
        special=OMNI,
        image=MEDIA_OF_QWEN,
        video=VIDEO_OF_QWEN,
        audio="<|audio_start|><|audio_pad|><|audio_end|>",
        named=NAMED_OF_OMNI,
    )


def _glm4v(tokenizer: Any) -> Any:  # noqa: ANN401
    return without_video("Glm4vProcessor")(
        image_processor=transformers.Glm4vImageProcessor(
            size={"shortest_edge": 28 * 28, "longest_edge": 8 * 28 * 28}, patch_size=14
        ),
        tokenizer=tokenizer,
        video_processor=Videos(14),
    )


def _qwen2_audio(tokenizer: Any) -> Any:  # noqa: ANN401
    return transformers.Qwen2AudioProcessor(
        transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=2), tokenizer
    )


def _deepseek_vl(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.DeepseekVLImageProcessor(size={"height": 16, "width": 16})
    return transformers.DeepseekVLProcessor(images, tokenizer, num_image_tokens=4)


def _deepseek_vl_hybrid(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.DeepseekVLHybridImageProcessor(
        size={"height": 16, "width": 16}, high_res_size={"height": 32, "width": 32}
    )
    return transformers.DeepseekVLHybridProcessor(images, tokenizer, num_image_tokens=4)


def _internvl(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.GotOcr2ImageProcessor(
        size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return without_video("InternVLProcessor")(image_processor=images, tokenizer=tokenizer, image_seq_length=4)


def _phi4_multimodal(tokenizer: Any) -> Any:  # noqa: ANN401
    return without_video("Phi4MultimodalProcessor")(
        image_processor=None, audio_processor=transformers.Phi4MultimodalFeatureExtractor(), tokenizer=tokenizer
    )


def _idefics2(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.Idefics2ImageProcessor(
        size={"shortest_edge": 16, "longest_edge": 32}, do_image_splitting=False
    )
    return transformers.Idefics2Processor(images, tokenizer, image_seq_len=4)


def _idefics3(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.Idefics3ImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    return transformers.Idefics3Processor(images, tokenizer, image_seq_len=4)


def _smolvlm(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.SmolVLMImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    return without_video("SmolVLMProcessor")(
        image_processor=images, tokenizer=tokenizer, video_processor=None, image_seq_len=4
    )


def _mllama(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.MllamaImageProcessor(size={"height": 16, "width": 16}, max_image_tiles=4)
    return transformers.MllamaProcessor(images, tokenizer)


def _gemma3(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.Gemma3ImageProcessor(size={"height": 16, "width": 16})
    return transformers.Gemma3Processor(images, tokenizer, image_seq_length=4)


def pixtral_processor() -> Any:  # noqa: ANN401
    """Return its class, whose file imports torchvision for a function that is not called here."""
    known: Any = transformers.utils
    had = known.is_vision_available
    known.is_vision_available = lambda: False
    try:
        return importlib.import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor
    finally:
        known.is_vision_available = had


def _pixtral(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.PixtralImageProcessor(size={"longest_edge": 32}, patch_size=8)
    return pixtral_processor()(images, tokenizer, patch_size=8)


def _mistral3(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.PixtralImageProcessor(size={"longest_edge": 32}, patch_size=8)
    return pixtral_processor()(images, tokenizer, patch_size=4, spatial_merge_size=2)


def _paligemma(tokenizer: Any) -> Any:  # noqa: ANN401
    images: Any = transformers.SiglipImageProcessor(size={"height": 16, "width": 16})
    images.image_seq_length = 4
    return transformers.PaliGemmaProcessor(images, tokenizer)


def _florence2(tokenizer: Any) -> Any:  # noqa: ANN401
    images: Any = transformers.CLIPImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False)
    images.image_seq_length = 5
    return transformers.Florence2Processor(images, tokenizer)


def _minicpmv(tokenizer: Any) -> Any:  # noqa: ANN401
    images = transformers.MiniCPMV4_6ImageProcessor(scale_resolution=56, max_slice_nums=4)
    return without_video("MiniCPMV4_6Processor")(image_processor=images, video_processor=images, tokenizer=tokenizer)


IDEFICS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
NAMED_OF_IDEFICS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "image_boundary_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
    "video_token": "<video>",
}
NAMED_OF_OMNI = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "audio_token": "<|audio_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
OF_DEEPSEEK: dict[str, Any] = {
    "special": ("<image_placeholder>",),
    "image": "<image_placeholder>",
    "named": {"image_token": "<image_placeholder>"},
}

KINDS: dict[str, Kind] = {
    "llava": Kind(build=_llava, special=("<image>",), image="<image>\n"),
    "llava_next": Kind(build=_llava_next, special=("<image>",), image="<image>\n"),
    "llava_onevision": Kind(build=_llava_onevision, special=("<image>", "<video>"), image="<image>"),
    "qwen2_vl": Kind(build=_qwen("Qwen2VLProcessor"), special=QWEN, image=MEDIA_OF_QWEN, video=VIDEO_OF_QWEN),
    "qwen2_5_vl": Kind(build=_qwen("Qwen2_5_VLProcessor"), special=QWEN, image=MEDIA_OF_QWEN, video=VIDEO_OF_QWEN),
    "qwen3_vl": Kind(build=_qwen("Qwen3VLProcessor", 16), special=QWEN, image=MEDIA_OF_QWEN, video=VIDEO_OF_QWEN),
    "qwen2_5_omni": _omni("Qwen2_5OmniProcessor"),
    "qwen3_omni_moe": _omni("Qwen3OmniMoeProcessor"),
    "qwen2_audio": Kind(
        build=_qwen2_audio,
        special=("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
        audio="<|audio_bos|><|AUDIO|><|audio_eos|>\n",
    ),
    "glm4v": Kind(
        build=_glm4v,
        special=(
            "<|image|>",
            "<|video|>",
            "<|begin_of_image|>",
            "<|end_of_image|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
        ),
        image="<|begin_of_image|><|image|><|end_of_image|>",
        video="<|begin_of_video|><|video|><|end_of_video|>",
    ),
    "deepseek_vl": Kind(build=_deepseek_vl, **OF_DEEPSEEK),
    "deepseek_vl_hybrid": Kind(build=_deepseek_vl_hybrid, **OF_DEEPSEEK),
    "internvl": Kind(
        build=_internvl,
        special=("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        image="<IMG_CONTEXT>\n",
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "phi4_multimodal": Kind(
        build=_phi4_multimodal,
        special=("<|image|>", "<|audio|>"),
        # Its pictures are cut up by torchvision alone.
        audio="<|audio|>",
        named={"image_token": "<|image|>", "audio_token": "<|audio|>"},
    ),
    "idefics2": Kind(build=_idefics2, special=IDEFICS, image="<image>", named=NAMED_OF_IDEFICS),
    "idefics3": Kind(build=_idefics3, special=IDEFICS, image="<image>", named=NAMED_OF_IDEFICS),
    "smolvlm": Kind(build=_smolvlm, special=(*IDEFICS, "<video>"), image="<image>", named=NAMED_OF_IDEFICS),
    "mllama": Kind(build=_mllama, special=("<|image|>", "<|python_tag|>"), image="<|image|>", begin="<s>"),
    "minicpmv4_6": Kind(
        build=_minicpmv,
        special=(
            "<|image_pad|>",
            "<|video_pad|>",
            "<image>",
            "</image>",
            "<slice>",
            "</slice>",
            "<image_id>",
            "</image_id>",
        ),
        image="<|image_pad|>",
        named={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        },
    ),
    "gemma3": Kind(
        build=_gemma3,
        special=("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        image="<start_of_image>",
        named={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    ),
    "pixtral": Kind(build=_pixtral, special=("[IMG]", "[IMG_BREAK]", "[IMG_END]"), image="[IMG]"),
    "mistral3": Kind(build=_mistral3, special=("[IMG]", "[IMG_BREAK]", "[IMG_END]"), image="[IMG]"),
}

NEEDS_FAMILY: dict[str, Kind] = {
    "paligemma": Kind(build=_paligemma, special=("<image>", "<eos>")),
    "florence2": Kind(build=_florence2, special=("<image>", "</s>"), named={"image_token": "<image>"}),
}
