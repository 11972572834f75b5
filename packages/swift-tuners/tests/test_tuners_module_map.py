"""The parts of a model, found by looking."""

from __future__ import annotations

import copy

import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.host_modules import is_linear
from swift_tuners.models.tiny_architectures import Task, build_tiny
from swift_tuners.module_map import find_layers, map_modules
from swift_tuners.targets import Part, all_linear, find_expert_parameters, find_targets
from swift_tuners.testing import TOYS, tiny_decoder, toy_mlp
from torch import nn


class TinyViT(nn.Module):
    """A picture model without anything of transformers'."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)


def test_a_decoder_is_all_language() -> None:
    found = map_modules(tiny_decoder())
    assert found.language == ""
    assert found.layers == ("model.layers.0", "model.layers.1")
    assert found.attention == ("model.layers.0.self_attn", "model.layers.1.self_attn")
    assert found.mlp == ("model.layers.0.mlp", "model.layers.1.mlp")
    assert (found.embedding, found.head) == ("model.embed_tokens", "lm_head")
    assert found.norms == (
        *("model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"),
        *("model.layers.1.input_layernorm", "model.layers.1.post_attention_layernorm", "model.norm"),
    )
    assert found.vision == found.projector == ()


def test_the_map_is_that_of_the_host_whatever_is_attached() -> None:
    model = tiny_decoder()
    before = map_modules(model)
    tuned = Swift.prepare_model(model, LoraConfig(target_modules="all-linear", modules_to_save=["embed_tokens"]))
    assert map_modules(tuned.host) == before


@pytest.mark.parametrize(
    ("model_type", "language", "vision", "projector"),
    [
        ("llava", "model.language_model", ("model.vision_tower",), ("model.multi_modal_projector",)),
        ("qwen2_vl", "model.language_model", ("model.visual",), ("model.visual.merger",)),
        ("idefics3", "model.text_model", ("model.vision_model",), ("model.connector",)),
        # Tower and language model lie side by side, and the head inside of the latter.
        ("blip-2", "language_model", ("vision_model",), ("qformer", "language_projection")),
        # The tower lies inside of the language model.
        ("git", "git", ("git.image_encoder",), ("git.visual_projection",)),
        # Only what the encoder reads tells that it is a tower.
        ("pix2struct", "decoder", ("encoder",), ()),
        ("pp_formulanet", "model.decoder", ("model.encoder",), ("model.encoder.multi_modal_projector",)),
        # The tower hears.
        (
            "qwen2_5_omni_thinker",
            *("model", ("audio_tower", "visual"), ("visual.merger",)),
        ),
    ],
)
def test_towers_and_projectors_are_told_from_the_language_model(
    model_type: str, language: str, vision: tuple[str, ...], projector: tuple[str, ...]
) -> None:
    model = build_tiny(model_type, "image-text")
    found = map_modules(model)
    assert (found.language, found.vision, found.projector) == (language, vision, projector)
    assert all(found.part_of(layer) == "language" for layer in (*found.layers, *found.attention, *found.mlp))
    assert found.part_of(found.head or "") == "language"


@pytest.mark.parametrize(
    ("model_type", "attention", "mlp"),
    [
        pytest.param("mamba", (), (), id="Mamba has neither"),
        pytest.param("jamba", ("1.self_attn",), ("0.feed_forward", "1.feed_forward"), id="a hybrid has some"),
        pytest.param("opt", ("0.self_attn", "1.self_attn"), ("0.fc1", "0.fc2", "1.fc1", "1.fc2"), id="bare MLP layers"),
        pytest.param("xlnet", ("0.rel_attn", "1.rel_attn"), ("0.ff", "1.ff"), id="attention in bare parameters"),
        pytest.param(
            "longcat_flash",
            ("0.self_attn.0", "0.self_attn.1", "1.self_attn.0", "1.self_attn.1"),
            ("0.mlp", "0.mlps.0", "0.mlps.1", "1.mlp", "1.mlps.0", "1.mlps.1"),
            id="two attentions in a block",
        ),
        pytest.param(
            "qwen3_next", ("1.self_attn",), ("0.mlp", "1.mlp"), id="linear attention is a recurrence, not attention"
        ),
    ],
)
def test_attention_and_mlp_are_found_in_unlike_blocks(
    model_type: str, attention: tuple[str, ...], mlp: tuple[str, ...]
) -> None:
    found = map_modules(build_tiny(model_type))
    place = found.layers[0].removesuffix("0")
    assert tuple(name.removeprefix(place) for name in found.attention) == attention
    assert tuple(name.removeprefix(place) for name in found.mlp) == mlp


def test_any_torch_module_has_a_map() -> None:
    mlp = map_modules(toy_mlp())
    assert (mlp.layers, mlp.embedding, mlp.head, mlp.norms) == ((), None, None, ())
    vit = map_modules(TinyViT())
    assert vit.layers == ("blocks.0", "blocks.1", "blocks.2")
    assert vit.attention == ("blocks.0.self_attn", "blocks.1.self_attn", "blocks.2.self_attn")
    assert vit.mlp[:2] == ("blocks.0.linear1", "blocks.0.linear2")
    assert vit.language == "" and vit.vision == ()
    for toy in TOYS.values():
        assert isinstance(map_modules(toy.make_model()).layers, tuple)


def test_a_unet_has_a_map() -> None:
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
    )
    found = map_modules(unet)
    assert found.language == "" and found.vision == ()
    # Its blocks' own attention has targets.
    assert any(name.endswith("attn1.to_q") for name in all_linear(unet))


def test_the_list_of_blocks_is_found() -> None:
    model = tiny_decoder()
    name, layers = find_layers(model)
    assert name == "model.layers"
    assert layers is model.get_submodule("model.layers")
    assert find_layers(build_tiny("t5gemma2", "image-text"))[0] == "model.decoder.layers"
    # Blocks that attend to pictures lie in a list of their own.
    assert find_layers(build_tiny("idefics", "image-text"))[0] == "model.layers"


@pytest.mark.parametrize("model", [toy_mlp(), build_tiny("xlm")], ids=["an MLP", "XLM has a list for each part"])
def test_a_model_without_a_list_of_blocks_says_so(model: nn.Module) -> None:
    with pytest.raises(UnsupportedConfig, match=f"{type(model).__name__} holds no list of blocks"):
        find_layers(model)


def test_a_family_puts_right_what_looking_cannot_see() -> None:
    found = map_modules(build_tiny("xlm"))
    assert found.attention == ("transformer.attentions.0", "transformer.attentions.1")
    assert found.mlp == ("transformer.ffns.0", "transformer.ffns.1")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("language",), {"language_model"}),
        (("vision",), {"vision_tower"}),
        (("projector",), {"multi_modal_projector"}),
        (("language", "projector"), {"language_model", "multi_modal_projector"}),
    ],
)
def test_parts_of_a_vision_language_model_are_chosen(parts: tuple[Part, ...], expected: set[str]) -> None:
    model = build_tiny("llava", "image-text")
    assert {name.split(".")[1] for name in all_linear(model, parts)} == expected


def test_all_linear_means_the_language_side() -> None:
    model = build_tiny("llava", "image-text")
    assert find_targets(model, "all-linear") == all_linear(model, ["language"])


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="no part 'vit'; its parts are language, vision, projector"):
        all_linear(tiny_decoder(), ["vit"])  # type: ignore[list-item]  # that is the mistake


@pytest.mark.parametrize(
    ("model_type", "left_out"),
    [
        ("mamba", {"x_proj", "dt_proj", "out_proj"}),
        ("bamba", {"out_proj"}),
        ("jamba", {"dt_proj"}),
        ("longcat_flash", {"classifier"}),
        # In training only.
        ("gemma3n_text", {"correction_coefs"}),
        # Reads slices of its weight beside the call, for checkpoints of tensor parallelism.
        ("bloom", set()),
        # Returns a choice of experts from a subclass of nn.Linear.
        ("phimoe", {"router"}),
        ("llama4_text", {"router"}),
        # Multiplies groups of features apart.
        ("deepseek_v4", {"o_a_proj"}),
        ("falcon", set()),
        ("llama", set()),
    ],
)
def test_linear_layers_that_are_never_called_are_left_out(model_type: str, left_out: set[str]) -> None:
    model = build_tiny(model_type)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    head, chosen = map_modules(model).head, set(all_linear(model))
    every = [name for name, module in modules.items() if isinstance(module, nn.Linear) and name != head]
    assert {name.rpartition(".")[2] for name in every if name not in chosen} == left_out


@pytest.mark.parametrize(
    ("model_type", "task", "expected"),
    [
        ("mixtral", "causal-lm", {"gate_up_proj", "down_proj"}),
        ("qwen3_vl_moe", "image-text", {"gate_up_proj", "down_proj"}),
        ("llama", "causal-lm", set()),
    ],
)
def test_experts_in_one_tensor_are_found(model_type: str, task: Task, expected: set[str]) -> None:
    model = build_tiny(model_type, task)
    names = find_expert_parameters(model)
    assert {name.rpartition(".")[2] for name in names} == expected
    for name in names:
        assert model.get_parameter(name).dim() == 3


class Quantized(nn.Module):
    """What quantizers put in the place of nn.Linear."""

    def __init__(self, attribute: str) -> None:
        super().__init__()
        self.in_features, self.out_features = 4, 2
        self.register_buffer(attribute, torch.zeros(2, 4, dtype=torch.int8))


@pytest.mark.parametrize("attribute", ["weight", "qweight", "W_q", "codes"])
def test_quantized_layers_are_linear(attribute: str) -> None:
    assert is_linear(Quantized(attribute))


@pytest.mark.parametrize(
    "module", [Quantized("other"), nn.Bilinear(2, 3, 4), nn.Embedding(2, 3), nn.Conv1d(1, 1, 1), nn.LayerNorm(2)]
)
def test_other_modules_are_not_linear(module: nn.Module) -> None:
    assert not is_linear(module)


def test_a_map_is_made_on_meta_and_of_copies() -> None:
    model = tiny_decoder()
    expected = map_modules(model)
    assert map_modules(copy.deepcopy(model)) == expected
    assert map_modules(nn.Module.to(model, "meta")) == expected


def test_an_adapter_on_a_bypassed_layer_is_refused() -> None:
    # LongCat's router multiplies with the classifier's weight itself, so the adapter would do nothing.
    model = build_tiny("longcat_flash")
    name = next(name for name, _ in model.named_modules() if name.endswith("router.classifier"))
    with pytest.raises(UnsupportedConfig, match=r"computes with the weight of '\S+router\.classifier' and never calls"):
        Swift.prepare_model(model, LoraConfig(r=2, target_modules=[name]))
