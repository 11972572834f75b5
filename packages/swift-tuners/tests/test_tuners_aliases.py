"""A module under several names: an adapter acts in each of its uses, and comes off each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import CheckpointMismatch
from swift_tuners.host_modules import alias_names
from swift_tuners.targets import find_targets
from swift_tuners.testing import answer, check_tuner, disturb
from torch import Tensor, nn

FIRST = ["body.0", "last"]
# Each works on linear layers; the numbers are small enough for 8 features.
METHODS: dict[str, Callable[..., peft.PeftConfig]] = {
    "lora": lambda **names: LoraConfig(r=2, **names),
    "dora": lambda **names: LoraConfig(r=2, use_dora=True, **names),
    "adalora": lambda **names: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, **names),
    "ia3": lambda **names: peft.IA3Config(feedforward_modules=names["target_modules"], **names),
    "oft": lambda **names: peft.OFTConfig(oft_block_size=4, use_cayley_neumann=False, **names),
    "boft": lambda **names: peft.BOFTConfig(boft_block_size=4, **names),
    "vera": lambda **names: peft.VeraConfig(r=4, **names),
    "fourierft": lambda **names: peft.FourierFTConfig(n_frequency=8, scaling=1.0, **names),
    "loha": lambda **names: peft.LoHaConfig(r=2, **names),
    "lokr": lambda **names: peft.LoKrConfig(r=2, **names),
    "hra": lambda **names: peft.HRAConfig(r=2, **names),
    "in full": lambda target_modules: LoraConfig(r=2, target_modules=["last"], modules_to_save=target_modules[:1]),
}
each_method = pytest.mark.parametrize("method", METHODS)


class Reused(nn.Module):
    """Three uses of one layer: in a list, by a name of its own, which comes first in the class, and in a block."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(8, 8)
        self.body = nn.ModuleList([layer, nn.ReLU(), layer])
        self.again = layer
        self.again_too = layer
        self.last = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8) to (B, 8)."""
        for layer in self.body:
            x = layer(x)
        out: Tensor = self.last(x + self.again(x.tanh()))
        return out


class Blocks(nn.Module):
    """One block that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.ModuleDict({"inner": nn.Linear(8, 8), "outer": nn.Linear(8, 8)})
        self.blocks = nn.ModuleList([block, block])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8) to (B, 8)."""
        for block in self.blocks:
            x = block["outer"](block["inner"](x).tanh())  # type: ignore[index]  # a ModuleDict
        return x


def make(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind().eval()


def make_reused() -> nn.Module:
    return make(Reused)


def make_blocks() -> nn.Module:
    return make(Blocks)


def inputs() -> dict[str, Tensor]:
    return {"x": torch.randn(3, 8, generator=torch.Generator().manual_seed(1))}


def places(host: nn.Module) -> dict[str, nn.Module]:
    return {
        f"{path}.{name}": child
        for path, module in host.named_modules()
        for name, child in module._modules.items()
        if child is not None
    }


def check_merge(model: SwiftModel) -> None:
    """A merge changes the weight for all uses: equal answers mean that the adapter acted in each."""
    before = answer(model, inputs())
    merged = model.merge_and_unload()
    assert (answer(merged, inputs()) - before).abs().max() < 1e-5
    held = places(merged)
    assert held[".again"] is held["body.0"] is held["body.2"]


@each_method
@pytest.mark.parametrize("targets", [["0", "last"], ["again", "last"], ["body.2", "last"], r"again|last"], ids=str)
def test_an_adapter_acts_in_every_use_whichever_name_it_was_given(method: str, targets: list[str] | str) -> None:
    if method == "in full" and isinstance(targets, str):
        pytest.skip("modules_to_save takes names")
    host = make_reused()
    before, plain = places(host), answer(host, inputs())
    model = Swift.prepare_model(host, METHODS[method](target_modules=targets))
    disturb(model)
    assert not torch.equal(answer(model, inputs()), plain)
    assert type(host.again) is not nn.Linear
    assert host.again is host.get_submodule("body")[0] is host.get_submodule("body")[2]  # type: ignore[index]  # a list
    twin = copy.deepcopy(model)
    assert torch.equal(answer(twin, inputs()), answer(model, inputs()))
    check_merge(twin)
    model.deactivate()
    assert torch.equal(answer(model, inputs()), plain)
    model.unload()
    assert {name: id(each) for name, each in places(host).items()} == {name: id(each) for name, each in before.items()}
    assert torch.equal(answer(host, inputs()), plain)


@each_method
def test_checkpoints_have_the_keys_of_peft_and_go_both_ways(method: str, tmp_path: Path) -> None:
    ours = Swift.prepare_model(make_reused(), METHODS[method](target_modules=["again", "last"]))
    disturb(ours)
    ours.save_pretrained(tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(make_reused(), tmp_path / "ours")
    again = Swift.from_pretrained(make_reused(), tmp_path / "ours")
    assert torch.equal(answer(again, inputs()), answer(ours, inputs()))
    theirs.save_pretrained(str(tmp_path / "theirs"))
    back = Swift.from_pretrained(make_reused(), tmp_path / "theirs")
    assert torch.equal(answer(back, inputs()), answer(ours, inputs()))
    ours.set_active_tuners([])
    assert torch.equal(answer(ours, inputs()), answer(make_reused(), inputs()))


def test_a_tuner_of_another_kind_comes_and_goes_in_every_use() -> None:
    names = {"target_modules": FIRST}
    model = Swift.prepare_model(make_reused(), {"one": METHODS["lora"](**names), "two": METHODS["ia3"](**names)})
    Swift.prepare_model(model, {"three": METHODS["lora"](target_modules=["again"])})
    disturb(model)
    twin = copy.deepcopy(model)
    check_merge(twin)
    model.set_active_tuners("one")
    alone = answer(model, inputs())
    model.detach("two")
    model.detach("three")
    assert torch.equal(answer(model, inputs()), alone)
    check_merge(model)


def test_both_uses_give_gradients() -> None:
    model = Swift.prepare_model(make_reused(), METHODS["lora"](target_modules=["again"]))
    disturb(model)
    model(**inputs()).sum().backward()
    weights = model.tuners["default"].parameters()
    merged = make_reused()
    twin = copy.deepcopy(model).merge_and_unload()
    twin.requires_grad_()
    twin(**inputs()).sum().backward()
    # d/dA of f(W + s B A) is s B^T df/dW, with df/dW from all uses.
    name = "body.0.lora_A.default.weight"
    matrix_b = weights["body.0.lora_B.default.weight"].detach()
    gradient = twin.get_parameter("body.0.weight").grad
    assert gradient is not None
    layer: Any = model.host.again
    scale = layer.scaling["default"]
    assert torch.allclose(weights[name].grad, scale * matrix_b.T @ gradient, atol=1e-4)  # type: ignore[arg-type]  # after backward
    assert places(merged).keys() == places(twin).keys()


@pytest.mark.parametrize("method", ["lora", "ia3", "vera", "loha"])
def test_the_laws_hold(method: str) -> None:
    check_tuner(lambda: METHODS[method](target_modules=FIRST), make_reused, inputs())


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize(("kind", "target"), [(Reused, "again"), (Blocks, "inner")])
def test_starts_that_rewrite_a_weight_are_saved_for_all_its_names(
    start: str, kind: type[nn.Module], target: str, tmp_path: Path
) -> None:
    model = Swift.prepare_model(make(kind), LoraConfig(r=2, target_modules=[target], init_lora_weights=start))  # type: ignore[arg-type]  # one of its literals
    disturb(model)
    model.save_pretrained(tmp_path)
    loaded = Swift.from_pretrained(make(kind), tmp_path)
    assert torch.allclose(answer(loaded, inputs()), answer(model, inputs()), atol=1e-5)
    if kind is Blocks:
        theirs = peft.PeftModel.from_pretrained(make(kind), tmp_path)
        assert torch.allclose(answer(theirs, inputs()), answer(loaded, inputs()), atol=1e-5)


def test_a_block_with_two_names_has_them_in_its_checkpoint_as_with_peft(tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["blocks.1.inner"])
    model = Swift.prepare_model(make_blocks(), config)
    disturb(model)
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(make_blocks(), tmp_path)
    assert torch.allclose(answer(theirs, inputs()), answer(model, inputs()), atol=1e-6)
    # The names in the caller's config stay as they were given.
    assert sorted(config.target_modules or ()) == ["blocks.1.inner"]


def test_options_may_name_any_alias() -> None:
    options: dict[str, Any] = {"rank_pattern": {"again": 1}, "alpha_pattern": {"again": 4}}
    model = Swift.prepare_model(make_reused(), LoraConfig(r=2, target_modules=FIRST, **options))
    layer: Any = model.host.again
    assert (layer.r["default"], layer.lora_alpha["default"]) == (1, 4)
    model = Swift.prepare_model(make_reused(), LoraConfig(target_modules="all-linear", exclude_modules=["again"]))
    assert isinstance(model.host.again, nn.Linear)
    model = Swift.prepare_model(make_reused(), LoraConfig(target_modules=["last"], target_parameters=["again.weight"]))
    assert next(iter(model.tuners["default"].state())).startswith("body.0")


def test_new_tokens_reach_every_use_of_an_embedding() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(6, 4)
            self.same_words = self.words
            self.out = nn.Linear(4, 4)

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.out(self.words(ids) - 2 * self.same_words(ids))
            return out

    host, ids = Words(), {"ids": torch.tensor([[2, 3]])}
    config = LoraConfig(target_modules=["out"], trainable_token_indices={"same_words": [3]})
    model = Swift.prepare_model(host, config)
    disturb(model)
    assert host.same_words is host.words
    before = answer(model, ids)
    merged = model.merge_and_unload()
    assert torch.allclose(answer(merged, ids), before, atol=1e-5)
    assert merged.same_words is merged.words


@pytest.mark.parametrize("name", ["again", "body.0"])
def test_a_module_that_plain_peft_trained_in_full_is_loaded_by_any_name(name: str, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(make_reused(), LoraConfig(r=2, target_modules=["last"], modules_to_save=[name]))
    path = f"base_model.model.{name}.modules_to_save.default.weight"
    theirs.get_parameter(path).data.mul_(2)
    theirs.save_pretrained(str(tmp_path))
    loaded = Swift.from_pretrained(make_reused(), tmp_path)
    copied = loaded.host.get_parameter("body.0.modules_to_save.default.weight")
    assert torch.equal(copied, theirs.get_parameter(path))
    doubled = make_reused()
    doubled.get_parameter("again.weight").data.mul_(2)
    assert torch.equal(answer(loaded, inputs()), answer(doubled, inputs()))


def test_uses_that_plain_peft_trained_apart_are_refused(tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["last"], modules_to_save=["again", "again_too"])
    theirs = peft.get_peft_model(make_reused(), config)
    theirs.get_parameter("base_model.model.again.modules_to_save.default.weight").data.mul_(2)
    theirs.save_pretrained(str(tmp_path))
    with pytest.raises(CheckpointMismatch, match="PEFT trained its uses apart"):
        Swift.from_pretrained(make_reused(), tmp_path)


def test_names_of_aliases_are_known_and_the_first_ones_are_found() -> None:
    host = make_reused()
    assert alias_names(host) == {"body.2": "body.0", "again": "body.0", "again_too": "body.0"}
    assert find_targets(host, ["again"]) == find_targets(host, r".*\.2") == ["body.0"]
    assert find_targets(host, "all-linear") == FIRST
    assert alias_names(make_blocks()) == {
        "blocks.1": "blocks.0",
        "blocks.1.inner": "blocks.0.inner",
        "blocks.1.outer": "blocks.0.outer",
    }


def test_a_model_whose_parts_know_each_other_has_its_names() -> None:
    host = make_reused()
    host.get_submodule("last").owner = host
    assert alias_names(host)["again"] == "body.0"
    assert find_targets(host, ["again"]) == ["body.0"]
