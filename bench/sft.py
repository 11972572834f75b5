"""Tokens a second and memory of fine-tuning, against other trainers on the same rows, model and hyper-parameters.

    python bench/sft.py MODEL_FOLDER ROWS.jsonl --contestant ms-swift=PYTHON --contestant trl=PYTHON ...
    python bench/sft.py MODEL_FOLDER ROWS.jsonl --dtype float32 --num_steps 4 --rounds 2

Contestants are ms-swift, trl, trl-best and transformers, each with the interpreter where it is installed; ours runs in
this one. They take turns. Tokens are those of the rows, neither padding nor what a trainer does with it; the first step
is left out. The second figure for each is by the processor's time, which other work on the machine hardly changes. The
share of the peak is that of arithmetic that has to be done (frozen weights forward and backward) in the quickest
product of large matrices that this machine does, measured before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from swift_templates import Template, load_template
from swift_templates.messages import Conversation, Message

_BATCH = 16
_CONTESTANT = Path(__file__).with_name("sft_contestants.py")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run of a contestant said."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    peak_mib: float
    losses: list[float]


def count_tokens(template: Template, rows: list[str]) -> list[int]:
    """Return the tokens of each row."""
    lengths = []
    for row in rows:
        messages = tuple(Message(role=each["role"], content=each["content"]) for each in json.loads(row)["messages"])
        lengths.append(sum(len(each) for each in template.encode(Conversation(messages=messages))))
    return lengths


def measure_peak(dtype: torch.dtype) -> float:
    """Return FLOP/s of the quickest of some products of large matrices."""
    size, best = 2048, float("inf")
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    for _ in range(8):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def run(name: str, python: str, args: argparse.Namespace, rows: Path, tokens: list[int]) -> Result:
    """Run a contestant once."""
    command = [python, str(_CONTESTANT), name, args.model_folder, str(rows), args.dtype, str(args.num_steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed with {python!r}: ...{done.stderr[-2000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    counted = sum(tokens[_BATCH : _BATCH * args.num_steps])
    return Result(
        tokens_per_s=counted / sum(said["wall"][1:]),
        tokens_per_cpu_s=counted / sum(said["cpu"][1:]),
        peak_mib=said["peak_mib"],
        losses=said["losses"],
    )


def main() -> None:
    """Run all contestants in turn and print what they reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model_folder")
    parser.add_argument("rows", help="a JSONL file with messages")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--num_steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contestant", action="append", default=[], help="NAME=PYTHON")
    args = parser.parse_args()
    lines = Path(args.rows).read_text(encoding="utf-8").splitlines()[: _BATCH * args.num_steps]
    tokens = count_tokens(load_template(args.model_folder), lines)
    pythons = {"swift": sys.executable, **dict(each.split("=", 1) for each in args.contestant)}
    results: dict[str, list[Result]] = {name: [] for name in pythons}
    dtype = getattr(torch, args.dtype)
    peak = max(measure_peak(dtype), measure_peak(torch.float32))
    print(f"{len(lines)} rows, {statistics.mean(tokens):.0f} tokens each; peak {peak / 1e9:.0f} GFLOP/s", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.jsonl"
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for _ in range(args.rounds):
            for name, python in pythons.items():
                results[name].append(run(name, python, args, rows, tokens))
                print(f"  {name}: {results[name][-1]}", flush=True)
    print(f"{'':14}{'tokens/s':>10}{'ours':>7}{'by CPU time':>13}{'ours':>7}{'peak MiB':>10}{'loss':>9}{'of peak':>9}")
    config = json.loads((Path(args.model_folder) / "config.json").read_text(encoding="utf-8"))
    for name, found in results.items():
        rate, by_cpu, memory = (
            statistics.median(getattr(each, field) for each in found)
            for field in ("tokens_per_s", "tokens_per_cpu_s", "peak_mib")
        )
        own, own_cpu = (
            statistics.median(getattr(each, field) for each in results["swift"])
            for field in ("tokens_per_s", "tokens_per_cpu_s")
        )
        print(
            f"{name:14}{rate:10.0f}{own / rate:6.1f}x{by_cpu:13.0f}{own_cpu / by_cpu:6.1f}x{memory:10,.0f}"
            f"{found[0].losses[-1]:9.4f}{rate * _flops_per_token(config) / peak:9.1%}"
        )


def _flops_per_token(config: dict[str, int]) -> float:
    """Return what has to be computed for a token of a decoder with frozen weights, without its head and attention."""
    hidden, inner, layers = (config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    heads = config["num_attention_heads"]
    share = config.get("num_key_value_heads", heads) / heads
    return 2 * 2 * layers * (hidden * hidden * (2 + 2 * share) + 3 * hidden * inner)


if __name__ == "__main__":
    main()
