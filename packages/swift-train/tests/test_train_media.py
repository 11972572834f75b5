"""A vision-language model from rows with pictures to answers: the same tokens and pixels in training and serving."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from swift_data.args import DataArgs
from swift_infer.args import AskArgs, EngineArgs, InferArgs
from swift_infer.run import run_infer
from swift_templates.generation import SamplingParams
from swift_templates.testing import write_tiny_folder
from swift_train.args import SftArgs, TrainArgs
from swift_train.run import run_sft
from swift_tuners.args import ModelArgs
from swift_tuners.tuners.lora import LoraArgs

transformers = pytest.importorskip("transformers")
Image = pytest.importorskip("PIL.Image")

CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with its processor: four image tokens a picture."""
    folder = tmp_path_factory.mktemp("llava")
    write_tiny_folder(
        folder, chat_template=CHAT, special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    text = transformers.LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1, image_seq_length=4,
    )  # fmt: skip
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=CHAT,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue pictures, named; and a row without any."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    for name, color in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.fromarray(np.full((20, 30, 3), color, dtype=np.uint8)).save(folder / f"{name}.png")
        lines += [{"query": "<image>What is this?", "response": name, "images": [f"{name}.png"]}] * 4
    lines.append({"query": "Hello", "response": "Hi."})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder / "rows.jsonl"


@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_learns_to_tell_pictures_apart_and_is_asked_with_them(
    llava_folder: Path, rows: Path, tmp_path: Path, batch: int
) -> None:
    args = SftArgs(
        model=ModelArgs(model=str(llava_folder), torch_dtype="float32"),
        data=DataArgs(dataset=[str(rows)]),
        tuner=LoraArgs(rank=8, dropout=0.0),
        train=TrainArgs(
            output_dir=str(tmp_path / "run"), add_version=False, learning_rate=1e-2, num_train_epochs=20,
            per_device_train_batch_size=batch, gradient_accumulation_steps=1,
        ),
    )  # fmt: skip
    checkpoint = run_sft(args).checkpoint
    answers = run_infer(
        InferArgs(
            model=ModelArgs(torch_dtype="float32"),
            engine=EngineArgs(ckpt_dir=str(checkpoint)),
            ask=AskArgs(val_dataset=[str(rows)], result_path=str(tmp_path / "answers.jsonl")),
            sampling=SamplingParams(max_new_tokens=8),
        )
    )
    assert answers == ["red"] * 4 + ["blue"] * 4 + ["Hi."]
