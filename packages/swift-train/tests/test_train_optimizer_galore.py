"""GaLore's and APOLLO's updates in the backward pass, and what Q-GaLore keeps in few bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from swift_train.errors import InvalidTrainArgs
from swift_train.optimizer import build_optimizer, count_state_bytes
from swift_train.optimizer_args import OptimizerArgs
from swift_train.optimizer_testing import OptimizerToy, make_groups, run_steps, through_files
from swift_train.optimizers._grouped_codes import coded_bytes, decode, encode
from swift_train.optimizers._int8_weight import Int8Weight, to_int8
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

LAYERWISE = OptimizerArgs(galore_rank=8, galore_update_proj_gap=2, galore_optim_per_parameter=True)
TOKENS = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(name: str, args: OptimizerArgs, dtype: torch.dtype = torch.float32) -> tuple[OptimizerToy, Any]:
    model = OptimizerToy(dtype)
    return model, build_optimizer(name, model, make_groups(model, 1e-3, 0.1), args)


@pytest.mark.parametrize("name", ["galore", "q_galore", "apollo", "apollo_mini"])
def test_updates_in_the_backward_pass_equal_those_after_it_and_free_gradients(name: str) -> None:
    plain, after = start(name, OptimizerArgs(galore_rank=8, galore_update_proj_gap=2))
    layered, within = start(name, LAYERWISE)
    alive: list[int] = []
    for parameter in layered.parameters():
        if parameter.requires_grad:
            # Called after the optimizer's own.
            parameter.register_post_accumulate_grad_hook(
                lambda _: alive.append(sum(each.grad is not None for each in layered.parameters()))
            )
    for step in range(5):
        run_steps(plain, after, step, step + 1)
        layered(torch.randint(0, 64, (2, 12), generator=seeded(step))).backward()
        within.step()
        for group, other in zip(after.param_groups, within.param_groups, strict=True):
            group["lr"] = other["lr"] = 1e-3 * (step + 1)
    assert set(alive) == {0}
    assert len(alive) == 5 * sum(each.requires_grad for each in layered.parameters()) - 5  # `unused` has no gradient
    for one, other in zip(plain.parameters(), layered.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_second_backward_pass_in_one_step_is_refused() -> None:
    model, optimizer = start("galore", LAYERWISE)
    model(TOKENS).backward()
    with pytest.raises(InvalidTrainArgs, match="expected one backward pass per step"):
        model(TOKENS).backward()
    optimizer.step()
    model(TOKENS).backward()


def test_passes_of_one_step_gather_until_the_last_one_updates() -> None:
    plain, after = start("galore", OptimizerArgs(galore_rank=8, galore_update_proj_gap=2))
    layered, within = start("galore", LAYERWISE)
    for _ in range(2):
        for is_last in (False, True):
            within.gathers = not is_last
            plain(TOKENS).backward()
            layered(TOKENS).backward()
        after.step()
        after.zero_grad()
        within.step()
    for one, other in zip(plain.parameters(), layered.parameters(), strict=True):
        assert torch.equal(one, other) and other.grad is None


@pytest.fixture
def two_processes() -> Iterator[None]:
    """Let torch believe that this is one of two processes."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("two_processes")
def test_updates_in_the_backward_pass_are_for_one_process() -> None:
    with pytest.raises(InvalidTrainArgs, match="asked for with 2 processes; expected one process"):
        start("galore", LAYERWISE)


@pytest.mark.usefixtures("two_processes")
def test_badam_lets_ddp_know_all_that_ever_trains() -> None:
    model, optimizer = start("badam", OptimizerArgs(optim_args="switch_interval=2,switch_mode=ascending"))
    trained = [each for each in model.parameters() if each is not model.frozen]
    before = [each.detach().clone() for each in trained]
    assert all(each.requires_grad for each in trained)
    run_steps(model, optimizer, 0, 1)
    moved = {name for name, each in model.named_parameters() if id(each) in map(id, optimizer.state)}
    assert moved and all(name.startswith("layers.0.") for name in moved)
    assert sum(not torch.equal(one, other) for one, other in zip(trained, before, strict=True)) == len(moved)


def test_hooks_rest_when_their_optimizer_is_gone() -> None:
    model, optimizer = start("galore", LAYERWISE)
    before = model.norm.weight.detach().clone()
    del optimizer
    model(TOKENS).backward()
    assert torch.equal(model.norm.weight, before) and model.norm.weight.grad is not None


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_within_half_a_step_of_their_numbers(bits: int) -> None:
    values = torch.randn(37, 11, generator=seeded())
    coded = encode(values, bits=bits, group_size=32)
    error = torch.nn.functional.pad((decode(coded, values.shape, bits=bits) - values).flatten(), (0, 9)).view(-1, 32)
    # Half a step by rounding, and half a step more at the ends, where the zero point is rounded too.
    assert (error.abs() <= coded.scales[:, None] * (1 + 1e-5)).all()
    assert error.abs().median() < coded.scales.mean() * 0.3
    assert coded.codes.nbytes == 13 * 32 * bits // 8
    assert coded_bytes(37 * 11, bits=bits, group_size=32) == sum(each.nbytes for each in coded)


@pytest.mark.parametrize("values", [torch.zeros(8), torch.full((8,), 3.0), torch.full((8,), -2.0)], ids=str)
def test_constant_groups_have_exact_codes(values: Tensor) -> None:
    torch.testing.assert_close(decode(encode(values, bits=4, group_size=8), values.shape, bits=4), values)


def test_stochastic_rounding_keeps_the_mean() -> None:
    values = torch.randn(256, generator=seeded())
    draws = torch.stack(
        [decode(encode(values, bits=8, group_size=256, generator=seeded(n)), (256,), bits=8) for n in range(1000)]
    )
    step = (values.max() - values.min()) / 254
    # A rounding error is uniform at most, with standard deviation of at most half a step; five of the mean's.
    assert ((draws.mean(dim=0) - values).abs() < 5 * 0.5 * step / math.sqrt(1000)).all()
    # Rounded to the nearest, a number off the grid has the same error in every draw.
    assert draws.std(dim=0).max() > 0.4 * step


def test_projections_in_4_bits_take_half_a_byte_per_number() -> None:
    # Table 1 of arXiv 2407.08296: INT4 projections of m r numbers, 8-bit moments of n r each.
    model = nn.Sequential(nn.Linear(512, 256, bias=False))
    args = OptimizerArgs(optim="q_galore", galore_rank=32)
    optimizer = build_optimizer("q_galore", model, make_groups(model, 1e-3, 0.0), args)
    model(torch.randn(4, 512, generator=seeded())).square().mean().backward()
    optimizer.step()
    projection, moments = 256 * 32 / 2 + 5 * 32, 2 * (512 * 32 + 4 * 64)
    assert count_state_bytes(optimizer) == projection + moments


@pytest.mark.parametrize(("same", "gaps"), [(True, [2, 2, 2, 4, 4, 8]), (False, [2] * 6)], ids=["still", "turning"])
def test_spaces_that_stay_are_chosen_anew_more_rarely(same: bool, gaps: list[int]) -> None:
    # With a queue of 2 cosines: known at the third choice, at steps 0, 2, 4; then after 4 and 8 steps.
    model = nn.Sequential(nn.Linear(64, 48, bias=False))
    args = OptimizerArgs(galore_rank=4, galore_update_proj_gap=2, galore_queue_size=2, galore_cos_threshold=0.5)
    optimizer = build_optimizer("q_galore", model, make_groups(model, 1e-3, 0.0), args)
    weight = model.get_parameter("0.weight")
    found = []
    for step in range(11):
        weight.grad = torch.randn(48, 64, generator=seeded(0 if same else step))
        optimizer.step()
        found.append(optimizer.state[weight]["gap"])
    assert [found[at] for at in (0, 2, 3, 4, 6, 8)] == gaps


def test_q_galore_follows_galore_up_to_its_rounding() -> None:
    args = OptimizerArgs(galore_rank=16, galore_update_proj_gap=4)
    (one, exact), (other, rounded) = start("galore", args), start("q_galore", args)
    begin = one.get_parameter("layers.0.mlp.0.weight").detach().clone()
    run_steps(one, exact, 0, 4)
    run_steps(other, rounded, 0, 4)
    moved = one.get_parameter("layers.0.mlp.0.weight") - begin
    away = other.get_parameter("layers.0.mlp.0.weight") - begin
    # 4-bit vectors are off by some 10 %, and Adam's division makes more of it; the direction stays.
    assert torch.nn.functional.cosine_similarity(moved.flatten(), away.flatten(), dim=0) > 0.9


def test_a_weight_in_8_bits_makes_the_products_and_gradients_of_its_floats() -> None:
    layer, plain = nn.Linear(40, 24), nn.Linear(40, 24)
    weight = layer.get_parameter("weight")
    to_int8(weight)
    assert weight is layer.weight and isinstance(weight, Int8Weight)
    with torch.no_grad():
        plain.weight.copy_(weight.floats())
        plain.bias.copy_(layer.bias)
    x = torch.randn(3, 5, 40, generator=seeded(), requires_grad=True)
    other = x.detach().clone().requires_grad_()
    layer(x).square().sum().backward()
    plain(other).square().sum().backward()
    assert torch.equal(layer(x), plain(x))
    for one, two in ((x, other), (weight, plain.weight), (layer.bias, plain.bias)):
        assert one.grad is not None and type(one.grad) is Tensor
        torch.testing.assert_close(one.grad, two.grad)


def test_a_weight_in_8_bits_is_an_ordinary_tensor_to_whoever_copies_it() -> None:
    layer = nn.Linear(40, 24)
    before = layer.weight.detach().clone()
    to_int8(layer.get_parameter("weight"))
    copied = layer.weight.detach().to("cpu", copy=True).contiguous()
    assert type(copied) is Tensor
    torch.testing.assert_close(copied, before, atol=(before.max() - before.min()).item() / 255, rtol=0)
    layer.load_state_dict({"weight": before * 2, "bias": layer.bias.detach()})
    torch.testing.assert_close(layer.weight.detach().clone(), copied * 2, atol=1e-6, rtol=0)
    with pytest.raises(TypeError, match="cannot be changed by"):
        layer.weight.detach().mul_(2)


@pytest.mark.parametrize("layerwise", [False, True], ids=["after", "in backward"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_in_8_bits_learn_and_resume_to_the_bit(dtype: torch.dtype, layerwise: bool) -> None:
    args = OptimizerArgs(
        galore_rank=16, galore_update_proj_gap=2, galore_int8_weights=True, galore_optim_per_parameter=layerwise
    )
    model, optimizer = start("q_galore", args, dtype)
    weight = model.get_parameter("layers.0.mlp.0.weight")
    assert isinstance(weight, Int8Weight)
    assert sum(each.nbytes for each in weight.coded) == 128 * 64 + 32 * 5
    first = model(TOKENS).item()
    run_steps(model, optimizer, 0, 5)
    weights = {name: each.detach().clone() for name, each in model.state_dict().items()}
    assert not any(isinstance(each, Int8Weight) for each in weights.values())
    saved = through_files(optimizer.state_dict())
    run_steps(model, optimizer, 5, 9)
    resumed = OptimizerToy(dtype)
    resumed.load_state_dict(weights)
    again = build_optimizer("q_galore", resumed, make_groups(resumed, 1e-3, 0.1), args)
    again.load_state_dict(saved)
    run_steps(resumed, again, 5, 9)
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one.detach().clone(), other.detach().clone())
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    for _ in range(80):
        run_steps(model, optimizer, 0, 1)
    assert model(TOKENS).item() < first / 2


def test_small_steps_are_not_lost_in_8_bits() -> None:
    # A step of 1e-4 is a fiftieth of the distance between two codes: rounded to the nearest, nothing would ever move.
    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    args = OptimizerArgs(galore_rank=64, galore_int8_weights=True)
    optimizer = build_optimizer("q_galore", model, make_groups(model, 1e-4, 0.0), args)
    weight = model.get_parameter("0.weight")
    begin = weight.detach().clone()
    gradient = torch.randn(64, 64, generator=seeded())
    for _ in range(50):
        weight.grad = gradient.clone()
        optimizer.step()
    moved = weight.detach().clone() - begin
    # Downhill all in all.
    assert torch.nn.functional.cosine_similarity(moved.flatten(), -gradient.flatten(), dim=0) > 0.5
