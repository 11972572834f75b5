"""A GGUF file unpacked into a folder that transformers, PEFT and vLLM load; the one module that imports gguf.

Weights that the file holds unquantized keep their type. Quantized ones become bfloat16, for half the disk and time of
float32: rounding moves a weight by at most 0.4 %, where 4-bit quantization has moved it by several percent already. On
SmolLM2-135M's Q4_1 file and 1,024 tokens of prose it moved the loss from 4.6575 to 4.6581 nats a token.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import cast

import torch
import transformers
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ..errors import InvalidModel
from .quiet import quiet

_UNQUANTIZED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# llama.cpp's names for tokenizers that split numbers into digits first; transformers' reader does not know them.
_DIGIT_SPLITTERS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})


def convert_gguf(path: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and chat template of a GGUF file into an empty folder.

    Raises:
        InvalidModel: the file is truncated, or of an architecture that transformers does not read.
    """
    try:
        with quiet(), tempfile.TemporaryDirectory() as alone:
            reader = GGUFReader(path)
            # transformers also reads the configs beside the file, which may be another model's.
            link = Path(alone) / path.name
            link.symlink_to(path.resolve())
            tokenizer = AutoTokenizer.from_pretrained(
                link.parent, gguf_file=link.name, trust_remote_code=False, local_files_only=True
            )
            model = _load_dense(link, dtype=choose_dtype(reader))
    except (ValueError, IndexError, KeyError, OverflowError, NotImplementedError) as error:
        raise InvalidModel(
            f"model file {str(path)!r} is truncated, or of a kind that transformers cannot read: {error}"
        ) from error
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest:
        tokenizer.model_max_length = longest
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    field = reader.get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() in _DIGIT_SPLITTERS:
        split_digits(folder / "tokenizer.json")


def choose_dtype(reader: GGUFReader) -> torch.dtype:
    """Return the type that holds the file's weight matrices: exactly, unless they are quantized."""
    kinds = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1}
    if not kinds <= set(_UNQUANTIZED):
        return torch.bfloat16
    return _UNQUANTIZED[kinds.pop()] if len(kinds) == 1 else torch.float32


def split_digits(tokenizer_file: Path) -> None:
    """Let a tokenizer split numbers into digits first, as the model was trained.

    It shows where spaces stand before a number: 'x  1' is 'x', two spaces in one token, '1'.
    """
    content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, content["pre_tokenizer"]],
    }
    tokenizer_file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _load_dense(path: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    options = {}
    if hasattr(transformers, "GgufConfig"):
        # Where a kernel for GGUF's blocks is installed, transformers would leave the weights in them.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded: object = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=dtype,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    if report["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise ValueError(
            f"it lacks {sorted(report['missing_keys'])[0]} and {len(report['missing_keys']) - 1} more weights"
        )
    # The weights are dense now, but transformers still takes the model for a quantized one and refuses to save it.
    for name, value in {"hf_quantizer": None, "is_quantized": False, "quantization_method": None}.items():
        setattr(model, name, value)
    for leftover in ("quantization_config", "_model_name_or_path"):
        if hasattr(model.config, leftover):
            delattr(model.config, leftover)
    return model
