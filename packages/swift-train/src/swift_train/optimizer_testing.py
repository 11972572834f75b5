"""What every optimizer must hold, so that a run may be saved, resumed, scheduled and planned with it.

The laws are tried on a small language model with attention, with parameters of odd shapes, a frozen one, and one that
no loss depends on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from swift_tuners.weights import read_safetensors, write_safetensors
from torch import Tensor, nn

from .optimizer import build_optimizer, count_state_bytes, predict_state_bytes
from .optimizer_args import OptimizerArgs
from .parameter_places import OptimizerGroup

VOCABULARY, WIDTH, HEADS = 64, 64, 4
ODD_SHAPES = ((), (1,), (5,), (1, 7), (7, 1), (2, 3, 4), (3, 2, 2, 2))
STEPS = 8
"""Steps of a law; a method that changes something every few steps is tried with an interval of 2."""


class OptimizerToy(nn.Module):
    """A language model of two layers, whose matrices have 4096 numbers and more.

    Args:
        dtype: of all parameters.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.layers = nn.ModuleList([_Layer(), _Layer()])
            self.norm = nn.LayerNorm(WIDTH)
            self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
            self.odd = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in ODD_SHAPES])
            self.frozen = nn.Parameter(torch.randn(6, 3), requires_grad=False)
            self.unused = nn.Parameter(torch.randn(3, 6))
        self.to(dtype)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the loss: the mean cross-entropy of the next token, and a bowl for each odd parameter."""
        hidden = self.embed_tokens(tokens_BT)
        for layer in self.layers:
            hidden = layer(hidden)
        logits = self.lm_head(self.norm(hidden))[:, :-1].flatten(end_dim=1).float()
        bowls = torch.stack([each.float().square().mean() for each in self.odd])
        return nn.functional.cross_entropy(logits, tokens_BT[:, 1:].flatten()) + bowls.mean()


class _Attention(nn.Module):
    head_dim = WIDTH // HEADS

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj, self.o_proj = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        layers = (self.q_proj, self.k_proj, self.v_proj)
        queries, keys, values = (layer(hidden).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in layers)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(start_dim=2))
        return out


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.norm = _Attention(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.norm(hidden))
        out: Tensor = hidden + self.mlp(hidden)
        return out


def check_optimizer(name: str, args: OptimizerArgs | None = None, *, learning_rate: float = 3e-3) -> None:
    """Hold an optimizer to the laws of the contract.

    Args:
        name: of a file in `optimizers/`.
        args: its options, with intervals of 2 where it has some.
        learning_rate: with which it learns the small model.

    Raises:
        AssertionError: a law is broken; the message names it.
    """
    trial = _Trial(name, args or OptimizerArgs(), learning_rate)
    for dtype in (torch.float32, torch.bfloat16):
        trial.check_resuming(dtype)
        trial.check_bytes(dtype)
        trial.check_untouched(dtype)
    trial.check_learning()
    trial.check_rates()
    trial.check_decay()


def through_files(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state_dict as it comes back from a safetensors file and JSON.

    Raises:
        AssertionError: it holds what neither of them takes.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.loads(json.dumps(_take_out(state, tensors)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimizer.safetensors"
        write_safetensors(tensors, path)
        restored: dict[str, Any] = _put_back(skeleton, read_safetensors(path))
    return restored


class _Trial:
    """One optimizer on toys."""

    def __init__(self, name: str, args: OptimizerArgs, learning_rate: float) -> None:
        self.name, self.args, self.learning_rate = name, args, learning_rate

    def build(self, model: nn.Module, *, rate: float | None = None, decay: float = 0.1) -> torch.optim.Optimizer:
        groups = make_groups(model, self.learning_rate if rate is None else rate, decay)
        return build_optimizer(self.name, model, groups, self.args)

    def check_resuming(self, dtype: torch.dtype) -> None:
        """A run that was saved and resumed ends with the same bits."""
        model = OptimizerToy(dtype)
        optimizer = self.build(model)
        run_steps(model, optimizer, 0, STEPS - 3)
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        saved = through_files(optimizer.state_dict())
        run_steps(model, optimizer, STEPS - 3, STEPS)
        resumed = OptimizerToy(dtype)
        resumed.load_state_dict(weights)
        again = self.build(resumed)
        again.load_state_dict(saved)
        run_steps(resumed, again, STEPS - 3, STEPS)
        for (name, one), other in zip(model.named_parameters(), resumed.parameters(), strict=True):
            assert torch.equal(one, other), f"{self.name}: resumed {name} of {dtype} ends with the same bits"

    def check_bytes(self, dtype: torch.dtype) -> None:
        """The state takes the bytes that were said before, at its peak."""
        model = OptimizerToy(dtype)
        groups = make_groups(model, self.learning_rate, 0.1)
        # What never has a gradient has no state either.
        counted: list[OptimizerGroup] = [
            {**group, "params": [each for each in group["params"] if each is not model.unused]} for group in groups
        ]
        predicted = predict_state_bytes(self.name, model, counted, self.args)
        optimizer = self.build(model)
        peak = 0
        for step in range(STEPS):
            run_steps(model, optimizer, step, step + 1)
            peak = max(peak, count_state_bytes(optimizer))
        assert peak == predicted, f"{self.name}: state of {dtype} takes {peak} bytes, {predicted} were predicted"

    def check_untouched(self, dtype: torch.dtype) -> None:
        """What is frozen or has no gradient stays, without state; what is trained stays finite."""
        model = OptimizerToy(dtype)
        before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        optimizer = self.build(model)
        run_steps(model, optimizer, 0, STEPS)
        for name in ("frozen", "unused"):
            parameter = model.get_parameter(name)
            assert torch.equal(parameter, before[name]), f"{self.name}: {name} parameters stay as they are"
            assert not optimizer.state.get(parameter), f"{self.name}: {name} parameters have no state"
        for name, parameter in model.named_parameters():
            assert parameter.isfinite().all(), f"{self.name}: {name} stays finite"
            # Steps of a thousandth are rounded away from bfloat16 numbers of size 1.
            if dtype == torch.float32 and name not in ("frozen", "unused"):
                assert not torch.equal(parameter, before[name]), f"{self.name}: {name} trains"

    def check_learning(self) -> None:
        """It halves the loss on one batch in 60 steps."""
        model = OptimizerToy()
        first = model(_tokens(0)).item()
        optimizer = self.build(model)
        for _ in range(60):
            run_steps(model, optimizer, 0, 1)
        last = model(_tokens(0)).item()
        assert last < first / 2, f"{self.name}: the loss falls from {first:.2f} to less than half, not to {last:.2f}"

    def check_rates(self) -> None:
        """A step follows the rate that a schedule puts into the groups: twice as far at twice the rate, none at 0."""
        once, twice, none = (self._first_step(factor) for factor in (1.0, 2.0, 0.0))
        for name, moved in once.items():
            # Steps of 1e-3 on numbers of size 1 are rounded by 1e-7; codes of 8 bits round what is small to nothing.
            torch.testing.assert_close(twice[name], 2 * moved, rtol=1e-3, atol=3e-7, msg=f"{self.name}: {name} doubles")
            assert not none[name].any(), f"{self.name}: {name} stays at rate 0"
        assert any(moved.any() for moved in once.values()), f"{self.name}: a step changes something"

    def _first_step(self, factor: float) -> dict[str, Tensor]:
        model = OptimizerToy()
        optimizer = self.build(model, rate=1e-3)
        before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        for group in optimizer.param_groups:
            group["lr"] *= factor
        run_steps(model, optimizer, 0, 1)
        return {name: tensor.detach() - before[name] for name, tensor in model.named_parameters()}

    def check_decay(self) -> None:
        """Without a gradient's pull, whatever is trained shrinks by rate times decay, and nothing else."""
        model = OptimizerToy()
        before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        optimizer = self.build(model, rate=1e-2, decay=0.5)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name != "unused":
                parameter.grad = torch.zeros_like(before[name])
        optimizer.step()
        num_shrunk = 0
        for name, parameter in model.named_parameters():
            # BAdam trains one block; vectors do not decay.
            trained = bool(optimizer.state.get(parameter)) and before[name].ndim > 1
            num_shrunk += trained
            expected = before[name] * (1 - 1e-2 * 0.5) if trained else before[name]
            torch.testing.assert_close(parameter.detach(), expected, msg=f"{self.name}: {name} shrinks by 0.5 %")
        assert num_shrunk, f"{self.name}: something is trained"


def make_groups(model: nn.Module, learning_rate: float, decay: float) -> list[OptimizerGroup]:
    """Return the parameters in two groups, as the trainer makes them: vectors do not decay."""
    parameters = list(model.parameters())
    return [
        {"params": [each for each in parameters if each.ndim > 1], "lr": learning_rate, "weight_decay": decay},
        {"params": [each for each in parameters if each.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]


def run_steps(model: nn.Module, optimizer: torch.optim.Optimizer, start: int, end: int) -> None:
    """Make the steps from `start` to before `end`, each on its own batch."""
    for step in range(start, end):
        model(_tokens(step)).backward()
        optimizer.step()
        optimizer.zero_grad()


def _tokens(step: int) -> Tensor:
    return torch.randint(0, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(step))


def _take_out(value: object, tensors: dict[str, Tensor]) -> object:
    """Return a value with names in the places of its tensors, which are collected."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[key, _take_out(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_out(each, tensors) for each in value]
    assert value is None or isinstance(value, bool | int | float | str), f"a state holds {value!r}; expected plain data"
    return value


def _put_back(value: object, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401  # whatever a state holds
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _put_back(each, tensors) for key, each in value["items"]}
    return [_put_back(each, tensors) for each in value] if isinstance(value, list) else value


__all__ = ["OptimizerToy", "check_optimizer", "make_groups", "run_steps", "through_files"]
