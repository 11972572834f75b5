"""Short and very long documents on CPU: torch's own flash kernel, called once for each, on views.

It wins where a document is so short that calls cost more than arithmetic, and where it is so long that its larger
blocks pay. It is asked for a batch of G with R heads whose keys have stride zero, so that grouped heads need no copy.

L tokens of a document, H heads, G key-value heads, R = H / G heads that share one, K head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .attention_documents import Document, Scoring

# Forward and backward of 4,096 tokens, one thread of a two-core Xeon, 9 heads, 3 key-value heads, size 64, float32, in
# ms by this way and by tiles: documents of 16: 60, 99; of 64: 47, 54; of 150: 66, 64; of 300: 101, 90; of 600: 156,
# 152; of 1,024: 211, 211; of 4,096: 562, 654.
MAX_SHORT = 160
MIN_LONG = 2048

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def fits(document: Document, scoring: Scoring, query_THK: Tensor, key_SGK: Tensor, value_SGV: Tensor) -> bool:
    """Whether torch's kernel computes this document as asked, and is the faster way."""
    length = document.query_end - document.query_start
    return (
        (0 < length <= MAX_SHORT or length >= MIN_LONG)
        and length == document.num_keys
        and not document.has_prefix
        and scoring.soft_cap is None
        and (scoring.window is None or scoring.window >= length)
        and query_THK.device.type == "cpu"
        and key_SGK.shape[2] == value_SGV.shape[2]
    )


def forward(
    query_LHK: Tensor, key_LGK: Tensor, value_LGK: Tensor, scoring: Scoring, out_LHK: Tensor, lse_HL: Tensor
) -> None:
    """Write the output and the log-sum-exp (nats) of one document.

    Args:
        query_LHK: float32 or float64, as keys and values.
        key_LGK: the document's keys.
        value_LGK: its values.
        scoring: without window and soft cap.
        out_LHK: is written, of any floating type.
        lse_HL: is written.
    """
    num_groups = key_LGK.shape[1]
    out_GRLK, lse_GRL = _forward(*_by_group(query_LHK, key_LGK, value_LGK), 0.0, scoring.causal, scale=scoring.scale)
    out_LHK.unflatten(1, (num_groups, -1)).copy_(out_GRLK.permute(2, 0, 1, 3))
    lse_HL.unflatten(0, (num_groups, -1)).copy_(lse_GRL)


def backward(
    outputs: tuple[Tensor, Tensor, Tensor],
    inputs: tuple[Tensor, Tensor, Tensor],
    scoring: Scoring,
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the gradient of the queries, add those of keys and values.

    Args:
        outputs: gradient of the output, output (L, H, K), log-sum-exp in nats (H, L); or those of all pieces.
        inputs: query, key and value as in the forward pass.
        scoring: as in the forward pass.
        into: gradients of query (L, H, K), key and value (L, G, K).
    """
    num_groups = inputs[1].shape[1]
    dout_GRLK, out_GRLK = (each.unflatten(1, (num_groups, -1)).permute(1, 2, 0, 3) for each in outputs[:2])
    lse_GRL = outputs[2].unflatten(0, (num_groups, -1))
    dquery_GRLK, dkey_GRLK, dvalue_GRLK = _backward(
        dout_GRLK, *_by_group(*inputs), out_GRLK, lse_GRL, 0.0, scoring.causal, scale=scoring.scale
    )
    into[0].unflatten(1, (num_groups, -1)).copy_(dquery_GRLK.permute(2, 0, 1, 3))
    into[1].add_(dkey_GRLK.sum(1).transpose(0, 1))
    into[2].add_(dvalue_GRLK.sum(1).transpose(0, 1))


def _by_group(query_LHK: Tensor, key_LGK: Tensor, value_LGK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query_GRLK = query_LHK.unflatten(1, (key_LGK.shape[1], -1)).permute(1, 2, 0, 3)
    share = query_GRLK.shape[1]
    key_GRLK, value_GRLK = (each.transpose(0, 1)[:, None].expand(-1, share, -1, -1) for each in (key_LGK, value_LGK))
    return query_GRLK, key_GRLK, value_GRLK
