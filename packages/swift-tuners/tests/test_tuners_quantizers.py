"""LoRA on quantized bases keeps the laws and trains, with the real libraries, on a Llama built in code."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift, SwiftModel, TunerConfig
from swift_tuners.errors import CannotMerge, UnsupportedConfig
from swift_tuners.quantized_layers import dequantize_model
from swift_tuners.quantizer import plan_loading, quantizer_of
from swift_tuners.quantizer_args import QuantizationArgs
from swift_tuners.targets import find_targets
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

NUM_LAYERS = 2
LINEARS_IN_A_LAYER = 7


@dataclass(frozen=True)
class Case:
    """A quantized base: what quantizes it, and what is expected of it."""

    package: str
    args: QuantizationArgs | None = None
    """None for a folder that is quantized already."""
    saved: bool = False
    """The loaded model can be saved."""
    rounding: float = 1e-5
    """Largest relative difference between a layer and a plain one of the same weights; float32 makes about 1e-6."""
    make_folder: str = "float_folder"
    """The fixture that makes the folder."""


def quantized(method: str, bits: int, **options: Any) -> QuantizationArgs:  # noqa: ANN401  # any option
    return QuantizationArgs(quant_method=method, quant_bits=bits, **options)


# bitsandbytes' 8-bit layers round their inputs to 8 bits as well: half a step of 1/127 in each.
INT8_INPUTS = 0.02

CASES = {
    "bnb 4 bits": Case("bitsandbytes", quantized("bnb", 4), saved=True),
    "bnb 4 bits, fp4": Case(
        "bitsandbytes",
        quantized("bnb", 4, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False),
        saved=True,
    ),
    "bnb 8 bits": Case("bitsandbytes", quantized("bnb", 8), saved=True, rounding=INT8_INPUTS),
    "hqq 4 bits": Case("hqq", quantized("hqq", 4)),
    "hqq 8 bits": Case("hqq", quantized("hqq", 8, quant_group_size=128)),
    "torchao 4 bits": Case("torchao", quantized("torchao", 4), saved=True),
    "torchao 8 bits": Case("torchao", quantized("torchao", 8), saved=True),
    "aqlm": Case("aqlm", make_folder="aqlm_folder"),
    "gptq": Case("gptqmodel", make_folder="gptq_folder", rounding=1e-3),
    "awq": Case("gptqmodel", make_folder="awq_folder", rounding=1e-3),
}

on_each_base = pytest.mark.parametrize("base", CASES, indirect=True)


@dataclass(frozen=True)
class Base:
    """A case whose folder is there."""

    case: Case
    load: Callable[[], PreTrainedModel]
    folder: Path


@pytest.fixture
def base(request: pytest.FixtureRequest) -> Base:
    case = CASES[request.param]
    if importlib.util.find_spec(case.package) is None:
        pytest.skip(f"{case.package} is not installed: gptqmodel needs an environment of its own")
    folder: Path = request.getfixturevalue(case.make_folder)
    return Base(case, lambda: load(folder, case.args), folder)


def load(folder: Path, args: QuantizationArgs | None, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    plan = plan_loading(folder, args, dtype=dtype)
    config = AutoConfig.from_pretrained(folder)
    plan.adapt_config(config)
    options = cast("dict[str, Any]", plan.options)
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype, device_map="cpu", **options)
    plan.finish(model)
    return cast("PreTrainedModel", model.eval())


def build_llama() -> PreTrainedModel:
    # 128 and 256 are multiples of every group size here; gptqmodel's AWQ wants 64 outputs in each layer.
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float")
    build_llama().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def aqlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as AQLM's tool writes it, with random codes and codebooks: the tool itself needs a GPU."""
    from safetensors.torch import save_file

    model = build_llama()
    generator = torch.Generator().manual_seed(3)
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("_proj.weight")}
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            rows, columns = cast("nn.Linear", module).weight.shape
            state[f"{name}.codebooks"] = 0.05 * torch.randn(1, 1024, 1, 8, generator=generator)
            state[f"{name}.codes"] = torch.randint(-512, 512, (rows, columns // 8, 1), generator=generator).short()
            state[f"{name}.scales"] = 0.5 + torch.rand(rows, 1, 1, 1, generator=generator)
    folder = tmp_path_factory.mktemp("aqlm")
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    settings = {
        "quant_method": "aqlm",
        "in_group_size": 8,
        "out_group_size": 1,
        "num_codebooks": 1,
        "nbits_per_codebook": 10,
        "linear_weights_not_to_quantize": ["lm_head.weight"],
    }
    config = model.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def gptq_folder(tmp_path_factory: pytest.TempPathFactory, float_folder: Path) -> Path:
    return quantize_with_gptqmodel("gptq", "gptq", float_folder, tmp_path_factory.mktemp("gptq"))


@pytest.fixture(scope="session")
def awq_folder(tmp_path_factory: pytest.TempPathFactory, float_folder: Path) -> Path:
    return quantize_with_gptqmodel("awq", "gemm", float_folder, tmp_path_factory.mktemp("awq"))


def quantize_with_gptqmodel(method: str, layout: str, source: Path, target: Path) -> Path:
    """Quantize with the library's own calibration, on random tokens."""
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    if not (source / "tokenizer.json").exists():
        words = Tokenizer(WordLevel({f"w{number}": number for number in range(64)}, unk_token="w0"))
        PreTrainedTokenizerFast(
            tokenizer_object=words, unk_token="w0", bos_token="w1", eos_token="w2", pad_token="w3"
        ).save_pretrained(source)
    config = QuantizeConfig(bits=4, group_size=32, quant_method=method, format=layout, device="cpu")
    model = GPTQModel.load(str(source), config)
    rows = [
        {
            "input_ids": torch.randint(3, 64, (1, 64), generator=torch.Generator().manual_seed(seed)),
            "attention_mask": torch.ones(1, 64, dtype=torch.long),
        }
        for seed in range(16)
    ]
    # Left to choose, AWQ looks for CUDA.
    model.quantize(rows, batch_size=1, backend=BACKEND.AWQ_TORCH if method == "awq" else BACKEND.AUTO)
    model.save(str(target))
    return target


def tokens() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(3, 64, (2, 16), generator=torch.Generator().manual_seed(1))}


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model(**tokens()).logits
    return answer


def lora() -> LoraConfig:
    return LoraConfig(r=8, target_modules="all-linear")


def train(model: SwiftModel, num_steps: int = 6) -> list[float]:
    optimizer = torch.optim.AdamW([dict(group) for group in model.param_groups(learning_rate=1e-2)])
    model.train()
    losses = []
    for _ in range(num_steps):
        loss = model(**tokens(), labels=tokens()["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def evaluate(model: nn.Module) -> float:
    with torch.no_grad():
        loss: float = model(**tokens(), labels=tokens()["input_ids"]).loss.item()
    return loss


def quantized_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if quantizer_of(module) is not None}


def dequantized(layer: nn.Module) -> torch.Tensor:
    quantizer = quantizer_of(layer)
    assert quantizer is not None
    return quantizer.dequantize(layer)


@on_each_base
def test_every_linear_layer_but_the_head_is_quantized_and_found(base: Base) -> None:
    model = base.load()
    found = find_targets(model, "all-linear")
    assert found == list(quantized_layers(model))
    assert len(found) == NUM_LAYERS * LINEARS_IN_A_LAYER


@on_each_base
def test_loss_falls_and_a_fresh_base_with_the_saved_adapter_answers_bit_for_bit(base: Base, tmp_path: Path) -> None:
    host = base.load()
    modules, keys = dict(host.named_modules()), list(host.state_dict())
    attributes = {name: set(vars(module)) for name, module in modules.items()}
    # Evaluating first is what users do, and what made bitsandbytes repack its weights.
    plain = logits(host)
    before = {name: dequantized(layer) for name, layer in quantized_layers(host).items()}
    model = Swift.prepare_model(host, lora())
    losses = train(model)
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]
    # In training as in evaluation, also after an evaluation: this lora has no dropout.
    evaluated = evaluate(model)
    assert train(model, num_steps=1) == [pytest.approx(evaluated, rel=base.case.rounding)]
    model.save_pretrained(tmp_path)
    trained = logits(model)
    assert torch.equal(logits(Swift.from_pretrained(base.load(), tmp_path)), trained)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), trained)
    twin.unload()
    model.deactivate()
    assert torch.equal(logits(model), plain)
    assert model.unload() is host
    assert dict(host.named_modules()) == modules and list(host.state_dict()) == keys
    assert {name: set(vars(module)) for name, module in modules.items()} == attributes
    assert torch.equal(logits(host), plain)
    assert all(torch.equal(dequantized(layer), before[name]) for name, layer in quantized_layers(host).items())


@on_each_base
def test_loss_falls_in_bfloat16(base: Base) -> None:
    model = Swift.prepare_model(load(base.folder, base.case.args, torch.bfloat16), lora())
    losses = train(model, num_steps=4)
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1


@on_each_base
def test_a_layer_answers_and_returns_gradients_as_its_weights_say(base: Base) -> None:
    layer = base.load().get_submodule("model.layers.0.mlp.down_proj")
    weight = dequantized(layer)
    inputs = torch.randn(32, weight.shape[1], generator=torch.Generator().manual_seed(4)).requires_grad_()
    direction = torch.randn(32, weight.shape[0], generator=torch.Generator().manual_seed(5))
    output = layer(inputs)
    output.backward(direction)
    assert inputs.grad is not None
    assert relative(output, inputs @ weight.T) < base.case.rounding
    assert relative(inputs.grad, direction @ weight) < base.case.rounding


def test_the_weights_of_aqlm_are_its_codebooks_vectors_times_the_scales(aqlm_folder: Path) -> None:
    pytest.importorskip("aqlm")
    layer = cast("Any", load(aqlm_folder, None).get_submodule("model.layers.1.mlp.up_proj"))
    # The paper's definition: each group of 8 weights is the vector that its code names; negative codes wrap around.
    vectors = layer.codebooks[0, layer.codes[:, :, 0].long() % 1024, 0]
    assert relative(dequantized(layer), vectors.flatten(1) * layer.scales.flatten(1)) < 1e-6


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@on_each_base
def test_a_dequantized_base_takes_the_adapter_and_merges_it_exactly(base: Base, tmp_path: Path) -> None:
    model = Swift.prepare_model(base.load(), lora())
    train(model)
    model.save_pretrained(tmp_path / "adapter")
    plain = dequantize_model(base.load())
    assert not quantized_layers(plain)
    tuned = Swift.from_pretrained(plain, tmp_path / "adapter")
    assert relative(logits(tuned), logits(model)) < 5 * base.case.rounding
    unmerged = logits(tuned)
    merged = cast("PreTrainedModel", Swift.merge(tuned))
    assert relative(logits(merged), unmerged) < 1e-5
    merged.save_pretrained(tmp_path / "merged")
    assert torch.equal(logits(load(tmp_path / "merged", None)), logits(merged))


@on_each_base
def test_nothing_is_merged_into_a_quantized_base(base: Base) -> None:
    model = Swift.prepare_model(base.load(), lora())
    train(model)
    before = logits(model)
    with pytest.raises(
        CannotMerge, match=r"rounding would undo it; merge into the unquantized model, or call .*dequant"
    ):
        Swift.merge(model)
    assert torch.equal(logits(model), before)


@on_each_base
def test_a_base_is_saved_only_where_it_can_be_read_again(base: Base, tmp_path: Path) -> None:
    model = base.load()
    if base.case.saved:
        expected = logits(model)
        model.save_pretrained(tmp_path)
        assert torch.equal(logits(load(tmp_path, None)), expected)
        return
    with pytest.raises(UnsupportedConfig, match=r"cannot be saved.*copy the files of"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


# q_proj alone: the layers of one kind behave alike, and the head is none of them.
METHODS: dict[str, Callable[[], TunerConfig]] = {
    "dora": lambda: LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=["q_proj"]),
    "lokr": lambda: peft.LoKrConfig(r=4, target_modules=["q_proj"]),
    "oft": lambda: peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4, use_cayley_neumann=False),
    "adalora": lambda: peft.AdaLoraConfig(target_modules=["q_proj"], total_step=100),
    "hra": lambda: peft.HRAConfig(r=4, target_modules=["q_proj"]),
    "shira": lambda: peft.ShiraConfig(r=4, target_modules=["q_proj"]),
    "hira": lambda: peft.HiraConfig(r=4, target_modules=["q_proj"]),
}

# What PEFT 0.21.2 cannot do: it has no layer for it (hqq, gptq, awq), or takes packed numbers for weights (bnb).
REFUSED = {
    "bnb 4 bits": {"loha", "lokr", "hra"},
    "bnb 8 bits": {"hra"},
    "hqq 4 bits": {"ia3", "loha", "lokr", "adalora", "hra", "hira"},
    "torchao 8 bits": {"hra", "hira"},
    "gptq": {"dora", "ia3", "loha", "lokr", "adalora", "hra", "hira"},
    "awq": {"dora", "ia3", "loha", "lokr", "adalora", "hra", "shira", "hira"},
}


@pytest.mark.parametrize("base", REFUSED, indirect=True)
def test_a_method_trains_on_a_quantized_base_or_is_refused_and_leaves_it_alone(
    base: Base, request: pytest.FixtureRequest
) -> None:
    host = base.load()
    plain, keys = logits(host), list(host.state_dict())
    refused = set()
    for name, make_config in METHODS.items():
        try:
            model = Swift.prepare_model(host, make_config())
        except UnsupportedConfig:
            refused.add(name)
        else:
            losses = train(model, num_steps=3)
            assert losses[2] < losses[1] < losses[0], name
            model.unload()
        assert torch.equal(logits(host), plain) and list(host.state_dict()) == keys, name
    assert refused == REFUSED[request.node.callspec.params["base"]]


def test_a_method_that_would_take_packed_numbers_for_weights_is_refused_with_the_reason(float_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    # HRA multiplies with the 8-bit integers as they are, a hundred times too large, and trains on without a word.
    with pytest.raises(
        UnsupportedConfig, match="hra does not work on layers that are quantized with bnb: its output is"
    ):
        Swift.prepare_model(load(float_folder, quantized("bnb", 8)), METHODS["hra"]())
