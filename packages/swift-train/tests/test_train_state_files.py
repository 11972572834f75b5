"""State that goes to disk without pickle comes back to the bit: nested values, optimizers, generators."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from swift_train.errors import BrokenCheckpoint, CheckpointNotWritten
from swift_train.optimizer_state import load_whole_state, whole_state
from swift_train.process_state import (
    ProcessState,
    read_generators,
    read_processes,
    restore_process,
    to_text,
    write_processes,
)
from swift_train.state_files import State, prepare_state, read_state, write_state
from torch import Tensor, nn
from transformers import Adafactor, get_scheduler

Groups = list[dict[str, Any]]
Build = Callable[[Groups], torch.optim.Optimizer]


class Hoarder(torch.optim.Optimizer):
    """Keeps all kinds of things, and steps by each of them."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups, {"lr": 0.1, "mode": "slow", "betas": (0.9, 0.99), "limit": math.inf, "flag": None})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes none
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["nested"] = {"mean": torch.zeros(parameter.shape, dtype=torch.float32), "seen": [], 3: True}
                    state["words"] = {"kind": "plus"}
                nested = state["nested"]
                nested["mean"].lerp_(parameter.grad.float(), 1 - group["betas"][0])
                nested["seen"].append(float(nested["mean"].sum()))
                scale = len(nested["seen"]) if nested[3] and state["words"]["kind"] == "plus" else -1
                parameter.sub_(nested["mean"].to(parameter.dtype) * (group["lr"] / scale))


def bitsandbytes_adamw(groups: Groups) -> torch.optim.Optimizer:
    optimizers = pytest.importorskip("bitsandbytes.optim")
    optimizer: torch.optim.Optimizer = optimizers.AdamW8bit(groups, lr=0.01)
    return optimizer


OPTIMIZERS: dict[str, Build] = {
    "fused AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    "AMSGrad": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
    "SGD without state": lambda groups: torch.optim.SGD(groups, lr=0.01),
    # Its moments are float32, and torch would load them as bfloat16.
    "Adafactor": lambda groups: Adafactor(groups, lr=0.01, relative_step=False, beta1=0.9),
    "bitsandbytes' AdamW8bit": bitsandbytes_adamw,
    "nested state": Hoarder,
}


def make_model(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    # The first is large enough that bitsandbytes keeps it in 8 bits.
    return nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 3)).to(dtype)


def groups_of(model: nn.Sequential) -> Groups:
    return [
        {"params": list(model[0].parameters()), "weight_decay": 0.1},
        {"params": list(model[1].parameters()), "lr": 0.02},
    ]


def train(model: nn.Sequential, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 64, generator=torch.Generator().manual_seed(step)).to(next(model.parameters()).dtype)
        model(x).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(model: nn.Module) -> list[bytes]:
    return [each.detach().float().numpy().tobytes() for each in model.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_goes_on_to_the_bit(tmp_path: Path, build: Build, dtype: torch.dtype) -> None:
    whole, part = make_model(dtype), make_model(dtype)
    optimizer = build(groups_of(whole))
    train(whole, optimizer, range(6))
    first = build(groups_of(part))
    train(part, first, range(3))
    write_state(whole_state(first), tmp_path, "optimizer")
    resumed = copy.deepcopy(part)
    second = build(groups_of(resumed))
    load_whole_state(second, read_state(tmp_path, "optimizer"))
    train(resumed, second, range(3, 6))
    assert bits(resumed) == bits(whole) != bits(part)
    assert [group["lr"] for group in second.param_groups] == [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("name", ["cosine", "linear", "reduce_lr_on_plateau", "warmup_stable_decay"])
def test_a_schedule_goes_on_to_the_bit(tmp_path: Path, name: str) -> None:
    def make() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        options = {"num_decay_steps": 5} if name == "warmup_stable_decay" else {}
        return optimizer, get_scheduler(name, optimizer, 3, 20, scheduler_specific_kwargs=options)

    def go(optimizer: torch.optim.Optimizer, schedule: Any, num_steps: int) -> list[float]:  # noqa: ANN401
        rates = []
        for _ in range(num_steps):
            optimizer.step()
            schedule.step(1.0) if name == "reduce_lr_on_plateau" else schedule.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    expected = go(*make(), 20)
    first = make()
    go(*first, 8)
    write_state(whole_state(first[0]), tmp_path, "optimizer")
    write_state(first[1].state_dict(), tmp_path, "scheduler")
    second = make()
    load_whole_state(second[0], read_state(tmp_path, "optimizer"))
    second[1].load_state_dict(read_state(tmp_path, "scheduler"))
    assert go(*second, 12) == expected[8:]


def test_values_of_all_kinds_come_back(tmp_path: Path) -> None:
    tensor = torch.arange(6).view(2, 3)
    state: dict[str, State] = {
        "numbers": [1, -2.5, 0.1, math.inf, True, None, "word", 2**70],
        "tuple": (1, [2, (3,)]),
        "keys": {1: "a", "1": "b", "$tensor": "no reference"},  # type: ignore[dict-item]  # mixed on purpose
        "one dollar": {"$tuple": [1]},
        "tensors": [tensor, {"of": tensor.t()}, torch.tensor(1.5), torch.zeros(0), tensor],
        "types": [torch.ones(3, dtype=each) for each in (torch.bfloat16, torch.uint8, torch.bool, torch.float64)],
    }
    write_state(state, tmp_path, "state")
    read = read_state(tmp_path, "state")
    assert isinstance(read, dict)
    for name in ("numbers", "tuple", "keys", "one dollar"):
        assert read[name] == state[name]
    tensors = read["tensors"]
    assert isinstance(tensors, list)
    assert torch.equal(tensors[0], tensor) and torch.equal(tensors[1]["of"], tensor.t())
    assert tensors[4] is tensors[0], "what was one tensor is one"
    assert [each.dtype for each in read["types"]] == [torch.bfloat16, torch.uint8, torch.bool, torch.float64]
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        assert "state.tensors.0" in file.keys()  # noqa: SIM118  # no dict


def test_a_float_that_is_not_a_number_comes_back(tmp_path: Path) -> None:
    write_state([math.nan], tmp_path, "state")
    (read,) = read_state(tmp_path, "state")  # type: ignore[misc]  # a list
    assert isinstance(read, float) and math.isnan(read)
    assert not (tmp_path / "state.safetensors").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param({"a": [torch.float32]}, r"state\.a\.0 is torch.float32, a dtype", id="object"),
        pytest.param({"a": {(1, 2): 3}}, r"state\.a has the keys \[\(1, 2\)\]", id="key"),
        pytest.param({"a": b"bytes"}, r"state\.a is b'bytes'", id="bytes"),
    ],
)
def test_what_only_pickle_could_save_is_refused_by_its_place(tmp_path: Path, value: State, said: str) -> None:
    with pytest.raises(CheckpointNotWritten, match=said):
        write_state(value, tmp_path, "state")
    assert list(tmp_path.iterdir()) == []


def test_a_prepared_state_is_that_of_the_moment(tmp_path: Path) -> None:
    values: dict[str, Any] = {"mean": torch.zeros(3), "step": 1}
    write = prepare_state(values, tmp_path, "state", copy=True)
    values["mean"].fill_(7)
    values["step"] = 2
    write()
    read = read_state(tmp_path, "state")
    assert isinstance(read, dict) and isinstance(read["mean"], Tensor)
    assert read["mean"].tolist() == [0, 0, 0] and read["step"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param("{", "cannot be read", id="no JSON"),
        pytest.param('{"$tensor": "x"}', r"state\.safetensors", id="tensors missing"),
        pytest.param('{"$pairs": [1]}', "no pair", id="broken pairs"),
        pytest.param('{"$set": [1]}', "later version", id="unknown kind"),
    ],
)
def test_a_broken_state_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "state.json").write_text(text, encoding="utf-8")
    with pytest.raises(BrokenCheckpoint, match=said):
        read_state(tmp_path, "state")


def test_the_state_of_other_parameters_is_refused() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))])
    other = torch.optim.AdamW([nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(5))])
    with pytest.raises(BrokenCheckpoint, match=r"number 1 of shape \(4,\) there and \(5,\) here.*--optim"):
        load_whole_state(other, whole_state(optimizer))
    with pytest.raises(BrokenCheckpoint, match="expected what AdamW saved"):
        load_whole_state(other, {"steps": 3})


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), *np.random.rand(3), np.random.randn(), *torch.randn(3).tolist()]


def save_here(folder: Path, *, summed: list[float]) -> None:
    texts = []
    for index, each in enumerate(summed):
        random.seed(index), np.random.seed(index), torch.manual_seed(index)
        # An odd number of normal numbers leaves one in the generators of Python and numpy.
        draw()
        state = ProcessState(generators=read_generators(), summed_loss=each, last_logged_step=4, data={"row": index})
        texts.append(to_text(state))
    write_processes(texts, folder)


def test_generators_go_on_to_the_bit_through_a_file(tmp_path: Path) -> None:
    save_here(tmp_path, summed=[0.1])
    expected = [draw(), draw()]
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    states = read_processes(tmp_path)
    assert restore_process(states, index=0, num_processes=1) == 0.1
    assert [draw(), draw()] == expected
    assert states[0].data == {"row": 0} and states[0].last_logged_step == 4


def test_each_process_has_its_own_and_a_further_one_is_seeded_from_the_first(tmp_path: Path) -> None:
    save_here(tmp_path, summed=[1.0, 4.0])
    states = read_processes(tmp_path)

    def restored(index: int, num_processes: int) -> tuple[float, list[float]]:
        share = restore_process(states, index=index, num_processes=num_processes)
        return share, draw()

    assert restored(0, 2)[0] == 1.0 and restored(1, 2)[0] == 4.0
    assert restored(0, 2)[1] == restored(0, 1)[1] == restored(0, 4)[1], "a process that was there goes on"
    # The loop takes the mean of the shares.
    assert [restored(index, 4)[0] for index in range(4)] == [2.5] * 4 and restored(0, 1)[0] == 2.5
    draws = [tuple(restored(index, 4)[1]) for index in range(4)]
    assert len(set(draws)) == 4 and tuple(restored(3, 4)[1]) == draws[3]


@pytest.mark.parametrize("content", [None, "[]", "[{}]", "{", '[{"generators": {"python": []}}]'])
def test_a_broken_list_of_processes_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "processes.json").write_text(content, encoding="utf-8")
    with pytest.raises(BrokenCheckpoint, match=r"processes\.json"):
        read_processes(tmp_path)


def test_a_state_is_json_that_any_reader_takes(tmp_path: Path) -> None:
    save_here(tmp_path, summed=[0.5])
    (only,) = json.loads((tmp_path / "processes.json").read_text(encoding="utf-8"))
    assert set(only) == {"generators", "summed_loss", "last_logged_step", "data"}
