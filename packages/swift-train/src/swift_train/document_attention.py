"""Attention that computes joined documents one by one, on every model whose attention can be chosen.

Samples joined into one row see nothing of each other. A mask over the whole row says so at the price of computing what
it then throws away; here each document is computed alone (`swift_kernels.attention`), without any mask. transformers
knows the function by name, and a model has that name for the time of a forward and backward pass of joined samples
only: whatever else it does, it does as it was loaded.

B rows (one), H query heads, G key-value heads, T tokens, K size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swift_kernels import Documents, attention
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel

NAME = "swift_documents"
_DROPOUTS = ("attention_dropout", "attn_pdrop", "attn_dropout", "attention_probs_dropout_prob")

# The backward pass computes checkpointed layers again, on a GPU in another thread: hence not a context variable.
_joined: Documents | None = None


class DocumentAttention:
    """Switches the language part of a model to attention within documents and back.

    Attributes:
        config: of that part; it names the attention that its layers use.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        self.config = config
        AttentionInterface.register(NAME, _attend)

    @contextmanager
    def joined(self, documents: Documents) -> Iterator[None]:
        """Compute these documents one by one, while the block with a forward and its backward pass runs."""
        global _joined
        before, before_joined = self.config._attn_implementation, _joined
        self.config._attn_implementation_internal, _joined = NAME, documents
        try:
            yield
        finally:
            self.config._attn_implementation_internal, _joined = before, before_joined


def find_attention(model: nn.Module, *, longest: int) -> DocumentAttention | None:
    """Return the switch for a model, or None where its attention cannot be chosen.

    Args:
        model: of transformers, with its tuners.
        longest: tokens of the longest document.

    Returns:
        None too where flash attention was chosen, which keeps documents apart by itself; for models that drop some of
        their attention; and for those that cut documents into chunks shorter than the longest.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return None
    text = config.get_text_config()
    chunk = getattr(text, "attention_chunk_size", None)
    drops = any(getattr(text, name, None) for name in _DROPOUTS)
    if drops or (chunk is not None and chunk < longest) or (text._attn_implementation or "").startswith("flash"):
        return None
    parts = [each for each in model.modules() if isinstance(each, PreTrainedModel) and each.config is text]
    if not parts or not all(each._can_set_attn_implementation() for each in parts):
        return None
    return DocumentAttention(text)


def _attend(
    module: nn.Module,
    query_BHTK: Tensor,
    key_BGTK: Tensor,
    value_BGTK: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,  # noqa: ANN401  # whatever a model passes on to its attention
) -> tuple[Tensor, None]:
    """Answer as transformers' attention functions do: (B, T, H, K), and no weights."""
    assert _joined is not None and query_BHTK.shape[0] == 1 and attention_mask is None and not dropout, "see `joined`"
    query_THK, key_TGK, value_TGK = (each[0].transpose(0, 1) for each in (query_BHTK, key_BGTK, value_BGTK))
    out_THK = attention(
        query_THK,
        key_TGK,
        value_TGK,
        _joined,
        scale=scaling,
        window=sliding_window,
        soft_cap=softcap,
        sinks_H=s_aux,
    )
    return out_THK[None], None
