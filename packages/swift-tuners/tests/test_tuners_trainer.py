"""A SwiftModel in transformers' own Trainer: checkpoints are written, hold the adapter, and are resumed from."""

from __future__ import annotations

import copy
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from swift_tuners import FullConfig, LISAConfig, LoraConfig, Swift, SwiftModel, TunerConfig
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.models.trainer_callback import SaveTuners
from swift_tuners.testing import answer, tiny_decoder, tiny_decoder_inputs
from transformers import Trainer, TrainerCallback, TrainingArguments

ROWS = [{"input_ids": ids, "labels": ids} for ids in ([3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14], [3, 5, 7, 9])]


def train(
    config: TunerConfig,
    folder: Path,
    callbacks: list[TrainerCallback],
    *,
    steps: int = 2,
    resume: Path | None = None,
    tied: bool = True,
) -> SwiftModel:
    torch.manual_seed(1)
    model = Swift.prepare_model(tiny_decoder(tie_word_embeddings=tied), copy.deepcopy(config))
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        save_steps=2,
        per_device_train_batch_size=1,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=ROWS, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    model.eval()
    return model


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_checkpoint_without_the_callback_is_the_whole_model(tied: bool, tmp_path: Path) -> None:
    model = train(LoraConfig(r=4, target_modules=["q_proj"]), tmp_path, [], tied=tied)
    written = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert ("host.lm_head.weight" in written) is not tied
    again = Swift.prepare_model(
        tiny_decoder(tie_word_embeddings=tied).eval(), LoraConfig(r=4, target_modules=["q_proj"])
    )
    again.load_state_dict(written)
    assert torch.equal(answer(again, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))
    embedding, head = (again.host.get_parameter(f"{name}.weight") for name in ("model.embed_tokens", "lm_head"))
    assert (embedding is head) is tied


def test_a_checkpoint_is_an_adapter_that_plain_peft_loads(tmp_path: Path) -> None:
    model = train(LoraConfig(r=4, target_modules=["q_proj"]), tmp_path, [SaveTuners()])
    folder, inputs = tmp_path / "checkpoint-2", tiny_decoder_inputs()
    on = answer(model, inputs)
    assert not torch.equal(on, answer(tiny_decoder().eval(), inputs))
    assert torch.equal(answer(peft.PeftModel.from_pretrained(tiny_decoder().eval(), folder), inputs), on)
    assert torch.equal(answer(Swift.from_pretrained(tiny_decoder().eval(), folder), inputs), on)
    # Two matrices for each of two layers, and nothing of the host's.
    assert sorted(load_file(folder / "model.safetensors")) == sorted(
        f"host.{name}" for name in model.tuners["default"].parameters()
    )


CONFIGS: dict[str, TunerConfig] = {
    "lora": LoraConfig(r=4, target_modules=["q_proj"]),
    "lisa": LISAConfig(activated_layers=1, step_interval=1),
    "full": FullConfig(freeze_parameters=["model.layers"]),
    "adalora": peft.AdaLoraConfig(target_modules=["q_proj"], total_step=4, tinit=1, tfinal=1, target_r=2, init_r=4),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_resumed_run_goes_on_as_one_that_was_not_stopped(config: TunerConfig, tmp_path: Path) -> None:
    whole = train(config, tmp_path, [SaveTuners()], steps=4)
    resumed = train(config, tmp_path, [SaveTuners()], steps=4, resume=tmp_path / "checkpoint-2")
    assert torch.equal(answer(resumed, tiny_decoder_inputs()), answer(whole, tiny_decoder_inputs()))


def test_the_callback_refuses_a_model_without_tuners(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model=tiny_decoder(), args=arguments, train_dataset=ROWS, callbacks=[SaveTuners()])
    with pytest.raises(UnsupportedConfig, match="the Trainer has a LlamaForCausalLM"):
        trainer.train()
