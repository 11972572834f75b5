"""Branches beside modules of the host: where they stand, what they refuse, and that they leave nothing behind."""

from __future__ import annotations

import copy
import subprocess
import sys

import peft
import pytest
import torch
from swift_tuners import Swift, TunerConfig
from swift_tuners.errors import InvalidName, UnsupportedConfig
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs
from swift_tuners.tuners.adapters import AdapterConfig
from torch import Tensor, nn


class Sequence(nn.Module):
    """A container that calls its children in turn, and a list that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)))
        self.kept = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8) to (B, 4)."""
        out: Tensor = self.turn(x)
        return out


def make_sequence() -> Sequence:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Sequence().eval()


def test_a_branch_beside_a_sequence_stands_beside_its_last_child_and_is_not_called_in_turn() -> None:
    host, inputs = make_sequence(), toy_mlp_inputs()
    plain = answer(host, inputs)
    model = Swift.prepare_model(host, {"a": AdapterConfig(target_modules=["turn"], adapter_length=3)})
    assert torch.equal(answer(model, inputs), plain)
    assert {name.rpartition(".swift_a.")[0] for name in model.tuners["a"].parameters()} == {"turn.1.1"}
    disturb(model)
    branch = host.get_submodule("turn.1.1.swift_a")
    assert isinstance(branch, nn.Sequential)
    down, up = branch[0], branch[2]
    assert isinstance(down, nn.Linear) and isinstance(up, nn.Linear)
    # x + W_up gelu(W_down x), by hand
    hidden = torch.nn.functional.gelu(plain @ down.weight.T + down.bias)
    expected = plain + hidden @ up.weight.T + up.bias
    assert torch.allclose(answer(model, inputs), expected, atol=1e-6)


def test_a_list_that_is_never_called_is_refused() -> None:
    host = make_sequence()
    with pytest.raises(UnsupportedConfig, match="'kept' is a ModuleList, which is never called"):
        Swift.prepare_model(host, AdapterConfig(target_modules=["kept"]))
    assert not any("swift" in name for name, _ in host.named_modules())


def test_a_name_that_the_module_has_already_is_refused() -> None:
    host = toy_mlp()
    host.up.swift_a = nn.Identity()
    with pytest.raises(InvalidName, match="'swift_a', which module 'up' has; choose another"):
        Swift.prepare_model(host, {"a": AdapterConfig(target_modules=["up"])})
    assert [name for name, _ in host.up.named_children()] == ["swift_a"]


def test_a_module_that_rests_while_a_copy_of_it_trains_is_refused() -> None:
    host = tiny_decoder(tie_word_embeddings=False).eval()
    lora = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = Swift.prepare_model(host, {"lora": lora})
    with pytest.raises(UnsupportedConfig, match=r"'lm_head' rests while another tuner trains a copy"):
        Swift.prepare_model(model, {"a": AdapterConfig(target_modules=["lm_head"])})
    assert list(model.tuners) == ["lora"]


def test_a_module_that_returns_no_tensor_is_refused_when_it_is_called() -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), AdapterConfig(target_modules=["model"]))
    with pytest.raises(UnsupportedConfig, match="'model' returns a BaseModelOutput"):
        answer(model, tiny_decoder_inputs())


def test_rows_that_are_not_those_of_the_batch_are_refused() -> None:
    model = Swift.prepare_model(toy_mlp().eval(), {"a": AdapterConfig(target_modules=["up"])})
    with pytest.raises(UnsupportedConfig, match=r"chosen for 2 rows, but the batch has 3"), model.rows(["a", None]):
        answer(model, toy_mlp_inputs())


def test_each_row_of_a_batch_has_its_own_tuner() -> None:
    inputs = toy_mlp_inputs()
    model = Swift.prepare_model(
        toy_mlp().eval(), {name: AdapterConfig(target_modules=["up"], adapter_length=3) for name in "ab"}
    )
    disturb(model)
    alone = {}
    for name in "ab":
        model.set_active_tuners(name)
        alone[name] = answer(model, inputs)
    with model.rows(["b", "a", None]):
        mixed = answer(model, inputs)
    model.deactivate()
    plain = answer(model, inputs)
    expected = torch.stack([alone["b"][0], alone["a"][1], plain[2]])
    assert torch.equal(mixed, expected)


@pytest.mark.parametrize("first_off", ["lora", "adapters"])
def test_lora_on_the_same_modules_is_bit_for_bit_as_alone_when_the_adapter_goes_and_the_other_way(
    first_off: str,
) -> None:
    inputs = tiny_decoder_inputs()
    configs: dict[str, TunerConfig] = {
        "lora": peft.LoraConfig(target_modules=["o_proj", "down_proj"]),
        "adapters": AdapterConfig(target_modules=["o_proj", "down_proj"], adapter_length=4),
    }
    model = Swift.prepare_model(tiny_decoder().eval(), configs)
    disturb(model)
    other = next(name for name in configs if name != first_off)
    both = answer(model, inputs)
    model.set_active_tuners(other)
    alone = answer(model, inputs)
    model.activate(first_off)
    assert torch.equal(answer(model, inputs), both)
    model.detach(first_off)
    assert torch.equal(answer(model, inputs), alone)
    assert torch.equal(answer(model.unload(), inputs), answer(tiny_decoder().eval(), inputs))


def test_a_deep_copy_acts_by_its_own_hooks() -> None:
    inputs = toy_mlp_inputs()
    model = Swift.prepare_model(toy_mlp().eval(), AdapterConfig(target_modules=["up"]))
    twin = copy.deepcopy(model)
    disturb(twin)
    assert not torch.equal(answer(twin, inputs), answer(model, inputs))
    twin.deactivate()
    assert torch.equal(answer(twin, inputs), answer(model, inputs))


@pytest.mark.parametrize("kind", ["adapters", "neftune", "reft", "restuning", "scedit"])
def test_the_options_of_a_method_are_read_without_torch(kind: str) -> None:
    code = f"import sys, swift_tuners.tuners.{kind}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
