"""Rows of a batch and the state dict: what a SwiftModel says of itself."""

from __future__ import annotations

import copy

import pytest
import torch
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import (
    UnknownName,
    UnsupportedConfig,
)
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs


def lora(**options: object) -> LoraConfig:
    return LoraConfig(**{"r": 2, "target_modules": ["up"], **options})  # type: ignore[arg-type]  # options of any type


def make_two() -> SwiftModel:
    """Return an MLP with tuners `first` and `second` on the same layers, with weights that matter."""
    configs = {"first": LoraConfig(r=4, target_modules="all-linear"), "second": LoraConfig(r=2, target_modules=["up"])}
    model = Swift.prepare_model(toy_mlp().eval(), configs)
    disturb(model)
    return model


def test_a_choice_of_rows_inside_another_one_gives_it_back() -> None:
    model, inputs = make_two(), toy_mlp_inputs()
    alone = {}
    for name in ([], ["first"], ["second"]):
        model.set_active_tuners(name)
        alone["".join(name)] = answer(model, inputs)
    with model.rows(["first", None, "second"]):
        outer = answer(model, inputs)
        with model.rows([None, "second", "second"]):
            inner = answer(model, inputs)
        assert torch.equal(answer(model, inputs), outer)
        with pytest.raises(UnknownName), model.rows(["third", None, None]):
            pass
        assert torch.equal(answer(model, inputs), outer)
    for row, (one, other) in enumerate([("first", ""), ("", "second"), ("second", "second")]):
        torch.testing.assert_close(outer[row], alone[one][row])
        torch.testing.assert_close(inner[row], alone[other][row])
    assert model.active_tuners == ["second"]
    assert torch.equal(answer(model, inputs), alone["second"])


@pytest.mark.parametrize("names", ["first", 3, ["first", 3], [["first", 3]]], ids=str)
def test_rows_that_are_no_list_of_names_are_refused(names: object) -> None:
    model = make_two()
    with pytest.raises(UnsupportedConfig, match="expected a list with, for each row"), model.rows(names):  # type: ignore[arg-type]  # that is the point
        pass
    assert model.active_tuners == ["first", "second"]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_state_dict_names_each_tensor_once_and_loads_strictly(tied: bool) -> None:
    model = Swift.prepare_model(tiny_decoder(tie_word_embeddings=tied).eval(), lora(target_modules=["q_proj"]))
    disturb(model)
    state = model.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    twin = Swift.prepare_model(tiny_decoder(tie_word_embeddings=tied).eval(), lora(target_modules=["q_proj"]))
    twin.load_state_dict(state)
    assert torch.equal(answer(twin, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))
    # Whole ones load as well, and copies have the same names.
    twin.load_state_dict({f"host.{name}": tensor for name, tensor in model.host.state_dict().items()})
    assert list(copy.deepcopy(model).state_dict()) == list(state)


@pytest.mark.parametrize("names", [[None, None], [], ["first", "first"]], ids=str)
def test_another_number_of_rows_than_the_batch_has_is_refused(names: list[str | None]) -> None:
    model = make_two()
    with model.rows(names), pytest.raises(UnsupportedConfig, match=f"chosen for {len(names)} rows"):
        answer(model, toy_mlp_inputs())
