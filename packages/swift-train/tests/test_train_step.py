"""The loss is the weighted token mean over the global batch, however that batch is split."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from swift_data.packing import collate, collate_padded
from swift_templates import Encoded
from swift_train import SftArgs, measure_leak, run_sft
from swift_train.algorithms.sft import Sft
from swift_train.args import TrainArgs
from swift_train.batches import PackDataset
from swift_train.document_attention import find_attention
from swift_train.errors import BrokenCheckpoint, TrainingDiverged
from swift_train.head import find_head
from swift_train.resuming import RunFingerprint
from swift_train.run_state import SavingSettings
from swift_train.trainer import Trainer, TrainerSettings
from swift_train.training_arguments import build_training_arguments
from swift_tuners import LoraConfig, Swift
from swift_tuners.peft_tuner import PeftTuner
from swift_tuners.tuner import ParamGroup
from swift_tuners.tuners.lora import LoraArgs
from transformers import LlamaForCausalLM, MambaConfig, MambaForCausalLM

FINGERPRINT = RunFingerprint(
    base_model=None,
    base_revision=None,
    algorithm="sft",
    dataset="",
    num_samples=2,
    packing_length=None,
    global_batch=1,
    data_seed=None,
)


def arguments(model: Path, rows: Path, output: Path, **train: object) -> SftArgs:
    args = SftArgs(tuner=LoraArgs(dropout=0.0))
    args.model.model = str(model)
    args.model.torch_dtype = "float32"
    args.data.dataset = [str(rows)]
    chosen = {
        "learning_rate": 1e-2,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "gradient_checkpointing": False,
        **train,
    }
    args.train = TrainArgs(output_dir=str(output), add_version=False, **chosen)  # type: ignore[arg-type]  # options of a test
    return args


def losses(folder: Path) -> list[float]:
    lines = (folder / "logging.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


def test_loss_curve_is_equal_for_every_split_of_the_global_batch(
    model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    splits: dict[str, Callable[[SftArgs], None]] = {
        "4 x 1": lambda args: setattr(args.train, "per_device_train_batch_size", 4),
        "1 x 4": lambda args: None,
        "2 x 2, checkpointing": lambda args: args.train.__dict__.update(
            per_device_train_batch_size=2, gradient_checkpointing=True
        ),
    }
    curves = {}
    for name, change in splits.items():
        args = arguments(model_folder, rows_file, tmp_path / name)
        change(args)
        args.train.gradient_accumulation_steps = 4 // args.train.per_device_train_batch_size
        curves[name] = losses(run_sft(args).folder)
    first = curves.pop("4 x 1")
    assert len(first) == 6 and first[-1] < first[0] * 0.9
    for name, curve in curves.items():
        # float32 sums in another order.
        assert curve == pytest.approx(first, rel=1e-5), name


def test_packed_samples_train_as_single_ones_do(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    # All ten rows in one step: as ten passes, and as packs of 128 tokens.
    single = arguments(model_folder, rows_file, tmp_path / "single", gradient_accumulation_steps=10, num_train_epochs=4)
    packed = arguments(model_folder, rows_file, tmp_path / "packed", gradient_accumulation_steps=10, num_train_epochs=4)
    packed.data = replace(packed.data, packing=True, packing_length=128)
    assert losses(run_sft(packed).folder) == pytest.approx(losses(run_sft(single).folder), rel=1e-5)


def test_bfloat16_trains_adapters_in_float32(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = arguments(model_folder, rows_file, tmp_path / "out", gradient_accumulation_steps=2, num_train_epochs=3)
    args.model.torch_dtype = "bfloat16"
    result = run_sft(args)
    curve = losses(result.folder)
    assert curve[-1] < curve[0] * 0.9
    saved = load_file(result.checkpoint / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def sample(ids: list[int], weights: list[float]) -> Encoded:
    loss_scale = np.array(weights, dtype=np.float32)
    input_ids = np.array(ids)
    return Encoded(input_ids=input_ids, labels=np.where(loss_scale > 0, input_ids, -100), loss_scale=loss_scale)


def make_trainer(model_folder: Path, tmp_path: Path, samples: list[Encoded], *, pad: int | None = None) -> Trainer:
    model = LlamaForCausalLM.from_pretrained(model_folder)
    packs = PackDataset(samples, [[index] for index in range(len(samples))])
    args = arguments(model_folder, Path("unused"), tmp_path, gradient_accumulation_steps=1)
    return Trainer(
        model,
        build_training_arguments(args, tmp_path, num_packs=len(packs), global_batch=1),
        algorithm=Sft(),
        train_packs=packs,
        eval_packs=packs,
        settings=TrainerSettings(
            global_batch=1,
            max_tokens=64,
            pad_token_id=pad,
            data_seed=None,
            head=find_head(model, vocabulary=512),
            attention=find_attention(model, longest=64),
        ),
        saving=SavingSettings(save=lambda folder: None, fingerprint=FINGERPRINT),
        callbacks=[],
    )


SAMPLES = [sample([5, 6, 7, 8], [0, 0, 1, 2]), sample([9, 10, 11], [0, 0.5, 1])]


def weighted_mean_by_hand(model: torch.nn.Module) -> float:
    """Each sample alone through the model, and torch's own log-softmax."""
    total = weight = 0.0
    for each in SAMPLES:
        logps = torch.log_softmax(model(input_ids=torch.tensor(each.input_ids)[None]).logits[0].double(), dim=-1)
        for position in range(1, len(each)):
            total -= float(each.loss_scale[position]) * logps[position - 1, each.input_ids[position]].item()
            weight += float(each.loss_scale[position])
    return total / weight


@pytest.mark.parametrize("pad", [None, 0], ids=["joined", "padded"])
def test_evaluation_is_the_weighted_token_mean(model_folder: Path, tmp_path: Path, pad: int | None) -> None:
    trainer = make_trainer(model_folder, tmp_path, SAMPLES, pad=pad)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(weighted_mean_by_hand(trainer.host.eval()), rel=1e-5)


def test_joined_and_padded_samples_give_the_same_gradient(model_folder: Path, tmp_path: Path) -> None:
    gradients = []
    for pad, batch in ((None, collate(SAMPLES)), (0, collate_padded(SAMPLES, 0))):
        trainer = make_trainer(model_folder, tmp_path, SAMPLES, pad=pad)
        ((passes,), denominator) = trainer.get_batch_samples(iter([[batch]]), 1, torch.device("cpu"))
        assert denominator.item() == 4.5  # by hand: 1 + 2 + 0.5 + 1
        trainer.training_step(trainer.host, passes, num_items_in_batch=denominator)
        gradients.append(dict(trainer.host.named_parameters())["model.layers.0.mlp.up_proj.weight"].grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_a_model_that_mixes_joined_samples_is_found_out() -> None:
    # A state-space model carries its state over the border between documents.
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4))
    assert not measure_leak(model, vocabulary=64).is_apart


def test_attention_models_keep_joined_samples_apart(model_folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(model_folder)
    assert measure_leak(model, vocabulary=512).relative < 1e-4


def test_a_loss_that_is_not_finite_stops_the_run(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = arguments(model_folder, rows_file, tmp_path / "out", learning_rate=1e30, num_train_epochs=20)
    with pytest.raises(TrainingDiverged, match="lower --learning_rate"):
        run_sft(args)


def test_a_checkpoint_of_the_model_only_is_small_and_no_run_goes_on_from_it(
    model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    run = run_sft(arguments(model_folder, rows_file, tmp_path / "out", save_only_model=True, save_steps=1, max_steps=2))
    names = {file.name for file in run.checkpoint.iterdir()}
    assert "adapter_model.safetensors" in names and not any("optimizer" in name for name in names)
    again = arguments(
        model_folder, rows_file, tmp_path / "out", resume_from_checkpoint=str(run.checkpoint), max_steps=4
    )
    with pytest.raises(BrokenCheckpoint, match="not of a model only"):
        run_sft(again)


class FasterB(PeftTuner):
    """LoRA+: the second factor learns four times as fast."""

    def param_groups(self, learning_rate: float) -> list[ParamGroup]:
        """Return two groups with rates of their own."""
        named = self.parameters()
        return [
            {"params": [each for name, each in named.items() if ("lora_B" in name) is faster], "lr": rate}
            for faster, rate in ((False, learning_rate), (True, 4 * learning_rate))
        ]


class FasterBConfig:
    """Builds it, as a config of ours does."""

    def build_tuner(self, name: str) -> FasterB:
        """Return the tuner, not yet attached."""
        return FasterB(LoraConfig(target_modules="all-linear"), name=name)


def test_a_tuner_chooses_its_own_learning_rates(model_folder: Path, tmp_path: Path) -> None:
    model = Swift.prepare_model(LlamaForCausalLM.from_pretrained(model_folder), FasterBConfig())
    trainer = make_trainer(model_folder, tmp_path, SAMPLES)
    trainer.host, trainer.args.learning_rate = model, 1e-3
    groups = trainer.create_optimizer().param_groups
    assert [(group["lr"], len(group["params"])) for group in groups] == [
        (1e-3, 14),
        (4e-3, 14),
    ]  # 2 layers of 7 linears
