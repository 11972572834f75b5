"""Tokens that a model's vocabulary gets besides its own.

This package knows no tokenizer: it says which ids new tokens get, as the library `tokenizers` would number them, and
makes room for them. Whoever reads the tokenizer adds the same tokens in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import InvalidModel, UnsupportedConfig

TOKENIZER_FILE = "tokenizer.json"


def add_tokens(model: PreTrainedModel, folder: Path, tokens: Sequence[str]) -> dict[str, int]:
    """Make room for new tokens in embedding and head; those that the vocabulary has already keep their ids.

    A new row is the mean of the rows of all known tokens, also where the model had a row to spare that no token used.
    The mean is what transformers draws new rows around; without its noise, every process, and every later load, gets
    the same.

    Args:
        model: changed in place.
        folder: holds its tokenizer.json.
        tokens: the tokens.

    Returns:
        The ids of those that are new, in the order in which they were given.

    Raises:
        UnsupportedConfig: a token is empty or given twice, or the model's weights are in pieces.
        InvalidModel: there is no tokenizer.json, or it is damaged.
    """
    known, size = _read_vocabulary(folder)
    ids = assign_ids(tokens, known, size)
    if not ids:
        return {}
    embedding = model.get_input_embeddings()
    if hasattr(embedding.weight, "ds_id"):
        raise UnsupportedConfig("new_special_tokens cannot be added to weights that ZeRO-3 has cut in pieces")
    needed = max(ids.values()) + 1
    if needed > _count_rows(embedding):
        model.resize_token_embeddings(needed, mean_resizing=False)
    for rows in _vocabulary_rows(model):
        _start_at_mean(rows, sorted(ids.values()))
    return ids


def assign_ids(tokens: Sequence[str], known: dict[str, int], vocabulary_size: int) -> dict[str, int]:
    """Return the ids of those tokens that are not known yet.

    Args:
        tokens: tokens to add, in this order.
        known: ids of all tokens that the tokenizer has, added ones included.
        vocabulary_size: how many tokens its model has, without added ones.

    Raises:
        UnsupportedConfig: a token is empty or given twice.
    """
    next_id = max(vocabulary_size, max(known.values(), default=-1) + 1)
    ids: dict[str, int] = {}
    for token in tokens:
        if not token:
            raise UnsupportedConfig("new_special_tokens holds an empty text; expected tokens such as <tool>")
        if tokens.count(token) > 1:
            raise UnsupportedConfig(f"new_special_tokens holds {token!r} twice; name each token once")
        if token not in known:
            ids[token] = next_id
            next_id += 1
    return ids


def _read_vocabulary(folder: Path) -> tuple[dict[str, int], int]:
    """Return the ids of all tokens, and how many tokens the tokenizer's model has."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise InvalidModel(
            f"model folder {str(folder)!r} has no {TOKENIZER_FILE}, which new_special_tokens needs; "
            "convert its tokenizer with transformers' AutoTokenizer, and save it there"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        # Unigram models hold pairs of token and score, in the order of their ids.
        own = vocabulary if isinstance(vocabulary, dict) else {pair[0]: i for i, pair in enumerate(vocabulary)}
        added = {each["content"]: int(each["id"]) for each in content.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidModel(f"{str(path)!r} is damaged: {error!r}; expected a file that `tokenizers` wrote") from error
    return {**own, **added}, len(own)


def _count_rows(embedding: nn.Module) -> int:
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    return weight.shape[0]


def _vocabulary_rows(model: PreTrainedModel) -> list[Tensor]:
    """Return the tensors that have a row for each token: embedding, head and its bias; tied ones once."""
    modules = [each for each in (model.get_input_embeddings(), model.get_output_embeddings()) if each is not None]
    found = [getattr(module, name, None) for module in modules for name in ("weight", "bias")]
    return list({id(each): each for each in found if isinstance(each, Tensor)}.values())


def _start_at_mean(rows: Tensor, ids: list[int]) -> None:
    with torch.no_grad():
        # Summed in float32: in bfloat16, a sum of 100,000 rows has few true digits.
        rows[ids] = rows[: ids[0]].mean(dim=0, dtype=torch.float32).to(rows.dtype)
