"""How long LoRA on every linear layer of a model of a billion parameters takes to attach, without any weights.

    python packages/swift-tuners/bench/attach_meta.py [--repeats 5]

The model is a Llama of 1.24 billion parameters (the sizes of Llama 3.2 1B) on torch's `meta` device. The aim is less
than 2 s.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from swift_tuners import LoraConfig, Swift
from transformers import LlamaConfig, LlamaForCausalLM

LIMIT_S = 2.0


def build_model() -> LlamaForCausalLM:
    """Return a Llama of 1.24 billion parameters that takes no memory."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def main() -> int:
    """Print the median; return 1 if it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    model = build_model()
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    attach_s, unload_s, num_trained = [], [], 0
    for _ in range(repeats):
        start = time.perf_counter()
        tuned = Swift.prepare_model(model, LoraConfig(target_modules="all-linear"))
        attached = time.perf_counter()
        num_trained = tuned.count_parameters().trainable
        before_unload = time.perf_counter()
        tuned.unload()
        attach_s.append(attached - start)
        unload_s.append(time.perf_counter() - before_unload)
    print(
        f"{num_parameters / 1e9:.2f} billion parameters, {num_trained / 1e6:.1f} million of LoRA: attached in "
        f"{statistics.median(attach_s):.2f} s (the first time {attach_s[0]:.2f} s), taken off in "
        f"{statistics.median(unload_s):.2f} s"
    )
    return int(statistics.median(attach_s) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
