"""Each rule against its paper's formulas, written anew in numpy float64, over a few steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from swift_train.optimizer import build_optimizer
from swift_train.optimizer_args import OptimizerArgs
from swift_train.optimizer_testing import OptimizerToy, make_groups
from swift_train.optimizers._scaled_gradient import project_randomly
from torch import nn

Array = npt.NDArray[np.float64]
RATE, DECAY, EPSILON = 1e-2, 0.1, 1e-8
BETA1, BETA2 = 0.9, 0.95
# float32 against float64: some ten operations on weights of size 1.
RTOL, ATOL = 1e-5, 2e-6


class Adam:
    """Algorithm 1 of arXiv 1412.6980."""

    def __init__(self) -> None:
        self.m: Any = 0.0
        self.v: Any = 0.0
        self.t = 0

    def direction(self, gradient: Array) -> Array:
        """Return the step without the learning rate."""
        self.t += 1
        self.m = BETA1 * self.m + (1 - BETA1) * gradient
        self.v = BETA2 * self.v + (1 - BETA2) * gradient**2
        out: Array = (self.m / (1 - BETA1**self.t)) / (np.sqrt(self.v / (1 - BETA2**self.t)) + EPSILON)
        return out

    def follow(self, gradient: Array, _: torch.optim.Optimizer) -> Array:
        """Return the same, as `follow` asks for it."""
        return self.direction(gradient)


def gradients(shape: tuple[int, ...], num: int = 6) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) * (step + 1) for step in range(num)]


def one_layer(height: int, width: int) -> tuple[nn.Module, nn.Parameter]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, height, bias=False))
    return model, model.get_parameter("0.weight")


def follow(
    name: str,
    args: OptimizerArgs,
    model: nn.Module,
    parameter: nn.Parameter,
    direction: Callable[[Array, torch.optim.Optimizer], Array],
    *,
    num: int = 6,
) -> None:
    """Give an optimizer gradients, and compare each step with w (1 - lr decay) - lr direction."""
    optimizer = build_optimizer(name, model, make_groups(model, RATE, DECAY), args)
    decay = DECAY if parameter.ndim > 1 else 0.0
    expected = parameter.detach().double().numpy().copy()
    for gradient in gradients(tuple(parameter.shape), num):
        parameter.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        step = direction(parameter.grad.double().numpy(), optimizer)
        expected = expected * (1 - RATE * DECAY if decay else 1.0) - RATE * step
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=RTOL, atol=ATOL)


def test_adamw() -> None:
    model, weight = one_layer(5, 7)
    follow("adamw", OptimizerArgs(), model, weight, Adam().follow)


def test_lion() -> None:
    # Algorithm 2 of arXiv 2302.06675, with the paper's betas.
    model, weight = one_layer(5, 7)
    momentum = np.zeros((5, 7))

    def direction(gradient: Array, _: torch.optim.Optimizer) -> Array:
        nonlocal momentum
        out = np.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
        return out

    follow("lion", OptimizerArgs(), model, weight, direction)


def test_adafactor() -> None:
    # Algorithm 4 of arXiv 1804.04235 with the decay 1 - t^-0.8 of section 7.2 and clipping at 1.
    model, weight = one_layer(5, 7)
    rows, columns, t = np.zeros(5), np.zeros(7), 0

    def direction(gradient: Array, _: torch.optim.Optimizer) -> Array:
        nonlocal rows, columns, t
        t += 1
        beta2 = 1 - t**-0.8
        squares = gradient**2 + 1e-30
        # The paper sums; means differ by a factor that cancels.
        rows = beta2 * rows + (1 - beta2) * squares.mean(axis=1)
        columns = beta2 * columns + (1 - beta2) * squares.mean(axis=0)
        update = gradient / np.sqrt(np.outer(rows, columns) / rows.mean())
        out: Array = update / max(1.0, math.sqrt((update**2).mean()))
        return out

    follow("adafactor", OptimizerArgs(), model, weight, direction)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        # 4 heads of 16 rows; one block per output neuron; one per token; a vector as a whole.
        pytest.param("layers.0.self_attn.q_proj.weight", np.repeat(np.arange(4), 16)[:, None], id="query"),
        pytest.param("layers.1.self_attn.k_proj.weight", np.repeat(np.arange(4), 16)[:, None], id="key"),
        pytest.param("layers.0.self_attn.v_proj.weight", np.arange(64)[:, None], id="value"),
        pytest.param("layers.0.mlp.0.weight", np.arange(128)[:, None], id="mlp"),
        pytest.param("embed_tokens.weight", np.arange(64)[:, None], id="embedding"),
        pytest.param("lm_head.weight", np.arange(64)[:, None], id="head"),
        pytest.param("norm.weight", np.zeros(64, dtype=int), id="norm"),
        pytest.param("layers.0.self_attn.q_proj.bias", np.zeros(64, dtype=int), id="bias"),
        pytest.param("odd.5", np.arange(6).reshape(2, 3, 1), id="stacked experts"),
    ],
)
def test_adam_mini(name: str, blocks: npt.NDArray[np.int64]) -> None:
    # Algorithm 1 of arXiv 2406.16793, block by block.
    model = OptimizerToy()
    parameter = model.get_parameter(name)
    numbers = np.broadcast_to(blocks, tuple(parameter.shape))
    moments, m, t = np.zeros(numbers.max() + 1), np.zeros(tuple(parameter.shape)), 0

    def direction(gradient: Array, _: torch.optim.Optimizer) -> Array:
        nonlocal m, t
        t += 1
        m = BETA1 * m + (1 - BETA1) * gradient
        out = np.empty_like(m)
        for block in range(len(moments)):
            inside = numbers == block
            moments[block] = BETA2 * moments[block] + (1 - BETA2) * (gradient[inside] ** 2).mean()
            root = math.sqrt(moments[block] / (1 - BETA2**t)) + EPSILON
            out[inside] = m[inside] / (1 - BETA1**t) / root
        return out

    follow("adam_mini", OptimizerArgs(), model, parameter, direction, num=3)


@pytest.mark.parametrize("proj_type", ["std", "reverse_std", "left", "right", "full"])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)], ids=["wide", "tall", "square"])
def test_galore(shape: tuple[int, int], proj_type: Any) -> None:  # noqa: ANN401  # a word of a closed set
    # Algorithm 2 of arXiv 2403.03507, with a new space every second step.
    model, weight = one_layer(*shape)
    height, width = shape
    rows = {"std": height < width, "reverse_std": height >= width, "left": True, "right": False, "full": True}
    columns = {**{key: not value for key, value in rows.items()}, "full": True}
    adam = Adam()
    left, right = np.eye(height), np.eye(width)

    def direction(gradient: Array, optimizer: torch.optim.Optimizer) -> Array:
        nonlocal left, right
        if adam.t % 2 == 0:
            u, _, vh = np.linalg.svd(gradient)
            state = optimizer.state[weight]
            if rows[proj_type]:
                left = same_signs(u[:, :3], state["left"])
            if columns[proj_type]:
                right = same_signs(vh[:3].T, state["right"])
        seen = adam.direction(left.T @ gradient @ right)
        return 0.5 * left @ seen @ right.T

    args = OptimizerArgs(galore_rank=3, galore_update_proj_gap=2, galore_scale=0.5, galore_proj_type=proj_type)
    follow("galore", args, model, weight, direction)


def same_signs(basis: Array, like: torch.Tensor) -> Array:
    """Singular vectors have no sign of their own: take those that were chosen."""
    signs = np.sign((basis * like.double().numpy()).sum(axis=0))
    out: Array = basis * signs
    return out


def test_galore_trains_the_rest_by_adamw() -> None:
    model = OptimizerToy()
    for name in ("embed_tokens.weight", "norm.weight", "odd.3"):
        follow("galore", OptimizerArgs(), model, model.get_parameter(name), Adam().follow)


def test_galore_of_full_rank_is_adam_where_gradients_keep_their_directions() -> None:
    # In the basis of its own singular vectors a gradient is diagonal; with rank min(m, n) nothing is lost.
    model, weight = one_layer(4, 6)
    diagonal = np.zeros((4, 6))
    diagonal[:4, :4] = np.diag([4.0, 3.0, 2.0, 1.0])
    optimizer = build_optimizer("galore", model, make_groups(model, RATE, 0.0), OptimizerArgs())
    before = weight.detach().clone()
    for _ in range(3):
        weight.grad = torch.from_numpy(diagonal).float()
        optimizer.step()
    # Adam moves each number that has a constant gradient by the rate.
    np.testing.assert_allclose((before - weight.detach()).numpy(), 3 * RATE * np.sign(diagonal), atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)], ids=["wide", "tall"])
@pytest.mark.parametrize("mini", [False, True], ids=["apollo", "apollo_mini"])
def test_apollo(shape: tuple[int, int], mini: bool) -> None:
    # Algorithm 1 of arXiv 2412.05270; a tall weight is taken transposed; new random matrices every fourth step.
    model, weight = one_layer(*shape)
    rank, scale = (1, math.sqrt(128)) if mini else (3, 2.0)
    adam = Adam()
    before: float | None = None

    def direction(gradient: Array, _: torch.optim.Optimizer) -> Array:
        nonlocal before
        wide = gradient if shape[0] < shape[1] else gradient.T
        # The random numbers are ours: what they make of the unit matrix is the matrix.
        matrix = project_randomly(torch.eye(6), rank, seed=7_919 * (adam.t // 4)).double().numpy().T
        assert matrix.shape == (rank, 6)
        seen = matrix @ wide
        adapted = adam.direction(seen)
        scaling = (
            np.linalg.norm(adapted) / np.linalg.norm(seen)
            if mini
            else np.linalg.norm(adapted, axis=0) / np.linalg.norm(seen, axis=0)
        )
        step = wide * scaling
        size = float(np.linalg.norm(step))
        if before is not None and size / before > 1.01:
            step, size = step / size * 1.01 * before, 1.01 * before
        before = size
        return scale * (step if shape[0] < shape[1] else step.T)

    options = "update_proj_gap=4" if mini else "rank=3,scale=4,update_proj_gap=4"
    follow("apollo_mini" if mini else "apollo", OptimizerArgs(optim_args=options), model, weight, direction)


def test_apollos_random_matrix_keeps_lengths_on_average() -> None:
    # Rows are N(0, 1 / r), so |P x|^2 is |x|^2 times a chi-squared mean: 1 +- sqrt(2 / r / 400) here.
    x = torch.nn.functional.normalize(torch.randn(50, 400, generator=torch.Generator().manual_seed(3)), dim=0)
    seen = project_randomly(x, 20, seed=5)
    assert seen.shape == (20, 400)
    assert seen.square().sum(dim=0).mean().item() == pytest.approx(1.0, abs=0.1)


def test_muon() -> None:
    # B = 0.95 B + 0.05 g; five steps of a X + b (X X^T) X + c (X X^T)^2 X on the look-ahead; 0.2 sqrt(max(m, n)).
    model, weight = one_layer(6, 9)
    optimizer = build_optimizer("muon", model, make_groups(model, RATE, DECAY), OptimizerArgs())
    expected = weight.detach().double().numpy().copy()
    momentum = np.zeros((6, 9))
    for gradient in gradients((6, 9), 3):
        weight.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        x = 0.05 * gradient + 0.95 * momentum
        x /= np.linalg.norm(x)
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
        expected = expected * (1 - RATE * DECAY) - RATE * 0.2 * 3 * x
    # torch iterates in bfloat16: 3 digits of steps of 0.006.
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=3e-4)


def test_muon_takes_matrices_inside_and_adamw_the_rest() -> None:
    model = OptimizerToy()
    optimizer = build_optimizer("muon", model, make_groups(model, RATE, DECAY), OptimizerArgs())
    by_muon = {id(each) for group in optimizer.param_groups if "ns_steps" in group for each in group["params"]}
    names = {name for name, each in model.named_parameters() if id(each) in by_muon}
    inside = {name for name, each in model.named_parameters() if name.startswith("layers.") and each.ndim == 2}
    assert names == inside | {"odd.3", "odd.4", "unused"}
    follow("muon", OptimizerArgs(), model, model.get_parameter("embed_tokens.weight"), Adam().follow)


def test_adamw_in_8_bits_is_adamw_at_first_and_stays_near() -> None:
    model, weight = one_layer(64, 128)
    optimizer = build_optimizer("adamw_8bit", model, make_groups(model, RATE, DECAY), OptimizerArgs())
    adam, expected = Adam(), weight.detach().double().numpy().copy()
    for number, gradient in enumerate(gradients((64, 128))):
        weight.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        step = RATE * adam.direction(gradient)
        expected = expected * (1 - RATE * DECAY) - step
        error = np.linalg.norm(weight.detach().numpy() - expected)
        # Moments are rounded after they were used; 8 bits of a floating code are some 3 % of a number.
        assert error < (1e-4 if number == 0 else 0.1 * (number + 1)) * np.linalg.norm(step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_badam_trains_a_block_at_a_time_with_adam_from_scratch(dtype: torch.dtype) -> None:
    # Algorithm 1 of arXiv 2404.02827: K = 2 steps of Adam on a float32 copy of a block, then the next one.
    model = OptimizerToy(dtype)
    args = OptimizerArgs(optim_args="switch_interval=2,switch_mode=ascending")
    optimizer = build_optimizer("badam", model, make_groups(model, RATE, DECAY), args)
    watched = ["layers.0.mlp.0.weight", "layers.1.mlp.0.weight", "embed_tokens.weight"]
    expected = {name: model.get_parameter(name).detach().double().numpy().copy() for name in watched}
    for step in range(9):
        active = watched[step // 2 % 3]
        if step % 2 == 0:
            adam = Adam()
            copy = model.get_parameter(active).detach().double().numpy().copy()
        for name in watched:
            assert model.get_parameter(name).requires_grad is (name == active)
            gradient = np.random.default_rng(step).normal(size=tuple(model.get_parameter(name).shape))
            model.get_parameter(name).grad = torch.from_numpy(gradient).to(dtype)
        held = model.get_parameter(active).grad
        assert held is not None
        copy = copy * (1 - RATE * DECAY) - RATE * adam.direction(held.double().numpy())
        expected[active] = copy
        optimizer.step()
        for name in watched:
            # A bfloat16 parameter is its float32 copy, rounded once.
            wanted = torch.from_numpy(expected[name]).to(dtype).double().numpy()
            found = model.get_parameter(name).detach().double().numpy()
            # A number on the border between two of bfloat16's may be rounded either way.
            spacing = 0.0 if dtype == torch.float32 else 2**-7
            np.testing.assert_allclose(found, wanted, rtol=spacing + 1e-5, atol=2e-6)
            assert dtype == torch.float32 or (found == wanted).mean() > 0.99
            expected[name] = expected[name] if name == active and step % 2 == 0 else wanted


def test_badams_random_order_takes_each_block_once_before_any_comes_again() -> None:
    model = OptimizerToy()
    args = OptimizerArgs(optim_args="switch_interval=1")
    optimizer: Any = build_optimizer("badam", model, make_groups(model, RATE, DECAY), args)
    order = []
    for _ in range(30):
        order.append(optimizer.active_block)
        optimizer.step()
    rounds = [order[start : start + 3] for start in range(0, 30, 3)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
