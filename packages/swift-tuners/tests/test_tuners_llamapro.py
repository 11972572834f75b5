"""LLaMA-Pro: new blocks start as the identity, count in caches and configs, and come off again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import CannotMerge, CheckpointMismatch, InvalidCheckpoint, UnsupportedConfig
from swift_tuners.models.tiny_architectures import build_tiny
from swift_tuners.testing import disturb, tiny_decoder, toy_mlp
from swift_tuners.tuners.llamapro import LLaMAProConfig
from torch import Tensor, nn
from transformers import PreTrainedModel

SIZES = {"vocab_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2}
WIDE = {**SIZES, "hidden_size": 32, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8}
IDS = torch.tensor([[5, 9, 33, 4, 60, 7], [8, 8, 12, 50, 3, 21]])


def build(kind: str, **options: object) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(pad_token_id=0, initializer_range=0.3, **options)
        name = {"GPT2": "GPT2LMHeadModel", "Bert": "BertForMaskedLM"}.get(kind, f"{kind}ForCausalLM")
        model: PreTrainedModel = getattr(transformers, name)(config).eval()
    return model


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: build("Llama", **WIDE),
    "qwen3": lambda: build("Qwen3", **WIDE),
    "gpt2": lambda: build("GPT2", vocab_size=64, n_embd=32, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=2),
    "mamba": lambda: build("Mamba", vocab_size=64, hidden_size=32, num_hidden_layers=4, state_size=4),
    "gemma2": lambda: build("Gemma2", sliding_window=4, **WIDE),
    "mixtral": lambda: build("Mixtral", num_local_experts=4, **WIDE),
}
# What writes into the residual stream there, read off transformers' files.
WRITERS = {
    "llama": {"self_attn.o_proj.weight", "mlp.down_proj.weight"},
    "qwen3": {"self_attn.o_proj.weight", "mlp.down_proj.weight"},
    "gpt2": {"attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"},
    "mamba": {"mixer.out_proj.weight"},
    "gemma2": {"self_attn.o_proj.weight", "mlp.down_proj.weight"},
    "mixtral": {"self_attn.o_proj.weight", "mlp.experts.down_proj"},
}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS).logits
    return found


def generate(model: nn.Module, **options: object) -> Tensor:
    found: Tensor = model.generate(IDS, max_new_tokens=6, do_sample=False, **options)  # type: ignore[operator]  # a model's
    return found


def zeroed_by(model: SwiftModel, host: nn.Module) -> set[str]:
    """Return the weights of the first new block that are zero, and not in the block that it is a copy of."""
    state = model.tuners["default"].state()
    _, layers = find(host)
    return {
        name.removeprefix("0.")
        for name, tensor in state.items()
        if name.startswith("0.")
        and not tensor.any()
        and (layers[1].get_parameter(name.removeprefix("0.")).any() or name.endswith("c_proj.bias"))
    }


def find(host: nn.Module) -> tuple[str, nn.ModuleList]:
    return next((name, each) for name, each in host.named_modules() if isinstance(each, nn.ModuleList))


@pytest.mark.parametrize("name", MODELS)
def test_new_blocks_live_a_whole_life(name: str, tmp_path: Path) -> None:
    host = MODELS[name]()
    plain, written, config = logits(host), generate(host), copy.deepcopy(host.config.to_dict())
    model = Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=2))
    assert zeroed_by(model, host) == WRITERS[name]
    assert torch.equal(logits(model), plain) and torch.equal(generate(model), written)
    assert host.config.num_hidden_layers == len(find(host)[1]) == 6
    disturb(model, scale=0.3)
    tuned = generate(model)
    assert not torch.equal(logits(model), plain)
    assert torch.equal(generate(model, use_cache=False), tuned), "the caches hold the new blocks' keys"
    model.deactivate()
    assert torch.equal(logits(model), plain) and torch.equal(generate(model), written)
    assert host.config.to_dict() == config and len(find(host)[1]) == 4
    model.activate("default")
    merged = model.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    merged.save_pretrained(tmp_path)
    again = type(merged).from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), logits(merged)) and torch.equal(generate(again), tuned)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Positions in the list of six that hold copies, and the host's blocks that they are copies of.
        ({"num_new_blocks": 2}, {2: 1, 5: 3}),
        ({"num_new_blocks": 2, "num_groups": 1}, {4: 2, 5: 3}),
        ({"num_new_blocks": 4}, {1: 0, 3: 1, 5: 2, 7: 3}),
    ],
)
def test_copies_of_the_last_blocks_of_each_group_follow_it(options: dict[str, int], expected: dict[int, int]) -> None:
    host = build("Llama", **WIDE)
    before = list(host.model.layers)
    Swift.prepare_model(host, LLaMAProConfig(**options))
    layers = list(host.model.layers)
    new = {index: block for index, block in enumerate(layers) if not any(block is each for each in before)}
    assert new.keys() == expected.keys()
    for index, source in expected.items():
        assert torch.equal(new[index].self_attn.q_proj.weight, before[source].self_attn.q_proj.weight)
    assert [block.self_attn.layer_idx for block in layers] == list(range(len(layers)))


def test_lists_in_the_config_grow_along() -> None:
    host = MODELS["gemma2"]()
    kinds = list(host.config.layer_types)
    model = Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=2))
    assert host.config.layer_types == [kinds[0], kinds[1], kinds[1], kinds[2], kinds[3], kinds[3]]
    model.unload()
    assert host.config.layer_types == kinds


def test_two_of_them_stack_and_come_off_in_any_order() -> None:
    host = build("Llama", **WIDE)
    plain = logits(host)
    model = Swift.prepare_model(host, {"first": LLaMAProConfig(num_new_blocks=2)})
    model = Swift.prepare_model(model, {"second": LLaMAProConfig(num_new_blocks=3)})
    disturb(model)
    model.set_active_tuners("second")
    second = logits(model)
    assert host.config.num_hidden_layers == 7
    model.detach("first")
    assert torch.equal(logits(model), second)
    assert [block.self_attn.layer_idx for block in host.model.layers] == list(range(7))
    model.unload()
    assert torch.equal(logits(host), plain)


def test_lora_given_first_still_adapts_the_new_blocks() -> None:
    host = build("Llama", **WIDE)
    model = Swift.prepare_model(
        host, {"lora": LoraConfig(target_modules="all-linear", r=2), "pro": LLaMAProConfig(num_new_blocks=2)}
    )
    blocks = {name.split(".")[2] for name in model.tuners["lora"].parameters()}
    assert blocks == {"0", "1", "2", "3", "4", "5"}
    disturb(model)
    before = logits(model)
    assert (logits(model.merge_and_unload()) - before).abs().max() < 1e-4


def test_blocks_that_cannot_be_the_identity_are_refused() -> None:
    # BERT norms the sum of input and branch, so a block always does something.
    host = build("Bert", hidden_size=32, intermediate_size=64, **SIZES)
    with pytest.raises(UnsupportedConfig, match="not the identity whatever weights are zero"):
        Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=2))


def test_a_model_that_its_config_cannot_describe_is_not_merged() -> None:
    # Its last block alone has a bias, by its place; a copy of the last one makes two.
    model = Swift.prepare_model(build_tiny("gpt_neox_japanese"), LLaMAProConfig(num_new_blocks=1))
    with pytest.raises(CannotMerge, match="dense_bias"):
        model.merge_and_unload()
    # Each block divides by its place, counted when it is made.
    host = build("GPT2", vocab_size=64, n_embd=32, n_layer=4, n_head=4, scale_attn_by_inverse_layer_idx=True)
    model = Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=2))
    with pytest.raises(CannotMerge, match="scaling"):
        model.merge_and_unload()
    assert host.config.num_hidden_layers == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_new_blocks": 4}, "at most 2"),
        ({"num_new_blocks": 0}, "positive multiple"),
        ({"num_new_blocks": 2, "num_groups": 3}, "positive multiple"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(tiny_decoder(), LLaMAProConfig(**options))


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="no list of blocks"):
        Swift.prepare_model(toy_mlp(), LLaMAProConfig())


def test_it_attaches_to_a_model_on_meta() -> None:
    with torch.device("meta"):
        host = build("Llama", **WIDE)
    model = Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=2))
    assert len(host.model.layers) == 6 and all(each.is_meta for each in model.tuners["default"].parameters().values())


class PackedLinear(nn.Module):
    """As quantizers have it: the weight is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.out_features = 8
        self.register_buffer("qweight", torch.zeros(8, 8, dtype=torch.int32))


class Mixture(nn.Module):
    """A block whose router sends all tokens to its first expert; experts are as `make_expert` makes them."""

    def __init__(self, make_expert: Callable[[], nn.Module], num_experts: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.experts = nn.ModuleList([make_expert() for _ in range(num_experts)])

    def forward(self, hidden: Tensor) -> Tensor:
        """Add what the first expert makes of it."""
        out: Tensor = hidden + self.experts[0](self.norm(hidden))
        return out


class Stack(nn.Module):
    """Blocks over an embedding, without a config."""

    def __init__(self, make_block: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 8)
        self.blocks = nn.ModuleList([make_block(), make_block()])

    def forward(self, ids: Tensor) -> Tensor:
        """Map (T,) to (T, 8)."""
        hidden: Tensor = self.embedding(ids)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Mean(Stack):
    """A model that counts its blocks."""

    def forward(self, ids: Tensor) -> Tensor:
        """Divide by the number of blocks."""
        out: Tensor = super().forward(ids) / len(self.blocks)
        return out


def test_the_host_is_refused_and_unchanged_where_it_depends_on_the_number_of_its_blocks() -> None:
    host = Mean(lambda: Mixture(lambda: nn.Linear(8, 8)))
    plain = host(torch.arange(4))
    with pytest.raises(UnsupportedConfig, match="depends on the number of its blocks"):
        Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=1))
    assert torch.equal(host(torch.arange(4)), plain) and len(host.blocks) == 2


def test_experts_that_no_token_reached_are_zeroed_like_the_others_and_only_their_last_layer() -> None:
    torch.manual_seed(0)
    host = Stack(lambda: Mixture(lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))))
    model = Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=1))
    zero = {name for name, each in model.tuners["default"].state().items() if not each.any()}
    last = {f"0.experts.{expert}.2.{kind}" for expert in (0, 1) for kind in ("weight", "bias")}
    assert zero - {"0.norm.bias"} == last


def test_quantized_blocks_are_refused() -> None:
    host = Stack(lambda: Mixture(PackedLinear))
    with pytest.raises(UnsupportedConfig, match=r"experts\.0' is quantized"):
        Swift.prepare_model(host, LLaMAProConfig(num_new_blocks=1))


@pytest.mark.parametrize("num_layers", [3, 5])
def test_a_checkpoint_fits_only_a_host_of_as_many_blocks(num_layers: int, tmp_path: Path) -> None:
    Swift.prepare_model(build("Llama", hidden_size=32, **SIZES), LLaMAProConfig(num_new_blocks=1)).save_pretrained(
        tmp_path
    )
    Swift.from_pretrained(build("Llama", hidden_size=32, **SIZES), tmp_path)
    other = build("Llama", hidden_size=32, **{**SIZES, "num_hidden_layers": num_layers})
    with pytest.raises(CheckpointMismatch, match=f"a model with 4 blocks, this one has {num_layers}"):
        Swift.from_pretrained(other, tmp_path)
    assert len(find(other)[1]) == num_layers


def test_a_checkpoint_whose_number_of_blocks_is_damaged_is_refused(tmp_path: Path) -> None:
    Swift.prepare_model(build("Llama", hidden_size=32, **SIZES), LLaMAProConfig(num_new_blocks=1)).save_pretrained(
        tmp_path
    )
    path = tmp_path / "tuner_config.json"
    path.write_text(path.read_text().replace('"host_blocks": 4', '"host_blocks": "4"'))
    with pytest.raises(InvalidCheckpoint, match="host_blocks of a llamapro tuner is '4'"):
        Swift.from_pretrained(build("Llama", hidden_size=32, **SIZES), tmp_path)
