"""`check_distributed`: a tuner trains on two processes as it does on one, under DDP, FSDP2 and DeepSpeed's ZeRO-3."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from ..model import SwiftModel
from ..swift import Swift
from ..tuners import TUNERS
from .laws import require
from .models import TOYS, Inputs, disturb, forward

Strategy = Literal["ddp", "fsdp2", "zero3"]
NUM_PROCESSES = 2
_LEARNING_RATE = 0.1
_TIMEOUT = timedelta(minutes=2)
# Sums over processes are added in another order.
_TOLERANCE = 1e-5


def check_distributed(
    names: Sequence[str], strategy: Strategy, *, toy: str = "decoder", options: Mapping[str, object] | None = None
) -> None:
    """Check that two processes, each with half of the batch, make the step that one makes with all of it.

    Args:
        names: registered tuners, tried one after the other.
        strategy: how the model is spread.
        toy: which of the toy models.
        options: of the tuners; by default what their laws give as an example.

    Raises:
        AssertionError: a parameter differs after the step; the message names tuner and parameter.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    problems = context.SimpleQueue()
    spawn(_run, args=(port, list(names), strategy, toy, options, problems), nprocs=NUM_PROCESSES, join=True)
    found = []
    while not problems.empty():
        found.append(problems.get())
    require(not found, f"two processes under {strategy} step as one does: {'; '.join(found)}")


def _run(
    rank: int,
    port: int,
    names: list[str],
    strategy: Strategy,
    toy: str,
    options: Mapping[str, object] | None,
    problems: torch.multiprocessing.SimpleQueue[str],
) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": NUM_PROCESSES, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    dist.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        for name in names:
            # One tuner's failure must not hide the others, and both processes go on alike.
            problem = _try_step(name, strategy, toy, options, rank)
            if problem and rank == 0:
                problems.put(f"{name}: {problem}")
    finally:
        dist.destroy_process_group()


def _try_step(name: str, strategy: Strategy, toy: str, options: Mapping[str, object] | None, rank: int) -> str | None:
    inputs = TOYS[toy].make_inputs()
    alone = _tuned(name, toy, options)
    _step(alone, alone, inputs)
    expected = {each: parameter.detach().clone() for each, parameter in alone.host.named_parameters()}
    mine = {each: tensor[rank : rank + 1] for each, tensor in inputs.items()}
    try:
        after = _STRATEGIES[strategy](_tuned(name, toy, options), mine)
    except (RuntimeError, ValueError, AssertionError):
        return traceback.format_exc(limit=-3)
    differing = {each: (after[each] - tensor).abs().max().item() for each, tensor in expected.items()}
    worst = max(differing, key=lambda each: differing[each])
    return f"{worst} differs by {differing[worst]}" if differing[worst] > _TOLERANCE else None


def _tuned(name: str, toy: str, options: Mapping[str, object] | None) -> SwiftModel:
    args_class = TUNERS.load_class(name)
    chosen = args_class.laws.example if options is None else options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Deterministic methods agree on their weights; the same seed makes the others agree.
        model = Swift.prepare_model(TOYS[toy].make_model().eval(), args_class(**chosen).build_config())
    disturb(model)
    return model


def _step(model: nn.Module, tuned: SwiftModel, inputs: Inputs) -> None:
    forward(model, inputs).float().square().mean().backward()
    groups = [dict(group) for group in tuned.param_groups(learning_rate=_LEARNING_RATE)]
    torch.optim.SGD(groups).step()


def _step_with_ddp(model: SwiftModel, inputs: Inputs) -> dict[str, Tensor]:
    _step(nn.parallel.DistributedDataParallel(model), model, inputs)
    return {name: parameter.detach() for name, parameter in model.host.named_parameters()}


def _step_with_fsdp2(model: SwiftModel, inputs: Inputs) -> dict[str, Tensor]:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    for module in _blocks(model.host):
        fully_shard(module)
    fully_shard(model)
    _step(model, model, inputs)
    whole = {}
    for name, parameter in model.host.named_parameters():
        whole[name] = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach()
    return whole


def _step_with_zero3(model: SwiftModel, inputs: Inputs) -> dict[str, Tensor]:
    import deepspeed

    settings = {
        "train_batch_size": NUM_PROCESSES,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.SGD([dict(group) for group in model.param_groups(learning_rate=_LEARNING_RATE)])
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    engine.backward(forward(engine, inputs).float().square().mean())
    engine.step()
    whole = {}
    for name, parameter in model.host.named_parameters():
        with deepspeed.zero.GatheredParameters(parameter):
            whole[name] = parameter.detach().clone()
    engine.destroy()
    return whole


def _blocks(host: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that are sharded on their own: the layers of module lists."""
    for module in host.modules():
        if isinstance(module, nn.ModuleList):
            # FSDP2 takes nothing that is never called, such as the parts of a bypass network.
            yield from (each for each in module if not isinstance(each, nn.ModuleDict | nn.ModuleList))


_STRATEGIES: Mapping[Strategy, Callable[[SwiftModel, Inputs], dict[str, Tensor]]] = {
    "ddp": _step_with_ddp,
    "fsdp2": _step_with_fsdp2,
    "zero3": _step_with_zero3,
}
