"""Which optimizer a name means, what its state takes by the papers' formulas, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from swift_templates.errors import MissingDependency
from swift_train.errors import InvalidTrainArgs
from swift_train.optimizer import OPTIMIZERS, build_optimizer, count_state_bytes, predict_state_bytes
from swift_train.optimizer_args import (
    OptimizerArgs,
    find_optimizer_options_without_effect,
    read_options,
    resolve_optimizer,
)
from swift_train.optimizer_testing import OptimizerToy, make_groups, run_steps
from swift_train.optimizers.apollo import ApolloOptions
from swift_train.optimizers.muon import MuonOptions
from swift_train.parameter_places import OptimizerGroup, split_by_part
from swift_train.transformers_optimizer import transformers_optimizers
from swift_tuners import Swift
from swift_tuners.testing.models import tiny_decoder, tiny_vlm
from swift_tuners.tuners.full import FullConfig
from swift_tuners.tuners.lora import LoraArgs
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

M, N, R = 96, 160, 8

# What this machine lacks: packages that are no dependency of ours, and hardware.
ELSEWHERE = {
    "adalomo": "lomo_optim",
    "adamw_anyprecision": "torchdistx",
    "adamw_torch_npu_fused": "torch_npu",
    "adamw_torch_xla": "torch_xla",
    "galore_adafactor": "galore_torch",
    "galore_adafactor_layerwise": "galore_torch",
    "galore_adamw_8bit": "galore_torch",
    "galore_adamw_8bit_layerwise": "galore_torch",
    "grokadamw": "grokadamw",
    "lomo": "lomo_optim",
    "paged_ademamix_32bit": "use --optim ademamix$",
    "paged_ademamix_8bit": "use --optim ademamix_8bit",
    "paged_lion_32bit": "use --optim lion_32bit",
    "paged_lion_8bit": "use --optim lion_8bit",
    "schedule_free_adamw": "schedulefree",
    "schedule_free_radam": "schedulefree",
    "schedule_free_sgd": "schedulefree",
    "stable_adamw": "torch-optimi",
}


@pytest.mark.parametrize(
    ("args", "name", "layerwise"),
    [
        (OptimizerArgs(), "adamw", False),
        (OptimizerArgs(optim="adamw_torch_fused"), "adamw", False),
        (OptimizerArgs(optim="AdamW-8bit"), "adamw_8bit", False),
        (OptimizerArgs(optim="adamw_bnb_8bit"), "adamw_8bit", False),
        (OptimizerArgs(use_galore=True), "galore", False),
        (OptimizerArgs(use_galore=True, galore_quantization=True), "q_galore", False),
        (OptimizerArgs(optim="galore", galore_quantization=True), "q_galore", False),
        (OptimizerArgs(optim="q_galore", use_galore=True), "q_galore", False),
        (OptimizerArgs(optim="galore_adamw"), "galore", False),
        (OptimizerArgs(optim="galore_adamw_layerwise"), "galore", True),
        (OptimizerArgs(optim="apollo_adamw_layerwise"), "apollo", True),
        (OptimizerArgs(use_galore=True, galore_optim_per_parameter=True), "galore", True),
        (OptimizerArgs(optim="galore_adamw_8bit"), "galore_adamw_8bit", False),
        (OptimizerArgs(optim="sgd"), "sgd", False),
    ],
)
def test_a_name_means_a_file_or_is_passed_on(args: OptimizerArgs, name: str, layerwise: bool) -> None:
    resolved = resolve_optimizer(args)
    assert (resolved.optim, resolved.galore_optim_per_parameter) == (name, layerwise)
    assert resolve_optimizer(resolved) == resolved


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim": "lion", "use_galore": True}, "use_galore is true beside optim 'lion'"),
        ({"galore_int8_weights": True}, "add --galore_quantization true"),
        ({"galore_rank": 0}, "galore_rank is 0; expected 1 or more"),
        ({"galore_update_proj_gap": 0}, "galore_update_proj_gap is 0"),
        ({"galore_proj_group_size": 33}, "galore_proj_group_size is 33; expected an even number"),
        ({"galore_gamma_proj": math.nan}, "galore_gamma_proj is nan"),
        ({"adam_beta2": 1.0}, "adam_beta2 is 1.0; expected 0 or more, below 1"),
        ({"vit_lr": -1.0}, "vit_lr is -1.0; expected a positive number"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTrainArgs, match=message):
        resolve_optimizer(OptimizerArgs(**options))


def test_transformers_spelling_of_galores_options_is_read() -> None:
    resolved = resolve_optimizer(
        OptimizerArgs(optim="galore_adamw", optim_args="rank=64, update_proj_gap=100, scale=0.10, proj_type=left")
    )
    assert (resolved.galore_rank, resolved.galore_update_proj_gap, resolved.galore_scale) == (64, 100, 0.1)
    assert (resolved.galore_proj_type, resolved.optim_args) == ("left", None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"use_galore": True, "galore_rank": 8, "adam_beta1": 0.8}, []),
        ({"galore_rank": 8}, ["galore_rank without --use_galore true"]),
        ({"optim": "apollo", "galore_with_embedding": True}, []),
        ({"optim": "lion", "adam_beta2": 0.9}, ["adam_beta2 without an --optim that derives from Adam"]),
        ({"use_galore": True, "galore_queue_size": 8}, ["galore_queue_size without --galore_quantization true"]),
        ({"optim": "muon", "galore_target_modules": ["q"]}, ["galore_target_modules without --optim galore or apollo"]),
        ({"galore_quantization": True}, ["galore_quantization without --use_galore true"]),
    ],
)
def test_options_without_effect_are_found(options: dict[str, Any], expected: list[str]) -> None:
    assert find_optimizer_options_without_effect(OptimizerArgs(**options)) == expected


def test_further_options_are_read_by_their_types() -> None:
    assert read_options(ApolloOptions, "rank=4, scale=2", optimizer="apollo") == ApolloOptions(rank=4, scale=2.0)
    assert read_options(MuonOptions, "nesterov=false,adjust_lr=original", optimizer="muon") == MuonOptions(
        nesterov=False, adjust_lr="original"
    )
    assert read_options(ApolloOptions, None, optimizer="apollo") == ApolloOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnk=4", "holds 'rnk=4'; expected name=value, and did you mean 'rank'"),
        ("rank", "holds 'rank'; expected name=value"),
        ("rank=many", "rank='many' in optim_args; expected a whole number"),
        ("scale=big", "scale='big' in optim_args; expected a number"),
        ("rank=0", "expected rank and update_proj_gap of 1 or more"),
    ],
)
def test_wrong_further_options_are_refused(text: str, message: str) -> None:
    model = OptimizerToy()
    with pytest.raises(InvalidTrainArgs, match=message):
        build_optimizer("apollo", model, make_groups(model, 1e-3, 0.0), OptimizerArgs(optim_args=text))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("adamw", "rank=4", "holds 'rank=4'; expected none: it has no further options"),
        ("galore", "rank=x", "rank='x' in optim_args; expected a whole number"),
        ("galore", "proj_type=up", "galore_proj_type is 'up'; expected std"),
        ("apollo", "proj=svd", "proj random and proj_type std"),
        ("muon", "nesterov=maybe", "nesterov='maybe' in optim_args; expected true or false"),
        ("muon", "adjust_lr=none", "optimizer 'muon' cannot be used"),
        ("badam", "switch_mode=upwards", "expected switch_interval of 1 or more and switch_mode random"),
        ("apollo_mini", "update_proj_gap=0", "expected update_proj_gap of 1 or more"),
    ],
)
def test_wrong_words_are_refused(name: str, text: str, message: str) -> None:
    model = OptimizerToy()
    with pytest.raises(InvalidTrainArgs, match=message):
        build_optimizer(name, model, make_groups(model, 1e-3, 0.0), OptimizerArgs(optim_args=text))


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    model = OptimizerToy()
    with pytest.raises(InvalidTrainArgs, match=r"optim 'galor' is unknown; did you mean 'galore'"):
        build_optimizer("galor", model, make_groups(model, 1e-3, 0.0), OptimizerArgs())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has pages")
@pytest.mark.parametrize(
    ("name", "instead"),
    [("paged_adamw_8bit", "adamw_8bit"), ("paged_adamw_32bit", "adamw")],
)
def test_pages_need_a_gpu(name: str, instead: str) -> None:
    model = OptimizerToy()
    with pytest.raises(InvalidTrainArgs, match=f"optim is '{name}'.*use --optim {instead}"):
        build_optimizer(name, model, make_groups(model, 1e-3, 0.0), OptimizerArgs())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has pages")
@pytest.mark.parametrize("name", sorted(set(transformers_optimizers()) - set(OPTIMIZERS.names())))
def test_what_transformers_knows_is_built_or_refused_with_its_reason(name: str) -> None:
    model = OptimizerToy()
    groups = make_groups(model, 1e-3, 0.1)
    if name in ELSEWHERE:
        with pytest.raises(InvalidTrainArgs, match=f"'{name}'.*{ELSEWHERE[name]}"):
            build_optimizer(name, model, groups, OptimizerArgs())
        return
    optimizer = build_optimizer(name, model, groups, OptimizerArgs(galore_rank=8))
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (1e-3, 0.1)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adamw_torch"])
def test_what_is_passed_on_trains(name: str) -> None:
    model = OptimizerToy()
    begin = model.lm_head.weight.detach().clone()
    args = OptimizerArgs(optim_args="momentum=0.5" if name == "sgd" else None)
    optimizer = build_optimizer(name, model, make_groups(model, 1e-2, 0.0), args)
    assert predict_state_bytes(name, model, make_groups(model, 1e-2, 0.0), args) is None
    run_steps(model, optimizer, 0, 2)
    assert not torch.equal(model.lm_head.weight, begin)
    assert name != "sgd" or optimizer.param_groups[0]["momentum"] == 0.5


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    for module in ("adamw_8bit", "_bitsandbytes"):
        monkeypatch.delitem(sys.modules, f"swift_train.optimizers.{module}", raising=False)
    model = OptimizerToy()
    with pytest.raises(MissingDependency, match="bitsandbytes is needed by optimizer 'adamw_8bit'; pip install"):
        build_optimizer("adamw_8bit", model, make_groups(model, 1e-3, 0.0), OptimizerArgs())


# Bytes of the state of one weight of M rows and N columns, M < N, without step counts.
FORMULAS = {
    "adamw": 4 * 2 * M * N,
    # Two bytes per number, two float32 scales per 256: arXiv 2110.02861; and the two maps of 256 codes, once.
    "adamw_8bit": 2 * M * N + 2 * 4 * M * N // 256 + 2 * 4 * 256,
    # Rows and columns, and the size of the parameter: arXiv 1804.04235.
    "adafactor": 4 * (M + N + 1),
    # m r + 2 n r: arXiv 2403.03507, table 1.
    "galore": 4 * (M * R + 2 * N * R),
    # The same with m r numbers of 4 bits; n r is below bitsandbytes' 4096, so its moments are float32.
    "q_galore": M * R // 2 + 5 * M * R // 256 + 8 * N * R,
    # 2 n r + 2: arXiv 2412.05270, table 1; the seed is no tensor.
    "apollo": 4 * (2 * N * R + 1),
    "apollo_mini": 4 * (2 * N + 1),
    # One momentum: Muon, and arXiv 2302.06675.
    "muon": 4 * M * N,
    "lion": 4 * M * N,
    # One moment, and one number per output neuron: arXiv 2406.16793.
    "adam_mini": 4 * (M * N + M),
}


@pytest.mark.parametrize(("name", "expected"), FORMULAS.items())
def test_state_takes_the_bytes_of_the_papers_formula(name: str, expected: int) -> None:
    model = nn.Sequential(nn.Linear(N, M, bias=False))
    groups = make_groups(model, 1e-3, 0.0)
    args = OptimizerArgs(galore_rank=R, optim_args=f"rank={R}" if name == "apollo" else None)
    predicted = predict_state_bytes(name, model, groups, args)
    optimizer = build_optimizer(name, model, groups, args)
    model[0].weight.grad = torch.randn(M, N)
    optimizer.step()
    steps = 4 if name == "adamw" else 0
    assert count_state_bytes(optimizer) == predicted == expected + steps


def test_badam_holds_one_block() -> None:
    # 8 bytes per number of the active block instead of all: arXiv 2404.02827, section 2.2, without gradients.
    model = tiny_decoder()
    groups = make_groups(model, 1e-3, 0.0)
    layer = sum(each.numel() for each in model.model.layers[0].parameters())
    rest = sum(each.numel() for each in model.parameters()) - 2 * layer
    assert predict_state_bytes("badam", model, groups, OptimizerArgs()) == 8 * max(layer, rest)


def test_a_model_of_one_block_is_not_for_badam() -> None:
    model = nn.Sequential(nn.Linear(N, M))
    with pytest.raises(InvalidTrainArgs, match="one block that trains"):
        build_optimizer("badam", model, make_groups(model, 1e-3, 0.0), OptimizerArgs())


def named(model: nn.Module, optimizer: torch.optim.Optimizer, key: str) -> set[str]:
    """Return the names of the parameters whose group has a key."""
    chosen = {id(each) for group in optimizer.param_groups if key in group for each in group["params"]}
    return {name for name, each in model.named_parameters() if id(each) in chosen}


@pytest.mark.parametrize(
    ("targets", "with_embedding", "expected"),
    [
        (["all-linear"], False, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (["self_attn"], False, {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (["q_proj", "mlp.up_proj"], False, {"q_proj", "up_proj"}),
        (["q_proj"], True, {"q_proj", "embed_tokens", "lm_head"}),
        (["lm_head"], False, {"lm_head"}),
    ],
)
def test_targets_choose_weights_of_linear_layers(targets: list[str], with_embedding: bool, expected: set[str]) -> None:
    model = tiny_decoder(tie_word_embeddings=False)
    args = OptimizerArgs(galore_target_modules=targets, galore_with_embedding=with_embedding)
    optimizer = build_optimizer("galore", model, make_groups(model, 1e-3, 0.0), args)
    found = named(model, optimizer, "rank")
    assert {name.split(".")[-2] for name in found} == expected
    assert all(name.endswith(".weight") for name in found)


def test_targets_that_choose_nothing_are_refused() -> None:
    model = tiny_decoder()
    with pytest.raises(InvalidTrainArgs, match="'qproj' chooses no weight of a linear layer"):
        build_optimizer("galore", model, make_groups(model, 1e-3, 0.0), OptimizerArgs(galore_target_modules=["qproj"]))


def test_galore_refuses_adapters_which_are_of_low_rank_already() -> None:
    model = Swift.prepare_model(tiny_decoder(), LoraArgs().build_config())
    groups: list[OptimizerGroup] = [{**group, "weight_decay": 0.0} for group in model.param_groups(1e-3)]
    with pytest.raises(InvalidTrainArgs, match="such as --tuner full"):
        build_optimizer("galore", model, groups, OptimizerArgs())


def test_weights_in_8_bits_are_saved_by_a_tuner_as_floats(tmp_path: Path) -> None:
    model = Swift.prepare_model(tiny_decoder(), FullConfig(restorable=False))
    groups: list[OptimizerGroup] = [{**group, "weight_decay": 0.0} for group in model.param_groups(1e-3)]
    optimizer = build_optimizer("q_galore", model, groups, OptimizerArgs(galore_int8_weights=True, galore_rank=4))
    tokens = torch.randint(3, 64, (2, 7))
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    answer = model(input_ids=tokens).logits
    model.save_pretrained(tmp_path)
    loaded = Swift.from_pretrained(tiny_decoder(), tmp_path)
    torch.testing.assert_close(loaded(input_ids=tokens).logits, answer, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_towers_and_projectors_have_rates_of_their_own(tuner: str) -> None:
    if tuner == "full":
        config: Any = FullConfig(freeze_vit=False, freeze_aligner=False)
    else:
        config = LoraArgs(target_regex=".*(q_proj|linear_1)", lorap_lr_ratio=16.0).build_config()
    model = Swift.prepare_model(tiny_vlm(), config)
    groups: list[OptimizerGroup] = [{**group, "weight_decay": 0.1} for group in model.param_groups(1e-3)]
    split = split_by_part(model, groups, learning_rate=1e-3, vit_lr=1e-5, aligner_lr=1e-4)
    rates = {id(each): group["lr"] for group in split for each in group["params"]}
    assert sum(len(group["params"]) for group in split) == sum(len(group["params"]) for group in groups)
    seen = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "vision" if "vision" in name else "projector" if "projector" in name else "language"
        seen.add(part)
        ratio = 16.0 if "lora_B" in name else 1.0
        rate = {"vision": 1e-5, "projector": 1e-4, "language": 1e-3}[part]
        assert rates[id(parameter)] == pytest.approx(rate * ratio)
    assert seen == {"vision", "projector", "language"}


def test_rates_of_parts_that_do_not_train_are_refused() -> None:
    model = Swift.prepare_model(tiny_vlm(), FullConfig(freeze_aligner=False))
    groups: list[OptimizerGroup] = [{**group, "weight_decay": 0.1} for group in model.param_groups(1e-3)]
    with pytest.raises(InvalidTrainArgs, match="vit_lr is 1e-05, and no vision parameter trains"):
        split_by_part(model, groups, learning_rate=1e-3, vit_lr=1e-5, aligner_lr=None)
    assert split_by_part(model, groups, learning_rate=1e-3, vit_lr=None, aligner_lr=None) == groups


def test_gpt2s_transposed_weights_have_their_neurons_in_columns() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=4, n_embd=32, vocab_size=48, n_positions=16))
    optimizer: Any = build_optimizer("adam_mini", model, make_groups(model, 1e-3, 0.0), OptimizerArgs())
    tokens = torch.randint(0, 48, (2, 5))
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    sizes = {
        name: len(optimizer.state[each]["exp_avg_sq"]) for name, each in model.named_parameters() if each.ndim == 2
    }
    block = "transformer.h.0."
    # Queries, keys and values: 12 heads of 8; 32 and 128 neurons; 48 tokens and 16 positions.
    assert sizes == {
        "transformer.wte.weight": 48,
        "transformer.wpe.weight": 16,
        f"{block}attn.c_attn.weight": 12,
        f"{block}attn.c_proj.weight": 32,
        f"{block}mlp.c_fc.weight": 128,
        f"{block}mlp.c_proj.weight": 32,
    }


def test_sparse_gradients_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True))
    optimizer = build_optimizer("lion", model, make_groups(model, 1e-3, 0.0), OptimizerArgs())
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(InvalidTrainArgs, match=r"sparse gradient of a parameter of shape \(10, 4\)"):
        optimizer.step()


def test_helps_need_no_torch() -> None:
    code = "import sys, swift_train.optimizer_args; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
