"""Adapters of PEFT chosen row by row: each row answers as alone with its own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.testing import TOYS, answer, disturb, tiny_decoder, toy_mlp, toy_mlp_inputs
from torch import Tensor, nn

METHODS: dict[str, Callable[[], peft.PeftConfig]] = {
    "lora": lambda: LoraConfig(r=2, target_modules="all-linear"),
    "dora": lambda: LoraConfig(r=2, target_modules="all-linear", use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules="all-linear", feedforward_modules=[]),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules="all-linear"),
}
CONVOLUTIONS: dict[str, Callable[[], peft.PeftConfig]] = {
    "lora": lambda: LoraConfig(r=2, target_modules=["conv", "stem", "head"]),
    "dora": lambda: LoraConfig(r=2, target_modules=["conv", "stem", "head"], use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules=["conv", "stem", "head"], feedforward_modules=[]),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules=["conv", "stem", "head"]),
}
# A product of matrices with fewer rows adds up in another order, which moves float32's last digits.
TOLERANCE = 1e-6


def give_weights(model: SwiftModel) -> None:
    """Give each tuner other weights than the others have."""
    generator = torch.Generator().manual_seed(5)
    for tuner in model.tuners.values():
        for parameter in tuner.parameters().values():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


def take_rows(inputs: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return {name: torch.cat([each] * count)[:count] for name, each in inputs.items()}


def check_each_row(model: SwiftModel, inputs: dict[str, Tensor], choice: list[str | list[str] | None]) -> None:
    """Compare each row of a mixed batch with the same row run alone with its tuners."""
    before = model.active_tuners
    with model.rows(choice):
        mixed = answer(model, inputs)
    assert model.active_tuners == before
    for row, names in enumerate(choice):
        model.set_active_tuners(names or [])
        alone = answer(model, {name: each[row : row + 1] for name, each in inputs.items()})
        assert (mixed[row] - alone[0]).abs().max() < TOLERANCE
    model.set_active_tuners(before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("toy", ["mlp", "decoder", "conv"])
def test_each_row_answers_as_alone_with_its_tuners(method: str, toy: str) -> None:
    make_config = (CONVOLUTIONS if toy == "conv" else METHODS)[method]
    model = Swift.prepare_model(TOYS[toy].make_model().eval(), {"one": make_config(), "two": make_config()})
    give_weights(model)
    inputs = take_rows(TOYS[toy].make_inputs(), 5)
    check_each_row(model, inputs, ["two", None, "one", ["one", "two"], "two"])


def test_methods_of_several_kinds_around_one_layer_are_chosen_together() -> None:
    # The outer one's layers pass some of the rows on to the inner one's.
    model = Swift.prepare_model(tiny_decoder().eval(), {"inner": METHODS["lora"](), "outer": METHODS["ia3"]()})
    give_weights(model)
    inputs = take_rows(TOYS["decoder"].make_inputs(), 6)
    check_each_row(model, inputs, ["inner", "outer", None, ["inner", "outer"], "inner", "outer"])


def test_tuners_on_different_layers_are_chosen_together() -> None:
    configs = {name: LoraConfig(r=2, target_modules=[name]) for name in ("q_proj", "up_proj")}
    model = Swift.prepare_model(
        tiny_decoder().eval(), {"lower": configs["q_proj"], "upper": configs["up_proj"], "both": METHODS["lora"]()}
    )
    give_weights(model)
    inputs = take_rows(TOYS["decoder"].make_inputs(), 4)
    check_each_row(model, inputs, ["upper", "both", ["lower", "upper"], "lower"])


def test_trained_tokens_are_chosen_by_row() -> None:
    configs = {
        "one": LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 5]),
        "two": LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[4, 6]),
    }
    model = Swift.prepare_model(tiny_decoder().eval(), configs)
    give_weights(model)
    inputs = {"input_ids": torch.tensor([[3, 4, 5, 6]] * 4)}
    check_each_row(model, inputs, ["two", "one", None, ["one", "two"]])


def test_rows_that_agree_are_not_split() -> None:
    model = Swift.prepare_model(toy_mlp().eval(), {"one": METHODS["lora"](), "two": METHODS["lora"]()})
    give_weights(model)
    calls: list[int] = []
    model.host.get_submodule("up").register_forward_hook(lambda *_: calls.append(1))
    base = model.host.get_submodule("up").get_submodule("base_layer")
    sizes: list[int] = []
    base.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    model.set_active_tuners("one")
    alone = answer(model, toy_mlp_inputs())
    with model.rows(["one", "one", "one"]):
        assert torch.equal(answer(model, toy_mlp_inputs()), alone)
    assert sizes == [3, 3]
    with model.rows(["one", "two", "one"]):
        answer(model, toy_mlp_inputs())
    # A hook of the user's on the layer sees the whole batch once, whatever is split inside.
    assert (sizes[2:], len(calls)) == ([2, 1], 3)


def test_each_row_trains_its_own_tuner() -> None:
    model = Swift.prepare_model(toy_mlp(), {"one": METHODS["lora"](), "two": METHODS["lora"]()})
    give_weights(model)
    with model.rows(["one", None, "one"]):
        model(**toy_mlp_inputs()).sum().backward()
    assert all(each.grad is not None for each in model.tuners["one"].parameters().values())
    assert all(each.grad is None for each in model.tuners["two"].parameters().values())
    model.zero_grad(set_to_none=True)
    mixed = {}
    with model.rows(["one", "two", "one"]):
        model(**toy_mlp_inputs()).sum().backward()
    for name, parameter in model.tuners["two"].parameters().items():
        assert parameter.grad is not None
        mixed[name] = parameter.grad.clone()
    model.zero_grad(set_to_none=True)
    model.set_active_tuners("two")
    model(x=toy_mlp_inputs()["x"][1:2]).sum().backward()
    for name, parameter in model.tuners["two"].parameters().items():
        assert parameter.grad is not None
        assert (parameter.grad - mixed[name]).abs().max() < TOLERANCE


def test_text_is_generated_with_a_tuner_for_each_row() -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), {"one": METHODS["lora"](), "two": METHODS["lora"]()})
    for tuner in model.tuners.values():
        generator = torch.Generator().manual_seed(len(tuner.name) + ord(tuner.name[0]))
        for parameter in tuner.parameters().values():
            parameter.data += torch.randn(parameter.shape, generator=generator)
    prompt = torch.tensor([[5, 6, 7]])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    alone = {}
    for name in ("one", "two", None):
        model.set_active_tuners(name or [])
        alone[name] = model.generate(input_ids=prompt, **options)[0].tolist()
    assert len({tuple(tokens) for tokens in alone.values()}) == 3
    with model.rows(["two", None, "one"]):
        mixed = model.generate(input_ids=prompt.expand(3, -1), **options)
    assert mixed.tolist() == [alone["two"], alone[None], alone["one"]]


def test_beam_search_which_multiplies_rows_is_refused() -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), {"one": METHODS["lora"](), "two": METHODS["lora"]()})
    give_weights(model)
    prompt = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with model.rows(["one", "two"]), pytest.raises(UnsupportedConfig, match=r"2 rows.*beam search"):
        model.generate(input_ids=prompt, num_beams=2, max_new_tokens=2, pad_token_id=0)
    # Where all rows name the same tuners, it does not matter how many there are.
    model.set_active_tuners("one")
    expected = model.generate(input_ids=prompt, num_beams=2, max_new_tokens=2, pad_token_id=0)
    with model.rows(["one", "one"]):
        found = model.generate(input_ids=prompt, num_beams=2, max_new_tokens=2, pad_token_id=0)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("names", [["one"], ["one", "one"], ["one"] * 4, ["one", "two"], ["one", None]], ids=str)
@pytest.mark.parametrize("toy", ["mlp", "decoder"])
def test_a_choice_for_another_number_of_rows_is_refused_also_where_all_agree(names: list[str | None], toy: str) -> None:
    model = Swift.prepare_model(TOYS[toy].make_model().eval(), {"one": METHODS["lora"](), "two": METHODS["ia3"]()})
    inputs = take_rows(TOYS[toy].make_inputs(), 3)
    if len(names) == 1:
        # One for all is how beams of one row come.
        with model.rows(names):
            assert len(answer(model, inputs)) == 3
        return
    with model.rows(names), pytest.raises(UnsupportedConfig, match=rf"chosen for {len(names)} rows, but .* 3"):
        answer(model, inputs)
    assert not model.host._forward_pre_hooks
    assert len(answer(model, inputs)) == 3


def test_layers_without_rows_may_answer_where_all_rows_agree() -> None:
    model = Swift.prepare_model(Flattened().eval(), {"one": METHODS["lora"](), "two": METHODS["lora"]()})
    with model.rows(["one", "one"]):
        assert answer(model, {"x": torch.randn(2, 3, 4)}).shape == (2, 3, 4)


class Flattened(nn.Module):
    """A model whose layer sees all tokens of all rows as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, 4) to (B, T, 4)."""
        out: Tensor = self.inner(x.reshape(-1, 4)).reshape(x.shape)
        return out


def test_layers_that_see_no_rows_are_refused_with_the_reason() -> None:
    model = Swift.prepare_model(Flattened().eval(), {"one": METHODS["lora"](), "two": METHODS["lora"]()})
    with model.rows(["one", "two"]), pytest.raises(UnsupportedConfig, match=r"around Linear.*\(6, 4\)"):
        answer(model, {"x": torch.randn(2, 3, 4)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(r=2, target_modules=["up"], bias="all"), "weights of the host"),
        (peft.LilyConfig(r=2, target_modules=["up"]), "all rows of the batch"),
    ],
)
def test_tuners_that_act_on_all_rows_are_refused_and_nothing_stays(config: peft.PeftConfig, message: str) -> None:
    model = Swift.prepare_model(toy_mlp().eval(), {"one": config, "two": METHODS["lora"]()})
    disturb(model)
    before = answer(model, toy_mlp_inputs())
    with pytest.raises(UnsupportedConfig, match=message), model.rows(["one", "two", None]):
        pytest.fail("the choice was taken")
    assert torch.equal(answer(model, toy_mlp_inputs()), before)


def test_attention_of_torch_is_refused() -> None:
    host = nn.Sequential(nn.MultiheadAttention(8, num_heads=2))
    model = Swift.prepare_model(host, LoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(UnsupportedConfig, match="MultiheadAttention"), model.rows(["default"]):
        pytest.fail("the choice was taken")


def test_a_choice_of_rows_leaves_nothing_behind() -> None:
    host = toy_mlp().eval()
    attributes = {name: set(vars(module)) for name, module in host.named_modules()}
    plain = answer(host, toy_mlp_inputs())
    model = Swift.prepare_model(host, {"one": METHODS["lora"](), "two": METHODS["ia3"]()})
    give_weights(model)
    on = answer(model, toy_mlp_inputs())
    with model.rows(["one", "two", None]):
        mixed = answer(model, toy_mlp_inputs())
        twin = copy.deepcopy(model)
    assert torch.equal(answer(model, toy_mlp_inputs()), on)
    assert not any("forward" in vars(module) for module in host.modules())
    # A copy made inside the block goes on choosing, with its own weights, until it is told to stop.
    assert torch.equal(answer(twin, toy_mlp_inputs()), mixed)
    for tuner in twin.tuners.values():
        tuner.choose_rows(None)
    twin.set_active_tuners(["one", "two"])
    assert torch.equal(answer(twin, toy_mlp_inputs()), on)
    model.unload()
    assert {name: set(vars(module)) for name, module in host.named_modules()} == attributes
    assert torch.equal(answer(host, toy_mlp_inputs()), plain)
