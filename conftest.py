"""What the tests of several packages stand on: a tiny model folder, rows to train it on, and an adapter that was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from swift_templates.testing import write_tiny_folder

# Tests never ask a hub; a name that is not in a local cache fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a real tokenizer and chat template."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
    )
    folder = tmp_path_factory.mktemp("model")
    write_tiny_folder(folder, chat_template=CHATML, max_length=256)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten short conversations of different lengths."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        {
            "messages": [
                {"role": "user", "content": "What is " + "this? " * n},
                {"role": "assistant", "content": f"example {n}"},
            ]
        }
        for n in range(1, 11)
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def adapter_folder(model_folder: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA checkpoint, trained hard enough that it answers otherwise than the model."""
    from swift_train import SftArgs, run_sft
    from swift_train.args import TrainArgs

    args = SftArgs()
    args.model.model, args.data.dataset = str(model_folder), [str(rows_file)]
    args.model.torch_dtype = "float32"
    folder = tmp_path_factory.mktemp("adapter") / "run"
    args.train = TrainArgs(
        output_dir=str(folder), add_version=False, learning_rate=3e-2, max_steps=20, gradient_accumulation_steps=2
    )
    return run_sft(args).checkpoint
