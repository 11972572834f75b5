"""Fine-tune with one of several trainers, and say how long each step took: what `sft.py` runs.

    python bench/sft_contestants.py NAME MODEL_FOLDER ROWS.jsonl DTYPE NUM_STEPS

Each is called as its users call it, with the same rows in the same order, model, precision and hyper-parameters: global
batch 16, learning rate 1e-4, LoRA of rank 8 on all linear layers. It imports only what its own trainer needs, so that
the interpreter may be one where nothing else is installed. The last line of its output is a JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

GLOBAL_BATCH = 16
LEARNING_RATE = 1e-4
MAX_LENGTH = 2048
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Clock(TrainerCallback):
    """Takes the time of each step, and notes its loss."""

    wall: list[float] = []  # noqa: RUF012  # one run in a process
    cpu: list[float] = []  # noqa: RUF012
    losses: list[float] = []  # noqa: RUF012
    _began = (0.0, 0.0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Start the clock."""
        Clock._began = (time.perf_counter(), time.process_time())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Stop it."""
        Clock.wall.append(time.perf_counter() - Clock._began[0])
        Clock.cpu.append(time.process_time() - Clock._began[1])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Note the loss."""
        if logs and "loss" in logs:
            Clock.losses.append(logs["loss"])


def run_ours(folder: str, rows: str, dtype: str, num_steps: int, output: str) -> None:
    """Run swift-train as it is."""
    from swift_train import SftArgs, run_sft
    from swift_tuners.tuners.lora import LoraArgs

    args = SftArgs(tuner=LoraArgs(dropout=0.05))
    args.model.model, args.model.torch_dtype = folder, dtype
    args.data.dataset, args.data.dataset_shuffle, args.data.load_from_cache_file = [rows], False, False
    args.template.max_length = MAX_LENGTH
    args.train.output_dir, args.train.max_steps, args.train.logging_steps = output, num_steps, 1
    args.train.learning_rate, args.train.gradient_accumulation_steps = LEARNING_RATE, GLOBAL_BATCH
    args.train.save_steps = num_steps
    run_sft(args)


def run_ms_swift(folder: str, rows: str, dtype: str, num_steps: int, output: str) -> None:
    """Run ms-swift as shipped."""
    from swift import SftArguments, sft_main  # type: ignore[import-not-found]  # another project's

    sft_main(
        SftArguments(
            model=folder, model_type="llama", template="chatml", dataset=[rows], torch_dtype=dtype,
            max_steps=num_steps, gradient_accumulation_steps=GLOBAL_BATCH, learning_rate=LEARNING_RATE,
            tuner_type="lora", lora_rank=8, lora_alpha=32, lora_dropout=0.05, target_modules=["all-linear"],
            max_length=MAX_LENGTH, logging_steps=1, save_strategy="no", output_dir=output, dataset_shuffle=False,
            train_dataloader_shuffle=False, split_dataset_ratio=0.0, report_to=[], use_hf=True, use_cpu=True,
        )
    )  # fmt: skip


def run_trl(folder: str, rows: str, dtype: str, num_steps: int, output: str, **settings: Any) -> None:  # noqa: ANN401  # of TRL
    """Run TRL's SFTTrainer as shipped, or with other settings."""
    from datasets import load_dataset  # type: ignore[import-untyped]  # has no types
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]  # another project's

    batch = settings.pop("per_device_train_batch_size", 8)
    SFTTrainer(
        model=folder,
        args=SFTConfig(
            output_dir=output, max_steps=num_steps, per_device_train_batch_size=batch,
            gradient_accumulation_steps=GLOBAL_BATCH // batch, learning_rate=LEARNING_RATE, logging_steps=1,
            save_strategy="no", report_to="none", max_length=MAX_LENGTH, bf16=dtype == "bfloat16", use_cpu=True,
            assistant_only_loss=False, shuffle_dataset=False, model_init_kwargs={"dtype": dtype},
            train_sampling_strategy="sequential", **settings,
        ),
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        peft_config=LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=_TARGETS, task_type="CAUSAL_LM"),
    ).train()  # fmt: skip


def run_trl_best(folder: str, rows: str, dtype: str, num_steps: int, output: str) -> None:
    """Run TRL with packing and without checkpointing, which was the quickest of its settings on a CPU."""
    run_trl(
        folder, rows, dtype, num_steps, output,
        packing=True, packing_strategy="bfd", gradient_checkpointing=False, per_device_train_batch_size=1,
    )  # fmt: skip


def run_transformers(folder: str, rows: str, dtype: str, num_steps: int, output: str) -> None:
    """Run transformers' Trainer with PEFT: rows padded, answers trained."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = []
    for line in Path(rows).read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        ids: list[int] = tokenizer.apply_chat_template(messages, return_dict=False)
        encoded.append({"input_ids": ids[:MAX_LENGTH], "labels": ids[:MAX_LENGTH]})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    config = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=_TARGETS, task_type="CAUSAL_LM")
    Trainer(
        model=get_peft_model(model, config),
        args=TrainingArguments(
            output_dir=output, max_steps=num_steps, per_device_train_batch_size=4,
            gradient_accumulation_steps=GLOBAL_BATCH // 4, learning_rate=LEARNING_RATE, logging_steps=1,
            save_strategy="no", report_to="none", use_cpu=True, bf16=dtype == "bfloat16",
            train_sampling_strategy="sequential",
        ),
        train_dataset=encoded,  # type: ignore[arg-type]  # a list is a dataset
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    ).train()  # fmt: skip


CONTESTANTS: dict[str, Callable[[str, str, str, int, str], None]] = {
    "swift": run_ours,
    "ms-swift": run_ms_swift,
    "trl": run_trl,
    "trl-best": run_trl_best,
    "transformers": run_transformers,
}


def _start_clocks() -> None:
    """Let every trainer of this process have a clock, whatever callbacks it chooses itself."""
    start = transformers.trainer.CallbackHandler.__init__

    def start_with_clock(self: transformers.trainer.CallbackHandler, callbacks: list[Any], *others: Any) -> None:  # noqa: ANN401  # as transformers'
        start(self, [*callbacks, Clock], *others)

    transformers.trainer.CallbackHandler.__init__ = start_with_clock  # type: ignore[method-assign]  # in this process


def main(name: str, folder: str, rows: str, dtype: str, num_steps: str) -> None:
    """Run one of them."""
    _start_clocks()
    with tempfile.TemporaryDirectory() as output:
        CONTESTANTS[name](folder, rows, dtype, int(num_steps), output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": Clock.wall, "cpu": Clock.cpu, "losses": Clock.losses, "peak_mib": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
