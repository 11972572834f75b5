"""Tuners on and off a model: mixing, switching, order, names, and errors that leave the model as it was."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Phase, Swift, SwiftModel, Tuner
from swift_tuners.errors import (
    CannotMerge,
    DuplicateName,
    InvalidName,
    TargetNotFound,
    UnknownName,
    UnsupportedConfig,
)
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs
from torch import nn


@dataclass(frozen=True)
class Snapshot:
    """What a host is made of, to compare."""

    modules: dict[str, nn.Module]
    weights: dict[str, torch.Tensor]
    flags: dict[str, bool]

    @classmethod
    def of(cls, model: nn.Module) -> Snapshot:
        """Take one."""
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        return cls(dict(model.named_modules()), weights, flags)

    def check_same(self, model: nn.Module) -> None:
        """Raise AssertionError if the model differs."""
        modules = dict(model.named_modules())
        assert modules.keys() == self.modules.keys()
        assert all(modules[name] is module for name, module in self.modules.items())
        assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == self.flags
        assert all(torch.equal(tensor, self.weights[name]) for name, tensor in model.state_dict().items())
        assert not hasattr(model, "peft_config")


def make_two() -> SwiftModel:
    """Return an MLP with tuners `first` and `second` on the same layers, with weights that matter."""
    configs = {"first": LoraConfig(r=4, target_modules="all-linear"), "second": LoraConfig(r=2, target_modules=["up"])}
    model = Swift.prepare_model(toy_mlp().eval(), configs)
    disturb(model)
    return model


def test_lora_computes_what_its_formula_says() -> None:
    model = Swift.prepare_model(
        nn.Sequential(nn.Linear(2, 2, bias=False)), LoraConfig(r=1, lora_alpha=3, target_modules="0")
    )
    weights = {
        "0.base_layer.weight": [[1.0, 0.0], [0.0, 1.0]],
        "0.lora_A.default.weight": [[1.0, 2.0]],
        "0.lora_B.default.weight": [[10.0], [20.0]],
    }
    model.host.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    # By hand: x + (3 / 1) B (A x) for x = (1, 1): A x = 3, B A x = (30, 60), scaled (90, 180).
    assert answer(model, {"input": torch.ones(1, 2)}).tolist() == [[91.0, 181.0]]


def test_sets_of_active_tuners_give_the_sums_of_their_effects() -> None:
    model, inputs = make_two(), toy_mlp_inputs()
    outputs = {}
    for active in [[], ["first"], ["second"], ["first", "second"]]:
        model.set_active_tuners(active)
        assert model.active_tuners == active
        # Before the activation function, effects add up.
        outputs[tuple(active)] = answer(model.host.get_submodule("up"), {"x": inputs["x"]})
    added = outputs["first",] + outputs["second",] - outputs[()]
    # float32 sums in another order.
    torch.testing.assert_close(outputs["first", "second"], added, rtol=1e-6, atol=1e-6)


def test_the_order_of_switching_leaves_no_trace() -> None:
    model, inputs = make_two(), toy_mlp_inputs()
    before = answer(model, inputs)
    model.deactivate()
    model.activate("second")
    model.activate("first")
    assert torch.equal(answer(model, inputs), before)


def test_only_active_trainable_tuners_require_gradients() -> None:
    model = make_two()

    def training() -> set[str]:
        return {name for name, parameter in model.host.named_parameters() if parameter.requires_grad}

    first, second = (set(model.tuners[name].parameters()) for name in ("first", "second"))
    assert training() == first | second
    model.deactivate("first")
    assert training() == second
    model.activate("first")
    model.set_trainable("second", False)
    assert training() == first
    assert [len(group["params"]) for group in model.param_groups(0.1)] == [len(first)]
    # By hand: rank 4 on 8 -> 16 and 16 -> 4; everything is 8 * 16 + 16 + 16 * 4 + 4 = 212, and rank 2 on 8 -> 16.
    assert model.count_parameters() == (4 * (8 + 16) + 4 * (16 + 4), 212 + 176 + 2 * (8 + 16))


def test_merging_takes_the_active_tuners_and_drops_the_others() -> None:
    model, inputs = make_two(), toy_mlp_inputs()
    model.deactivate("first")
    before = answer(model, inputs)
    merged = Swift.merge(model)
    torch.testing.assert_close(answer(merged, inputs), before, rtol=1e-6, atol=1e-6)
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_two_methods_on_one_layer_merge_in_the_order_of_attachment() -> None:
    ia3 = peft.IA3Config(target_modules=["down"], feedforward_modules=[])
    model = Swift.prepare_model(toy_mlp().eval(), {"low": LoraConfig(r=2, target_modules=["down"]), "scale": ia3})
    disturb(model, scale=0.5)
    before = answer(model, toy_mlp_inputs())
    twin = copy.deepcopy(model)
    twin.detach("low")
    assert type(twin.host.get_submodule("down")).__module__.startswith("peft.tuners.ia3")
    torch.testing.assert_close(answer(Swift.merge(model), toy_mlp_inputs()), before, rtol=1e-5, atol=1e-6)


def test_a_bfloat16_host_gets_float32_adapters_and_merges_with_one_rounding() -> None:
    model = Swift.prepare_model(tiny_decoder(dtype=torch.bfloat16).eval(), LoraConfig(r=4, target_modules="all-linear"))
    assert {parameter.dtype for parameter in model.tuners["default"].parameters().values()} == {torch.float32}
    disturb(model)
    layer = model.host.get_submodule("model.layers.0.self_attn.q_proj")
    lora_a, lora_b = (layer.get_submodule(name).get_parameter("default.weight") for name in ("lora_A", "lora_B"))
    base = layer.get_submodule("base_layer").get_parameter("weight")
    # The reference: the sum in float32, rounded once; lora_alpha / r = 8 / 4.
    expected = (base.float() + 2 * (lora_b @ lora_a)).to(torch.bfloat16)
    merged = Swift.merge(model)
    assert torch.equal(merged.get_parameter("model.layers.0.self_attn.q_proj.weight"), expected)


def test_merging_into_a_tied_head_unties_it(tmp_path: Path) -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), LoraConfig(r=4, target_modules=["lm_head"]))
    disturb(model)
    before = answer(model, tiny_decoder_inputs())
    merged = Swift.merge(model)
    torch.testing.assert_close(answer(merged, tiny_decoder_inputs()), before, rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path)  # type: ignore[operator]  # a transformers model
    reloaded = type(merged).from_pretrained(tmp_path)  # type: ignore[attr-defined]  # a transformers model
    assert torch.equal(answer(reloaded, tiny_decoder_inputs()), answer(merged, tiny_decoder_inputs()))


def test_a_tuner_that_holds_nan_is_not_merged() -> None:
    model = make_two()
    next(iter(model.tuners["second"].parameters().values())).data.fill_(torch.nan)
    with pytest.raises(CannotMerge, match="'second' holds values that are not finite"):
        Swift.merge(model)
    assert list(model.tuners) == ["first", "second"]


def test_the_wrapper_passes_on_what_the_host_has() -> None:
    host = tiny_decoder()
    model = Swift.prepare_model(host, LoraConfig(r=2, target_modules="all-linear"))
    assert inspect.signature(model.forward) == inspect.signature(host.forward)
    assert (model.config, model.dtype, model.device) == (host.config, host.dtype, host.device)
    assert model.get_input_embeddings() is host.get_input_embeddings()
    assert model.generate(**tiny_decoder_inputs(), max_new_tokens=2, do_sample=False).shape == (2, 9)
    model.gradient_checkpointing_enable()
    assert host.is_gradient_checkpointing
    with pytest.raises(AttributeError, match=r"LlamaForCausalLM.*no_such_thing"):
        _ = model.no_such_thing


def test_a_new_tuner_takes_the_mode_of_the_host() -> None:
    model = Swift.prepare_model(toy_mlp().eval(), LoraConfig(r=2, lora_dropout=0.5, target_modules="all-linear"))
    assert not any(module.training for module in model.modules())
    disturb(model)
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(model, toy_mlp_inputs()))


@dataclass
class PhaseConfig:
    """A tuner that only notes when it is attached."""

    at: Phase
    log: list[str]

    def build_tuner(self, name: str) -> Tuner[PhaseConfig]:
        """Return the tuner, of a class of that phase."""
        tuner: Tuner[PhaseConfig] = type("PhaseTuner", (NoteTuner,), {"phase": self.at})(self, name=name)
        return tuner


class NoteTuner(Tuner[PhaseConfig]):
    """Notes its name."""

    kind = "note"

    def attach(self, model: nn.Module) -> None:
        """Note it."""
        self.config.log.append(self.name)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return nothing."""
        return {}

    def activate(self, active: bool) -> None:
        """Note nothing."""
        self.active = active

    def detach(self) -> None:
        """Note it."""
        self.config.log.append(f"-{self.name}")

    def on_step(self, step: int, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Note it."""
        self.config.log.append(f"{self.name}{step}")


def test_phases_order_the_tuners_and_keep_the_users_order_within() -> None:
    log: list[str] = []
    wanted = [("d", Phase.SCHEDULE), ("b", Phase.WRAP), ("c", Phase.WRAP), ("a", Phase.STRUCTURE)]
    model = Swift.prepare_model(toy_mlp(), {name: PhaseConfig(phase, log) for name, phase in wanted})
    assert log == list(model.tuners) == ["a", "b", "c", "d"]
    model.on_step(1)
    assert log[4:] == ["a1", "b1", "c1", "d1"]
    with pytest.raises(UnsupportedConfig, match=r"'e' .* must be attached before 'b'"):
        Swift.prepare_model(model, {"e": PhaseConfig(Phase.STRUCTURE, log)})
    model.unload()
    assert log[8:] == ["-d", "-c", "-b", "-a"]


def lora(**options: object) -> LoraConfig:
    return LoraConfig(**{"r": 2, "target_modules": ["up"], **options})  # type: ignore[arg-type]  # options of any type


BAD_CONFIGS = {
    "a target with a typo": (lora(target_modules=["up", "dwon"]), TargetNotFound, "'dwon' matches no.*'down'"),
    "a pattern that matches nothing": (lora(target_modules=".*proj"), TargetNotFound, "'.*proj' matches no module"),
    "a broken pattern": (lora(target_modules="(up"), TargetNotFound, "no regular expression"),
    "a module that cannot be adapted": (lora(target_modules=["down", "act"]), UnsupportedConfig, "GELU"),
    "a module to save with a typo": (lora(modules_to_save=["dowm"]), TargetNotFound, "'dowm' matches no.*'down'"),
    "prompt tuning": (
        peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
        UnsupportedConfig,
        "a transformers config and input embeddings",
    ),
    "no target and no known architecture": (LoraConfig(), UnsupportedConfig, "target_modules"),
    "no config": ({"r": 8}, UnsupportedConfig, "expected a config"),
    "a class instead of a config": (LoraConfig, UnsupportedConfig, "expected a config"),
}


@pytest.mark.parametrize(("config", "error", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_a_bad_config_is_refused_and_leaves_the_model_as_it_was(
    config: object, error: type[Exception], message: str
) -> None:
    model = toy_mlp()
    before = Snapshot.of(model)
    with pytest.raises(error, match=message):
        # After a good one, which must come off again.
        Swift.prepare_model(model, {"good": lora(), "bad": config})  # type: ignore[dict-item]  # that is the point
    before.check_same(model)


def test_a_failed_addition_leaves_earlier_tuners_as_they_were() -> None:
    model, inputs = make_two(), toy_mlp_inputs()
    model.deactivate("first")
    before, names = answer(model, inputs), [name for name, _ in model.named_parameters()]
    with pytest.raises(UnsupportedConfig, match="GELU"):
        Swift.prepare_model(model, {"third": lora(target_modules=["up", "act"])})
    assert torch.equal(answer(model, inputs), before)
    assert [name for name, _ in model.named_parameters()] == names
    assert (list(model.tuners), model.active_tuners) == (["first", "second"], ["second"])


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("up", InvalidName),
        ("weight", InvalidName),
        ("keys", InvalidName),
        ("a.b", InvalidName),
        ("../up", InvalidName),
        ("", InvalidName),
        (3, InvalidName),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, error: type[Exception]) -> None:
    model = toy_mlp()
    before = Snapshot.of(model)
    with pytest.raises(error, match="name"):
        Swift.prepare_model(model, {name: lora()})
    before.check_same(model)


def test_a_name_is_given_once() -> None:
    model = make_two()
    with pytest.raises(DuplicateName, match="'first' already"):
        Swift.prepare_model(model, {"first": lora()})
    assert list(model.tuners) == ["first", "second"]


def test_switching_an_unknown_name_changes_nothing() -> None:
    model = make_two()
    for switch in (model.activate, model.deactivate, model.set_active_tuners):
        with pytest.raises(UnknownName, match=r"'frist' is not attached; did you mean 'first'\?"):
            switch("frist")
    with pytest.raises(UnknownName):
        model.detach("frist")
    assert model.active_tuners == ["first", "second"]


def test_two_tuners_that_train_one_module_in_full_exclude_each_other() -> None:
    model = Swift.prepare_model(toy_mlp().eval(), {"one": lora(modules_to_save=["down"])})
    with pytest.raises(UnsupportedConfig, match="'one' and 'two' train the same module in full"):
        Swift.prepare_model(model, {"two": lora(modules_to_save=["down"])})
    assert list(model.tuners) == model.active_tuners == ["one"]
    model.deactivate("one")
    Swift.prepare_model(model, {"two": lora(modules_to_save=["down"])})
    disturb(model)
    only_two = answer(model, toy_mlp_inputs())
    with pytest.raises(UnsupportedConfig, match="deactivate the other first"):
        model.activate("one")
    assert model.active_tuners == ["two"]
    model.set_active_tuners("one")
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp(), toy_mlp_inputs()))
    model.set_active_tuners("two")
    assert torch.equal(answer(model, toy_mlp_inputs()), only_two)


def test_layers_whose_parent_reads_their_weight_are_left_out_of_all_linear() -> None:
    # torch's attention multiplies by the weight of its output layer itself: an adapter there would do nothing.
    attention = nn.MultiheadAttention(8, 2)
    with pytest.raises(TargetNotFound, match=r"reads the weight of 'out_proj' instead of calling the layer"):
        Swift.prepare_model(attention, LoraConfig(r=2, target_modules="all-linear"))
    model = Swift.prepare_model(
        nn.ModuleList([attention, nn.Linear(8, 8)]), LoraConfig(r=2, target_modules="all-linear")
    )
    assert {name.partition(".")[0] for name in model.tuners["default"].parameters()} == {"1"}


def test_one_host_has_one_wrapper_at_a_time() -> None:
    host = toy_mlp().eval()
    model = Swift.prepare_model(host, {"first": lora()})
    names = [name for name, _ in host.named_modules()]
    with pytest.raises(UnsupportedConfig, match="this ToyMLP stands in a SwiftModel already"):
        Swift.prepare_model(host, {"second": lora()})
    assert [name for name, _ in host.named_modules()] == names
    twin = copy.deepcopy(model)
    assert model.unload() is host
    assert list(Swift.prepare_model(host, {"second": lora()}).tuners) == ["second"]
    assert list(Swift.prepare_model(twin, {"second": lora()}).tuners) == ["first", "second"]
    merged = Swift.merge(twin)
    assert isinstance(Swift.prepare_model(merged, lora()), SwiftModel)


def test_after_a_refusal_the_host_is_free() -> None:
    host = toy_mlp()
    with pytest.raises(TargetNotFound):
        Swift.prepare_model(host, lora(target_modules=["dwon"]))
    assert list(Swift.prepare_model(host, lora()).tuners) == ["default"]


@pytest.mark.parametrize("model", ["x", None, toy_mlp], ids=["a text", "nothing", "a function"])
def test_what_is_no_module_is_refused(model: object) -> None:
    with pytest.raises(UnsupportedConfig, match="expected a torch module"):
        Swift.prepare_model(model, lora())  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("names", [[3], [["first"]], [None]], ids=str)
def test_names_that_are_no_text_are_unknown(names: list[object]) -> None:
    model = make_two()
    with pytest.raises(UnknownName, match=r"tuner \S+ is not attached"):
        model.set_active_tuners(names)  # type: ignore[arg-type]  # that is the point
    assert model.active_tuners == ["first", "second"]
