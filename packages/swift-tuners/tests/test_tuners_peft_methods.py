"""Every method of the installed PEFT that changes layers keeps the laws and PEFT's format, or says why it cannot."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from swift_tuners import Swift
from swift_tuners.errors import CannotMerge, MissingDependency, UnsupportedConfig
from swift_tuners.peft_checks import REFUSED, REFUSED_OPTIONS
from swift_tuners.testing import TOYS, answer, check_tuner, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp
from torch import nn

LINEAR = "all-linear"


@dataclass(frozen=True)
class Method:
    """How a method is tried, and where it departs from what holds for all."""

    options: dict[str, Any]
    models: tuple[str, ...] = ("mlp", "decoder")
    departs: dict[str, Any] = field(default_factory=dict)
    merges: tuple[str, ...] = ("mlp", "decoder")
    needs: str | None = None


# Rounding of a weight that is taken apart and put together again: a few units of float32's last place, 6e-8.
ROUNDS = {"start_tolerance": 5e-7}
# These start from random values that already act.
RANDOM = {"starts_unchanged": False}
METHODS: dict[str, Method] = {
    "LORA": Method({"r": 2}),
    "ADALORA": Method({"init_r": 4, "target_r": 2, "total_step": 10}),
    "ADAMSS": Method({"r": 4, "num_subspaces": 2}, needs="sklearn"),
    # The tiny decoder has no biases to fold these into.
    "BEFT": Method({}, merges=("mlp",)),
    "BOFT": Method({"boft_block_size": 4}),
    "C3A": Method({"block_size": 4}, departs=RANDOM),
    "DEFT": Method({"r": 2}, departs=ROUNDS),
    "DELORA": Method({"r": 2}),
    "FOURIERFT": Method({"n_frequency": 8, "scaling": 1.0}, departs=RANDOM),
    "FROD": Method({"progressbar": False}, departs=ROUNDS),
    "GLORA": Method({"r": 2}),
    "GRALORA": Method({"r": 4}),
    "HIRA": Method({"r": 2}),
    "HRA": Method({"r": 2}, departs=ROUNDS),
    "IA3": Method({"feedforward_modules": []}),
    "LILY": Method({"r": 2}, merges=()),
    # Only one of them acts in a layer at a time.
    "LN_TUNING": Method({"target_modules": ["input_layernorm", "norm"]}, ("decoder",), {"several": False}),
    "LOHA": Method({"r": 2}),
    "LOKR": Method({"r": 2}),
    "MISS": Method({"r": 2}),
    "OFT": Method({"oft_block_size": 4, "use_cayley_neumann": False}),
    "OSF": Method({"effective_rank": 2}, departs={**ROUNDS, "several": False}),
    "PEANUT": Method({"r": 2}),
    "PSOFT": Method({"r": 2}),
    "PVERA": Method({"r": 4}),
    "RANDLORA": Method({"r": 2, "randlora_alpha": 2}),
    "ROAD": Method({"group_size": 4}),
    "SHIRA": Method({"r": 1, "random_seed": 1}),
    "SUPERTUNING": Method({"sparsity": 0.5}),
    "TINYLORA": Method({"r": 2, "u": 4}),
    "TRAINABLE_TOKENS": Method(
        {"token_indices": [3, 5, 40], "target_modules": ["embed_tokens"]}, ("decoder",), {"several": False}
    ),
    "UNILORA": Method({"r": 2, "theta_d_length": 16}, departs=RANDOM),
    "VBLORA": Method({"r": 2, "num_vectors": 8, "vector_length": 4}, departs=RANDOM),
    "VERA": Method({"r": 4}),
    "WAVEFT": Method({"n_frequency": 8}),
}
# They add to the input and change no layer; another module of this package carries them.
PROMPTS = {
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
    "CARTRIDGE",
}
REFUSED_METHODS: dict[str, dict[str, Any]] = {
    "POLY": {"r": 2, "target_modules": ["up"]},
    "XLORA": {"hidden_size": 16, "adapters": {"one": "somewhere"}},
    "SHADOW": {"target_modules": ["up"]},
}
# Methods with tensors that all layers share, which PEFT saves or makes again from a seed.
UNSAVED = ("FROD", "PVERA", "RANDLORA", "TINYLORA", "VERA")
LORA_OPTIONS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "bias": {"lora_bias": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "mica": {"init_lora_weights": "mica"},
    "qalora": {"use_qalora": True, "qalora_group_size": 4},
    "velora": {"velora_config": peft.VeloraConfig()},
    "patterns": {"rank_pattern": {"down.*": 1}, "exclude_modules": ".*up.*"},
}

each_method = pytest.mark.parametrize("name", METHODS)


def make_config(name: str, **options: object) -> peft.PeftConfig:
    """Return a small config of a method, equal at each call."""
    method = METHODS[name]
    if method.needs:
        pytest.importorskip(method.needs)
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[getattr(peft.PeftType, name)]
    return kind(**{"target_modules": LINEAR, **method.options, **options})


def make_decoder() -> nn.Module:
    model = tiny_decoder(tie_word_embeddings=False)
    model.eval()
    return model


def check(name: str, model: str, **options: object) -> None:
    method = METHODS[name]
    departs = {"mergeable": model in method.merges, **method.departs}
    check_tuner(lambda: make_config(name, **options), TOYS[model].make_model, TOYS[model].make_inputs(), **departs)


def test_every_method_of_the_installed_peft_has_a_row() -> None:
    known = {*METHODS, *PROMPTS, *REFUSED_METHODS}
    assert {each.value for each in PEFT_TYPE_TO_CONFIG_MAPPING} == known
    assert {each.value for each in REFUSED} == set(REFUSED_METHODS)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "mlp" in method.models])
def test_methods_keep_the_laws_on_an_mlp(name: str) -> None:
    check(name, "mlp")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "decoder" in method.models])
def test_methods_keep_the_laws_on_a_decoder(name: str) -> None:
    check(name, "decoder")


@pytest.mark.parametrize("options", LORA_OPTIONS.values(), ids=LORA_OPTIONS.keys())
def test_options_of_lora_keep_the_laws(options: dict[str, Any]) -> None:
    check("LORA", "mlp", **options)


def give_other_weights(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


def check_format(make: Callable[[], peft.PeftConfig], folder: Path) -> None:
    """Check that plain PEFT answers as what we saved, we as what it saved, and that both train the same."""
    inputs = tiny_decoder_inputs()
    ours = Swift.prepare_model(make_decoder(), make())
    disturb(ours)
    ours.save_pretrained(folder / "ours")
    theirs = peft.PeftModel.from_pretrained(make_decoder(), folder / "ours")
    assert torch.equal(answer(theirs, inputs), answer(ours, inputs))
    plain = peft.get_peft_model(make_decoder(), make()).eval()
    trained = {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
    shared = {name for name in trained if not name.startswith("base_model.model.")}
    own = {f"base_model.model.{name}" for name in ours.tuners["default"].parameters()}
    # What layers share stands in PEFT's model around the host, and here in the layers only.
    assert trained - shared <= own
    assert len(own) == len(trained)
    give_other_weights(plain)
    plain.save_pretrained(str(folder / "theirs"))
    loaded = Swift.from_pretrained(make_decoder(), folder / "theirs")
    assert torch.equal(answer(loaded, inputs), answer(plain, inputs))


@each_method
def test_checkpoints_go_to_plain_peft_and_back(name: str, tmp_path: Path) -> None:
    check_format(lambda: make_config(name), tmp_path)


@pytest.mark.parametrize("name", UNSAVED)
def test_projections_need_not_be_saved(name: str, tmp_path: Path) -> None:
    check_format(lambda: make_config(name, save_projection=False), tmp_path)


@pytest.mark.parametrize("options", LORA_OPTIONS.values(), ids=LORA_OPTIONS.keys())
def test_options_of_lora_go_to_plain_peft_and_back(options: dict[str, Any], tmp_path: Path) -> None:
    check_format(lambda: make_config("LORA", **options), tmp_path)


@pytest.mark.parametrize("name", ["FROD", "PVERA", "RANDLORA", "TINYLORA", "UNILORA", "VBLORA", "VERA"])
def test_two_tuners_that_share_tensors_between_layers_keep_their_own(name: str, tmp_path: Path) -> None:
    # The second one's layers are some of the first one's, and others.
    inputs, targets = tiny_decoder_inputs(), {"one": ["q_proj", "up_proj"], "two": ["q_proj", "down_proj"]}
    alone = {}
    for tuner, target in targets.items():
        model = Swift.prepare_model(make_decoder(), {tuner: make_config(name, target_modules=target)})
        disturb(model)
        model.save_pretrained(tmp_path / tuner)
        alone[tuner] = answer(model, inputs)
    both = Swift.from_pretrained(make_decoder(), tmp_path / "one")
    Swift.from_pretrained(both, tmp_path / "two")
    for tuner in ("one", "two"):
        both.set_active_tuners(tuner)
        assert torch.equal(answer(both, inputs), alone[tuner])
    both.save_pretrained(tmp_path / "both")
    both.detach("one")
    assert torch.equal(answer(both, inputs), alone["two"])
    reloaded = Swift.from_pretrained(make_decoder(), tmp_path / "both", ["one"])
    assert torch.equal(answer(reloaded, inputs), alone["one"])


@pytest.mark.parametrize("name", ["FROD", "PVERA", "RANDLORA", "TINYLORA", "UNILORA", "VBLORA", "VERA"])
def test_shared_tensors_fit_the_host_and_not_the_layers_around_it(name: str, tmp_path: Path) -> None:
    inputs = tiny_decoder_inputs()
    configs = {"lora": make_config("LORA"), "shared": make_config(name)}
    model = Swift.prepare_model(make_decoder(), configs)
    disturb(model)
    model.set_active_tuners("shared")
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(make_decoder(), tmp_path / "shared")
    assert torch.equal(answer(theirs, inputs), answer(model, inputs))


@pytest.mark.parametrize("name", REFUSED_METHODS)
def test_methods_that_need_peft_around_the_host_are_refused_with_the_reason(name: str) -> None:
    kind = getattr(peft.PeftType, name)
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](**REFUSED_METHODS[name])
    host = toy_mlp()
    modules = dict(host.named_modules())
    with pytest.raises(UnsupportedConfig) as caught:
        Swift.prepare_model(host, config)
    assert REFUSED[kind] in str(caught.value)
    assert dict(host.named_modules()) == modules


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layer_replication", [(0, 1), (0, 1)]),
        ("alora_invocation_tokens", [3, 4]),
        ("arrow_config", peft.ArrowConfig()),
        ("kasa_config", peft.KasaConfig()),
        ("init_lora_weights", "lora_ga"),
    ],
)
def test_options_that_a_tuner_cannot_take_back_are_refused_with_the_reason(option: str, value: object) -> None:
    reason = REFUSED_OPTIONS.get(option, "it changes the host's own weights")
    with pytest.raises(UnsupportedConfig, match=option) as caught:
        Swift.prepare_model(toy_mlp(), peft.LoraConfig(target_modules=LINEAR, **{option: value}))  # type: ignore[arg-type]  # of any option
    assert reason in str(caught.value)


def test_a_method_without_its_package_says_which_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Without it not even the config can be made, so only a checkpoint can ask for it.
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "ADAMSS", "target_modules": ["up"]}')
    monkeypatch.setitem(sys.modules, "sklearn", None)
    host = toy_mlp()
    with pytest.raises(MissingDependency, match="scikit-learn"):
        Swift.from_pretrained(host, tmp_path)
    assert not hasattr(host, "peft_config")


@pytest.mark.parametrize("config", [make_config("BEFT"), make_config("LILY"), make_config("LORA", lora_bias=True)])
def test_what_cannot_be_folded_into_the_host_says_so_before_it_changes(config: peft.PeftConfig) -> None:
    model = Swift.prepare_model(make_decoder(), config)
    disturb(model)
    before = answer(model, tiny_decoder_inputs())
    with pytest.raises(CannotMerge, match="save it instead"):
        model.merge_and_unload()
    assert torch.equal(answer(model, tiny_decoder_inputs()), before)


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "spectral norm of old": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("name", ["LORA", "IA3", "OFT", "LOHA"])
def test_a_weight_that_is_computed_at_each_call_takes_no_merge(
    norm: Callable[[nn.Module], nn.Module], name: str
) -> None:
    host = nn.Sequential(OrderedDict(up=norm(nn.Linear(8, 8)), down=nn.Linear(8, 8))).eval()
    model = Swift.prepare_model(host, make_config(name, target_modules=["up"]))
    disturb(model)
    inputs = {"input": torch.randn(2, 8)}
    before = answer(model, inputs)
    with pytest.raises(CannotMerge, match=r"the weight of 'up', which is computed from other tensors.*lost"):
        model.merge_and_unload()
    assert torch.equal(answer(model, inputs), before)
    # A layer beside it is merged, and so is a copy of the whole layer.
    model.unload()
    model = Swift.prepare_model(host, make_config("LORA", target_modules=["down"], modules_to_save=["up"]))
    disturb(model)
    before = answer(model, inputs)
    assert torch.allclose(answer(model.merge_and_unload(), inputs), before, atol=1e-5)
