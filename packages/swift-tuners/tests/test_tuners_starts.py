"""LoRA that starts from the base weights or from data: the host comes back, PEFT agrees, a run goes on where it was."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora.config import CordaConfig
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import CannotMerge, InvalidCheckpoint, UnsupportedConfig
from swift_tuners.peft_kinds import load_peft_tuner
from swift_tuners.peft_lora_plus import LoraPlusConfig
from swift_tuners.testing import (
    answer,
    check_tuner,
    disturb,
    tiny_decoder,
    tiny_decoder_inputs,
    toy_mlp,
    toy_mlp_inputs,
)
from torch import Tensor, nn

TAKES_A_PART = ("pissa", "pissa_niter_4", "olora")
# A start takes a float32 weight apart, and each forward puts it together: two roundings of 6e-8, over some layers.
ROUNDING = 1e-5
Config = Callable[[], LoraConfig]


def start(name: str, **options: Any) -> Config:  # noqa: ANN401  # whatever PEFT's config takes
    def make_config() -> LoraConfig:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return LoraConfig(
                **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": name, **options}
            )

    return make_config


def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [{"input_ids": torch.randint(3, 64, (1, 40), generator=generator)} for _ in range(4)]


def resume(host: nn.Module, folder: Path) -> SwiftModel:
    tuner, model = load_peft_tuner(folder, name="default"), SwiftModel(host)
    tuner.trainable = True
    model.attach(tuner)
    tuner.load(folder)
    return model


def train(model: SwiftModel, optimizer: torch.optim.Optimizer, num_steps: int) -> None:
    inputs = tiny_decoder_inputs()
    for _ in range(num_steps):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def adam(model: SwiftModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW([dict(group) for group in model.param_groups(1e-2)])


def same_tensors(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def by_our_names(model: nn.Module) -> dict[str, Tensor]:
    return {key.removeprefix("base_model.model."): tensor for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", TAKES_A_PART)
def test_a_start_that_takes_a_part_of_the_weights_keeps_the_laws(name: str) -> None:
    check_tuner(start(name), toy_mlp, toy_mlp_inputs(), several=False, start_tolerance=ROUNDING)


def test_pissa_keeps_the_laws_on_a_decoder() -> None:
    check_tuner(start("pissa"), tiny_decoder, tiny_decoder_inputs(), several=False, start_tolerance=ROUNDING)


@pytest.mark.parametrize("name", ["pissa", "olora"])
@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 3}}],
    ids=["plain", "rslora", "patterns"],
)
def test_starts_are_those_of_plain_peft(name: str, options: dict[str, object]) -> None:
    model = Swift.prepare_model(tiny_decoder(), start(name, **options)())
    theirs = by_our_names(peft.get_peft_model(tiny_decoder(), start(name, **options)()))
    ours = model.host.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 3}}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_run_goes_on_bit_for_bit_from_its_checkpoint(
    options: dict[str, object], dtype: torch.dtype, tmp_path: Path
) -> None:
    model = Swift.prepare_model(tiny_decoder(dtype=dtype), start("pissa", **options)())
    optimizer = adam(model)
    train(model, optimizer, 3)
    model.save_pretrained(tmp_path)
    resumed = resume(tiny_decoder(dtype=dtype), tmp_path)
    assert same_tensors(resumed.host, model.host)
    second = adam(resumed)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 3)
    train(resumed, second, 3)
    assert same_tensors(resumed.host, model.host)
    resumed.deactivate()
    assert torch.equal(
        answer(resumed.eval(), tiny_decoder_inputs()), answer(tiny_decoder(dtype=dtype).eval(), tiny_decoder_inputs())
    )


@pytest.mark.parametrize("name", TAKES_A_PART)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_plain_peft_answers_alike_on_the_unchanged_base(name: str, use_rslora: bool, tmp_path: Path) -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), start(name, use_rslora=use_rslora)())
    disturb(model)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"], config["use_rslora"]) == (8, True, use_rslora)
    theirs = peft.PeftModel.from_pretrained(tiny_decoder().eval(), tmp_path)
    expected = answer(model, tiny_decoder_inputs())
    assert (answer(theirs, tiny_decoder_inputs()) - expected).abs().max() < ROUNDING
    ours = Swift.from_pretrained(tiny_decoder().eval(), tmp_path)
    assert torch.equal(answer(ours, tiny_decoder_inputs()), answer(theirs, tiny_decoder_inputs()))
    assert ours.tuners["default"].host_parameters() == []


@pytest.mark.parametrize("name", ["pissa", "olora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_peft_own_form_of_such_a_checkpoint_answers_alike(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(tiny_decoder(dtype=dtype), start(name)()).eval()
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    theirs.save_pretrained(str(tmp_path))
    ours = Swift.from_pretrained(tiny_decoder(dtype=dtype).eval(), tmp_path)
    assert torch.equal(answer(ours, tiny_decoder_inputs()), answer(theirs, tiny_decoder_inputs()))
    again = Swift.save(ours, tmp_path / "again")
    assert [entry.kind for entry in again.tuners] == ["lora"]
    plain = peft.PeftModel.from_pretrained(tiny_decoder(dtype=dtype).eval(), tmp_path / "again")
    # In bfloat16 the base without its part was rounded to 8 bits, and the logits are below 1.
    bound = ROUNDING if dtype == torch.float32 else 0.02
    assert (answer(plain, tiny_decoder_inputs()) - answer(theirs, tiny_decoder_inputs())).abs().max() < bound


def test_a_checkpoint_saved_while_off_holds_the_same_and_loads_while_off(tmp_path: Path) -> None:
    model = Swift.prepare_model(toy_mlp().eval(), start("pissa")())
    disturb(model)
    model.save_pretrained(tmp_path / "on")
    model.deactivate()
    model.save_pretrained(tmp_path / "off")
    for file in ("adapter_model.safetensors", "adapter_config.json", "adapter_start.json"):
        assert (tmp_path / "on" / file).read_bytes() == (tmp_path / "off" / file).read_bytes()
    model.tuners["default"].load(tmp_path / "on")
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp().eval(), toy_mlp_inputs()))


@pytest.mark.parametrize("method", ["ipm", "kpm"])
def test_corda_starts_as_in_plain_peft(method: str) -> None:
    def make_config() -> LoraConfig:
        corda = CordaConfig(corda_method=method)  # type: ignore[arg-type]  # two of its literals
        return start("corda", target_modules=["q_proj", "down_proj"], corda_config=corda)()

    model = Swift.prepare_model(tiny_decoder(), make_config(), calibration=batches())
    host, config = tiny_decoder(), make_config()

    def run() -> None:
        for batch in batches():
            host(**batch)

    from peft.tuners.lora.corda import preprocess_corda

    preprocess_corda(host, config, run_model=run)
    theirs, ours = by_our_names(peft.get_peft_model(host, config)), model.host.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    difference = answer(model.eval(), tiny_decoder_inputs()) - answer(tiny_decoder().eval(), tiny_decoder_inputs())
    assert difference.abs().max() < ROUNDING


def test_corda_takes_rows_of_a_batch_without_their_padding() -> None:
    alone = [{"input_ids": torch.tensor([[5, 6, 7, 8, 9]])}]
    padded = [
        {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])},
    ]
    answers = []
    for calibration in (alone, padded):
        model = Swift.prepare_model(
            tiny_decoder(), start("corda", r=2, target_modules=["q_proj"])(), calibration=calibration
        )
        answers.append(model.host.get_submodule("model.layers.0.self_attn.q_proj").lora_A["default"].weight)  # type: ignore[index,union-attr]  # a layer of PEFT's
    # The mask sends attention another way through the same sums.
    assert torch.allclose(answers[0], answers[1], atol=1e-4)


def test_eva_spreads_ranks_as_plain_peft_and_changes_nothing_at_the_start(tmp_path: Path) -> None:
    make_config = start("eva", target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    model = Swift.prepare_model(tiny_decoder().eval(), make_config(), calibration=batches())
    assert torch.equal(answer(model, tiny_decoder_inputs()), answer(tiny_decoder().eval(), tiny_decoder_inputs()))
    theirs = peft.get_peft_model(tiny_decoder(), make_config())
    peft.initialize_lora_eva_weights(theirs, batches(), show_progress_bar=False)
    config, expected = model.tuners["default"].config, cast("LoraConfig", theirs.peft_config["default"])
    assert len(set(config.rank_pattern.values())) > 1
    assert {key: rank for key, rank in config.rank_pattern.items() if rank != 4} == expected.rank_pattern
    ours, named = model.host.state_dict(), by_our_names(theirs)
    assert all(torch.equal(ours[key], named[key]) for key in named)
    disturb(model)
    model.save_pretrained(tmp_path)
    plain = peft.PeftModel.from_pretrained(tiny_decoder().eval(), tmp_path)
    assert torch.equal(answer(plain, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))
    assert torch.equal(
        answer(Swift.from_pretrained(tiny_decoder().eval(), tmp_path), tiny_decoder_inputs()),
        answer(model, tiny_decoder_inputs()),
    )


def test_eva_works_on_a_model_without_tokens() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = [{"x": torch.randn(32, 8, generator=generator)} for _ in range(3)]
    model = Swift.prepare_model(toy_mlp().eval(), start("eva", r=2)(), calibration=rows)
    first = model.host.get_submodule("up").lora_A["default"].weight  # type: ignore[index,union-attr]  # a layer of PEFT's
    # Directions of greatest variance are orthonormal.
    assert torch.allclose(first @ first.T, torch.eye(len(first)), atol=1e-5)
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp().eval(), toy_mlp_inputs()))
    assert not model.host.training


def test_loftq_makes_up_for_some_of_what_quantizing_costs(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("scipy", reason="PEFT's config asks for scipy")
    make_config = start("loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 2})
    model = Swift.prepare_model(tiny_decoder().eval(), make_config())
    layer: Any = model.host.get_submodule("model.layers.0.mlp.up_proj")
    own = tiny_decoder().get_submodule("model.layers.0.mlp.up_proj").weight
    quantized = layer.base_layer.weight
    assert len(quantized.unique()) < len(own.unique())  # type: ignore[operator]  # a tensor
    assert (quantized + layer.get_delta_weight("default") - own).norm() < 0.9 * (quantized - own).norm()
    check_tuner(make_config, toy_mlp, toy_mlp_inputs(), several=False, starts_unchanged=False)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["init_lora_weights"], config["r"]) == ("loftq", 4)


def test_one_weight_starts_only_one_tuner() -> None:
    host = tiny_decoder()
    configs = {"one": start("olora", target_modules=["q_proj"])(), "two": start("pissa", target_modules=["q_proj"])()}
    with pytest.raises(UnsupportedConfig, match="both change the host's own weight"):
        Swift.prepare_model(host, configs)
    assert torch.equal(answer(host.eval(), tiny_decoder_inputs()), answer(tiny_decoder().eval(), tiny_decoder_inputs()))
    configs["two"] = start("pissa", target_modules=["v_proj"])()
    assert Swift.prepare_model(host, configs).active_tuners == ["one", "two"]


MULTIPLYING: dict[str, Callable[[], peft.PeftConfig]] = {
    "ia3": lambda: peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    "dora": lambda: LoraConfig(target_modules=["q_proj"], use_dora=True),
}


@pytest.mark.parametrize("make_other", MULTIPLYING.values(), ids=MULTIPLYING.keys())
@pytest.mark.parametrize("turned", [False, True])
def test_a_method_that_multiplies_is_refused_beside_a_part_of_the_weight(
    make_other: Callable[[], peft.PeftConfig], turned: bool
) -> None:
    configs = {"one": start("pissa")(), "two": make_other()}
    with pytest.raises(UnsupportedConfig, match="could not be saved for the unchanged base"):
        Swift.prepare_model(tiny_decoder(), dict(reversed(configs.items())) if turned else configs)


def test_a_plain_lora_on_the_same_layer_stays_when_the_started_one_is_merged() -> None:
    configs = {"plain": LoraConfig(r=2, target_modules=["up"]), "started": start("pissa", target_modules=["up"])()}
    model = Swift.prepare_model(toy_mlp().eval(), configs)
    disturb(model)
    before = answer(model, toy_mlp_inputs())
    assert (answer(model.merge_and_unload(), toy_mlp_inputs()) - before).abs().max() < ROUNDING


def test_a_merge_that_fails_leaves_the_tuner_whole() -> None:
    model = Swift.prepare_model(toy_mlp().eval(), start("pissa")())
    next(iter(model.tuners["default"].parameters().values())).data.fill_(float("nan"))
    with pytest.raises(CannotMerge, match="not finite"):
        model.merge_and_unload()
    model.deactivate()
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp().eval(), toy_mlp_inputs()))


REFUSED: dict[str, tuple[Config, str]] = {
    "dora": (start("pissa", use_dora=True), "DoRA measures the magnitude of the whole weight"),
    "tied": (start("pissa", target_modules=["lm_head"]), "'lm_head': its weight is tied"),
    "embedding": (start("olora", target_modules=["embed_tokens"]), "no linear layer"),
    "rank": (start("olora", r=64, target_modules=["q_proj"]), "rank 64 is more than its smaller side, 32"),
    "no data": (start("eva"), "calibration="),
    "rslora and pattern": (start("pissa", use_rslora=True, rank_pattern={"q_proj": 2}), "PEFT has no form"),
    "parameters": (start("pissa", target_parameters=["q_proj.weight"]), "made for linear layers only"),
}


@pytest.mark.parametrize(("make_config", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_a_start_that_cannot_be_is_refused_and_the_host_is_as_before(make_config: Config, message: str) -> None:
    host = tiny_decoder()
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, make_config())
    assert same_tensors(host, tiny_decoder())


def test_data_that_nobody_uses_or_that_is_too_little_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match=r"4 batches, for 'default' \(lora\); none of them starts from data"):
        Swift.prepare_model(tiny_decoder(), start("pissa")(), calibration=batches())
    with pytest.raises(UnsupportedConfig, match="holds no batch"):
        Swift.prepare_model(tiny_decoder(), start("eva")(), calibration=[])
    with pytest.raises(UnsupportedConfig, match="give larger batches"):
        Swift.prepare_model(tiny_decoder(), start("eva")(), calibration=[{"input_ids": torch.tensor([[3, 4]])}])
    configs = {"first": LoraConfig(target_modules=["q_proj"]), "second": start("eva")()}
    with pytest.raises(UnsupportedConfig, match="give the tuner that starts by 'eva' first"):
        Swift.prepare_model(tiny_decoder(), configs, calibration=batches())


def test_eva_may_leave_a_named_layer_without_ranks() -> None:
    # The pattern matches one of the layers to begin with; whether it has ranks left is up to the data.
    config = start("eva", r=1, rank_pattern={"layers.0.self_attn.q_proj": 1}, eva_config=peft.EvaConfig(rho=4.0))
    model = Swift.prepare_model(tiny_decoder(), config(), calibration=batches())
    assert model.tuners["default"].parameters()


def test_a_checkpoint_that_is_mixed_up_says_so(tmp_path: Path) -> None:
    Swift.prepare_model(toy_mlp(), start("pissa")()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_start.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "r": 3}))
    with pytest.raises(InvalidCheckpoint, match=r"rank 3 was saved as 6, but adapter_config\.json says 8"):
        resume(toy_mlp(), tmp_path)
    for text, message in [("{", "is no JSON"), ("{}", "expected alpha_pattern, lora_alpha")]:
        path.write_text(text)
        with pytest.raises(InvalidCheckpoint, match=message):
            load_peft_tuner(tmp_path, name="default")


def test_lora_plus_groups_as_plain_peft(tmp_path: Path) -> None:
    def lora() -> LoraConfig:
        return start("pissa", target_modules=["q_proj", "down_proj"])()

    model = Swift.prepare_model(tiny_decoder(), LoraPlusConfig(lora=lora(), lr_ratio=8.0))
    theirs = peft.get_peft_model(tiny_decoder(), lora())
    expected = create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=8.0)
    names = {id(each): name.removeprefix("base_model.model.") for name, each in theirs.named_parameters()}
    wanted = {names[id(each)]: group["lr"] for group in expected.param_groups for each in group["params"]}
    own = {id(each): name for name, each in model.host.named_parameters()}
    found = {own[id(each)]: group["lr"] for group in model.param_groups(1e-3) for each in group["params"]}
    assert found == wanted
    assert set(found.values()) == {1e-3, 8e-3}
    model.save_pretrained(tmp_path)
    groups = resume(tiny_decoder(), tmp_path).param_groups(1e-3)
    assert [group["lr"] for group in groups] == [1e-3, 8e-3]
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 8


def test_lora_plus_teaches_b_of_embeddings_faster_too_and_refuses_a_ratio_of_none() -> None:
    config = LoraConfig(r=2, target_modules=["embed_tokens"])
    model = Swift.prepare_model(tiny_decoder(tie_word_embeddings=False), LoraPlusConfig(lora=config, lr_ratio=4.0))
    shapes = [[tuple(each.shape) for each in group["params"]] for group in model.param_groups(1e-3)]
    assert shapes == [[(2, 64)], [(32, 2)]]
    with pytest.raises(UnsupportedConfig, match="lr_ratio of tuner 'default' is 0"):
        Swift.prepare_model(tiny_decoder(), LoraPlusConfig(lora=config, lr_ratio=0.0))
