"""A training step of LoRA over our layer against one written by hand with PEFT, in one process, taking turns.

    python packages/swift-tuners/bench/lora_step.py [--model FOLDER] [--repeats 31] [--tokens 128] [--threads 1]

Both train the same model on the same tokens with AdamW. The base alone, forward and backward to its embeddings with
nothing trained, is the floor under both. The aim: the median of ratios of neighbouring steps is at most 1.05.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from peft import LoraConfig, get_peft_model
from swift_tuners import ModelArgs, Swift, load_model
from torch import Tensor, nn

LIMIT = 1.05
WARM_UP = 3


def make_step(model: nn.Module, ids: Tensor, on_step: Callable[[int], None] | None) -> Callable[[], float]:
    """Return a function that makes one step and returns the loss."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4) if trained else None
    num_steps = 0

    def step() -> float:
        nonlocal num_steps
        num_steps += 1
        loss: Tensor = model(input_ids=ids, labels=ids).loss
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            if on_step is not None:
                on_step(num_steps)
            optimizer.zero_grad()
        return float(loss.detach())

    return step


def measure(steps: dict[str, Callable[[], float]], repeats: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return CPU seconds of each step, taken in turns, and the last losses; other programs' time is not in them."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, float] = {}
    for repeat in range(repeats + WARM_UP):
        # Every other round in reverse: whoever comes second finds other contents in the caches.
        for name in list(steps)[:: 1 if repeat % 2 else -1]:
            start = time.process_time()
            losses[name] = steps[name]()
            if repeat >= WARM_UP:
                seconds[name].append(time.process_time() - start)
    return seconds, losses


def main() -> int:
    """Print medians and the ratio; return 1 if it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="by default the embedded one")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = load_model(ModelArgs(model=options.model, torch_dtype="float32")).model
    ids = torch.randint(0, base.config.vocab_size, (1, options.tokens), generator=torch.Generator().manual_seed(0))
    config = LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    by_hand = get_peft_model(copy.deepcopy(base), copy.deepcopy(config))
    torch.manual_seed(0)
    ours = Swift.prepare_model(copy.deepcopy(base), copy.deepcopy(config))
    base.requires_grad_(False)
    base.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
    steps = {
        "ours": make_step(ours, ids, ours.on_step),
        "PEFT by hand": make_step(by_hand, ids, None),
        "base alone": make_step(base, ids, None),
    }
    seconds, losses = measure(steps, options.repeats)
    for name, values in seconds.items():
        print(f"{name:14} {statistics.median(values) * 1e3:8.1f} ms of CPU a step, last loss {losses[name]:.6f}")
    ratios = {
        other: [own / theirs for own, theirs in zip(seconds["ours"], seconds[other], strict=True)]
        for other in ("PEFT by hand", "base alone")
    }
    for other, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"ours / {other}: median {middle:.3f}, half of them between {low:.3f} and {high:.3f}")
    return int(statistics.median(ratios["PEFT by hand"]) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
