"""LISA: layers drawn by seed and step, gradients and optimizer state of the others released, resumed, under DDP."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from swift_tuners import Swift, SwiftModel, TunerConfig
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.testing import answer, tiny_decoder, tiny_decoder_inputs, toy_mlp
from swift_tuners.tuners.lisa import LISAConfig, LISATuner
from swift_tuners.tuners.neftune import NEFTuneConfig
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

NUM_LAYERS = 8
WIDTH = 16


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to the same."""
        out: Tensor = hidden + self.mlp(self.norm(hidden)).tanh()
        return out


class Decoder(nn.Module):
    """Embedding, blocks, norm and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, WIDTH)
        self.layers = nn.ModuleList([Block() for _ in range(NUM_LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, 16, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map (B, T) to (B, T, V)."""
        hidden: Tensor = self.embedding(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        out: Tensor = self.lm_head(self.norm(hidden))
        return out


def decoder() -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Decoder().train()


def tuner_of(model: SwiftModel) -> LISATuner:
    tuner = model.tuners["default"]
    assert isinstance(tuner, LISATuner)
    return tuner


def batch(step: int) -> Tensor:
    return torch.randint(0, 16, (4, 5), generator=torch.Generator().manual_seed(step))


def optimizer_of(
    model: SwiftModel, kind: type[torch.optim.AdamW] | type[torch.optim.SGD] = torch.optim.AdamW
) -> torch.optim.Optimizer:
    return kind([dict(group) for group in model.param_groups(learning_rate=0.01)])


def train(model: SwiftModel, optimizer: torch.optim.Optimizer, steps: range, wrapped: nn.Module | None = None) -> None:
    for step in steps:
        rows = batch(step)
        if wrapped is not None:
            rows = rows[dist.get_rank() :: 2]
        ((wrapped or model)(rows)).square().mean().backward()
        optimizer.step()
        model.on_step(step, optimizer)
        optimizer.zero_grad()


def layers_with(model: SwiftModel, names: set[str]) -> set[int]:
    return {int(name.split(".")[1]) for name in names if name.startswith("layers.")}


def test_layers_change_at_each_interval_and_the_rest_always_trains() -> None:
    model = Swift.prepare_model(decoder(), LISAConfig(activated_layers=2, step_interval=3))
    optimizer, chosen = optimizer_of(model), []
    for step in range(1, 31):
        before = {name: each.detach().clone() for name, each in model.host.named_parameters()}
        train(model, optimizer, range(step, step + 1))
        changed = {name for name, each in model.host.named_parameters() if not torch.equal(each, before[name])}
        assert {"embedding.weight", "norm.weight", "norm.bias", "lm_head.weight"} <= changed
        chosen.append(layers_with(model, changed))
    assert all(len(each) == 2 for each in chosen)
    assert all(chosen[step] == chosen[step - step % 3] for step in range(30))
    assert len({frozenset(each) for each in chosen}) > 3


def test_draws_depend_on_seed_and_step_alone() -> None:
    def draws(seed: int) -> list[list[int]]:
        tuner = tuner_of(Swift.prepare_model(decoder(), LISAConfig(step_interval=1, seed=seed)))
        found = []
        for tuner.step in range(12):
            found.append(tuner.chosen_layers)
        return found

    # Written down once: another machine, process or version must draw these too.
    assert draws(42)[:3] == [[1, 5], [2, 4], [4, 5]]
    assert draws(42) == draws(42) != draws(43)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_state_and_gradients_of_resting_layers_are_released(
    kind: type[torch.optim.AdamW] | type[torch.optim.SGD],
) -> None:
    model = Swift.prepare_model(decoder(), LISAConfig(activated_layers=1, step_interval=2))
    optimizer = optimizer_of(model, kind)
    per_layer = sum(each.numel() for each in Block().parameters())
    outside = sum(each.numel() for each in model.host.parameters()) - NUM_LAYERS * per_layer
    for step in range(1, 13):
        model(batch(step)).square().mean().backward()
        optimizer.step()
        model.on_step(step, optimizer)
        gradients = sum(each.grad.numel() for each in model.host.parameters() if each.grad is not None)
        drawn = step % 2 == 0
        assert gradients in ({outside, outside + per_layer} if drawn else {outside + per_layer})
        tensors = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, Tensor)]
        measured = sum(each.numel() * each.element_size() for each in tensors if each.dim())
        # AdamW keeps two float32 numbers for each that trains; what was drawn just now has none yet.
        sizes = {outside, outside + per_layer} if drawn else {outside + per_layer}
        assert measured in ({size * 8 for size in sizes} if kind is torch.optim.AdamW else {0})
        optimizer.zero_grad()


def test_an_optimizer_that_accelerate_wraps_is_released_too() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = Swift.prepare_model(decoder(), LISAConfig(activated_layers=1, step_interval=1))
    wrapped = accelerate.Accelerator(cpu=True).prepare_optimizer(optimizer_of(model))
    train(model, wrapped, range(1, 5))
    layers = {id(each) for name, each in model.host.named_parameters() if name.startswith("layers")}
    kept = [each for each in wrapped.optimizer.state if id(each) in layers]
    assert len(kept) <= 4, "norm and linear layer of one block"


def test_an_optimizer_that_holds_copies_is_refused() -> None:
    model = Swift.prepare_model(decoder(), LISAConfig())
    flat = torch.optim.AdamW([nn.Parameter(torch.zeros(8))])
    with pytest.raises(UnsupportedConfig, match="finds none of its weights in AdamW"):
        model.on_step(1, flat)


def test_a_resumed_run_goes_on_as_an_uninterrupted_one(tmp_path: Path) -> None:
    config = LISAConfig(activated_layers=2, step_interval=3)
    whole = Swift.prepare_model(decoder(), config)
    # SGD has no state that a checkpoint of the tuner would not hold.
    optimizer = optimizer_of(whole, torch.optim.SGD)
    train(whole, optimizer, range(1, 5))
    whole.save_pretrained(tmp_path)
    resumed = Swift.from_pretrained(decoder(), tmp_path, trainable=True)
    train(whole, optimizer, range(5, 11))
    train(resumed, optimizer_of(resumed, torch.optim.SGD), range(5, 11))
    assert torch.equal(answer(resumed, {"ids": batch(0)}), answer(whole, {"ids": batch(0)}))


def test_off_is_the_host_after_training() -> None:
    host = decoder()
    plain = answer(host, {"ids": batch(0)})
    model = Swift.prepare_model(host, LISAConfig(step_interval=2))
    train(model, optimizer_of(model), range(1, 7))
    assert not torch.equal(answer(model, {"ids": batch(0)}), plain)
    model.deactivate()
    assert torch.equal(answer(model, {"ids": batch(0)}), plain)
    assert not any(each.requires_grad for each in host.parameters())


def test_without_a_copy_it_is_not_switched_off() -> None:
    model = Swift.prepare_model(decoder(), LISAConfig(restorable=False))
    train(model, optimizer_of(model), range(1, 3))
    with pytest.raises(UnsupportedConfig, match="restorable=False kept no copy"):
        model.deactivate()
    after = answer(model, {"ids": batch(0)})
    assert torch.equal(answer(model.merge_and_unload(), {"ids": batch(0)}), after)


def test_it_trains_beside_neftune() -> None:
    configs: dict[str, TunerConfig] = {"lisa": LISAConfig(activated_layers=1), "noise": NEFTuneConfig()}
    model = Swift.prepare_model(tiny_decoder(), configs).train()
    model(**tiny_decoder_inputs()).logits.square().mean().backward()
    touched = {
        name.split(".")[2] for name, each in model.host.named_parameters() if each.grad is not None and "layers" in name
    }
    assert len(touched) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LISAConfig(activated_layers=9), "expected 1 to 8"),
        (LISAConfig(activated_layers=0), "expected 1 to 8"),
        (LISAConfig(step_interval=0), "expected at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(config: LISAConfig, message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(decoder(), config)


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="no list of blocks"):
        Swift.prepare_model(toy_mlp(), LISAConfig())


def _train_under_ddp(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        model = Swift.prepare_model(decoder(), LISAConfig(activated_layers=2, step_interval=1))
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        train(model, optimizer_of(model, torch.optim.SGD), range(1, 7), wrapped)
        model.save_pretrained(Path(folder) / str(rank))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_draw_alike_and_neither_hangs_nor_drifts(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_train_under_ddp, args=(port, str(tmp_path)), nprocs=2, join=True)
    alone = Swift.prepare_model(decoder(), LISAConfig(activated_layers=2, step_interval=1))
    train(alone, optimizer_of(alone, torch.optim.SGD), range(1, 7))
    answers = [answer(Swift.from_pretrained(decoder(), tmp_path / rank), {"ids": batch(0)}) for rank in ("0", "1")]
    assert torch.equal(answers[0], answers[1])
    # Sums over processes are added in another order.
    assert (answers[0] - answer(alone, {"ids": batch(0)})).abs().max() < 1e-6
