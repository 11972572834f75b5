"""Every registered tuner through a whole run: trained, resumed from, and answering in the engine as it was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from swift_data.args import DataArgs
from swift_export.args import ExportArgs, ExportTargetArgs
from swift_export.run import run_export
from swift_infer.args import EngineArgs
from swift_infer.checkpoint import resolve_served
from swift_infer.engines.torch import TorchEngine
from swift_templates import Conversation, Message, Template
from swift_templates.args import PromptArgs
from swift_train.args import SftArgs, TrainArgs
from swift_train.errors import InvalidTrainArgs
from swift_train.run import RunResult, run_sft
from swift_tuners.args import ModelArgs
from swift_tuners.quantizer_args import QuantizationArgs
from swift_tuners.tuners import TUNERS
from swift_tuners.tuners.lora import LoraArgs

QUESTION = Conversation(messages=(Message(role="user", content="What is this? "),))
SMALL: dict[str, dict[str, Any]] = {
    "adalora": {"init_r": 4, "target_r": 2},
    "boft": {"block_size": 8},
    "fourierft": {"n_frequency": 50},
    "llamapro": {"num_new_blocks": 1},
    "oft": {"block_size": 8},
    # A decoder's branches need what a call says of its tokens.
    "reft": {"positions": "f1+l1"},
}


def run(model: ModelArgs, rows: Path, output: Path, tuner: str, *, steps: int = 3, **train: Any) -> RunResult:  # noqa: ANN401  # options
    args = SftArgs(
        model=model,
        data=DataArgs(dataset=[str(rows)]),
        tuner=TUNERS.load_class(tuner)(**SMALL.get(tuner, {})),
        train=TrainArgs(
            output_dir=str(output),
            add_version=False,
            learning_rate=1e-2,
            max_steps=steps,
            gradient_accumulation_steps=2,
            logging_steps=1,
            **train,
        ),
    )
    return run_sft(args)


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "logging.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("tuner", TUNERS.names())
def test_a_run_trains_it_and_the_engine_loads_it(
    tuner: str, model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = ModelArgs(model=str(model_folder), torch_dtype="float32")
    if tuner == "neftune":
        with pytest.raises(InvalidTrainArgs, match="trains no weight"):
            run(model, rows_file, tmp_path / "run", tuner)
        return
    result = run(model, rows_file, tmp_path / "run", tuner)
    assert len(losses(result.folder)) == 3
    served = resolve_served(EngineArgs(ckpt_dir=str(result.folder)), ModelArgs(torch_dtype="float32"), PromptArgs())
    template = Template.from_folder(model_folder, served.template)
    engine = TorchEngine(served, template, max_batch_size=2)
    engine.model.activate("default")
    prompt = torch.tensor([list(template.encode_prompt(QUESTION).input_ids)])
    with torch.no_grad():
        answered = engine.model(input_ids=prompt, use_cache=False).logits
        engine.model.deactivate()
        assert not torch.equal(engine.model(input_ids=prompt, use_cache=False).logits, answered)


def test_adalora_spreads_its_schedule_over_the_run(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    result = run(ModelArgs(model=str(model_folder)), rows_file, tmp_path / "run", "adalora", steps=4)
    saved = json.loads((result.checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    assert saved["total_step"] == 4
    kept = [sum(layer) for layer in saved["rank_pattern"].values()]
    assert sum(kept) == 2 * len(kept)


def test_a_start_that_needs_data_gets_the_training_rows(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = SftArgs(
        model=ModelArgs(model=str(model_folder), torch_dtype="float32"),
        data=DataArgs(dataset=[str(rows_file)]),
        tuner=LoraArgs(rank=2, init_weights="eva"),
        train=TrainArgs(output_dir=str(tmp_path / "run"), add_version=False, max_steps=1),
    )
    assert (run_sft(args).checkpoint / "adapter_model.safetensors").is_file()


def test_what_changes_the_base_is_recorded_served_and_merged(
    model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    model = ModelArgs(
        model=str(model_folder),
        torch_dtype="float32",
        rope_scaling="yarn",
        max_model_len=512,
        new_special_tokens=["<cat>", "<dog>"],
    )
    rows = tmp_path / "rows.jsonl"
    lines = rows_file.read_text(encoding="utf-8").replace("example", "<cat>")
    rows.write_text(lines, encoding="utf-8")
    result = run(model, rows, tmp_path / "run", "lora")
    record = json.loads((result.checkpoint / "swift.json").read_text(encoding="utf-8"))
    assert record["base_options"] == {
        "rope_scaling": "yarn", "max_model_len": 512, "new_special_tokens": ["<cat>", "<dog>"]
    }  # fmt: skip
    merged = tmp_path / "merged"
    run_export(
        ExportArgs(
            model=ModelArgs(torch_dtype="float32"),
            export=ExportTargetArgs(ckpt_dir=str(result.folder), merge_lora=True, output_dir=str(merged)),
        )
    )
    answers = []
    for folder in (result.folder, merged):
        served = resolve_served(EngineArgs(ckpt_dir=str(folder)), ModelArgs(torch_dtype="float32"), PromptArgs())
        template = Template.from_folder(
            served.model.model or "", served.template, new_special_tokens=served.model.new_special_tokens
        )
        engine = TorchEngine(served, template, max_batch_size=2)
        if served.adapter:
            engine.model.activate(*engine.model.tuners)
        ids = torch.tensor([template.tokenizer.encode("a <cat> b")])
        assert template.tokenizer.token_id("<cat>") in ids
        with torch.no_grad():
            answers.append(engine.model(input_ids=ids, use_cache=False).logits)
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)


def test_other_options_of_the_base_are_refused_on_resume(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    model = ModelArgs(model=str(model_folder), torch_dtype="float32", rope_scaling="linear", max_model_len=512)
    result = run(model, rows_file, tmp_path / "run", "lora", steps=1)
    with pytest.raises(InvalidTrainArgs, match="rope_scaling"):
        run(
            replace(model, rope_scaling=None, max_model_len=None), rows_file, tmp_path / "run", "lora", steps=2,
            resume_from_checkpoint=str(result.checkpoint),
        )  # fmt: skip


def test_a_quantized_base_is_served_as_it_was_trained(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    args = SftArgs(
        model=ModelArgs(model=str(model_folder), torch_dtype="float32"),
        quantization=QuantizationArgs(quant_method="bnb", quant_bits=4),
        data=DataArgs(dataset=[str(rows_file)]),
        tuner=LoraArgs(rank=2),
        train=TrainArgs(output_dir=str(tmp_path / "run"), add_version=False, max_steps=2),
    )
    result = run_sft(args)
    served = resolve_served(EngineArgs(ckpt_dir=str(result.folder)), ModelArgs(), PromptArgs())
    assert served.quantization == QuantizationArgs(quant_method="bnb", quant_bits=4)
    assert (
        resolve_served(
            EngineArgs(adapters=[str(result.checkpoint)]), ModelArgs(model=str(model_folder)), PromptArgs()
        ).quantization
        == QuantizationArgs()
    )


@pytest.mark.parametrize("tuner", ["prompt_tuning", "prefix_tuning"])
def test_methods_that_put_tokens_before_a_row_get_padded_rows(
    tuner: str, model_folder: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = SftArgs(
        model=ModelArgs(model=str(model_folder), torch_dtype="float32"),
        data=DataArgs(dataset=[str(rows_file)], packing=True),
        tuner=TUNERS.load_class(tuner)(),
        train=TrainArgs(output_dir=str(tmp_path / "run"), add_version=False, max_steps=1),
    )
    run_sft(args)
    assert "--packing has no effect: samples are padded" in capsys.readouterr().out
