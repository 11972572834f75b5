"""One forward pass: samples go through the model, and the tokens that carry a weight come back.

Nothing is computed that nobody uses: joined samples attend within themselves only, and the head sees only the tokens
before one that carries a weight.

B rows, T tokens, N tokens with a weight, K columns in which some row has a weight, V vocabulary.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from swift_data.packing import Batch
from swift_kernels import Documents, token_logps
from swift_tuners import SwiftModel
from torch import Tensor, nn

from .algorithm import Algorithm, WeightedTokens
from .document_attention import DocumentAttention
from .head import HeadTap, WantedTokens


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """How a batch goes through one model.

    Attributes:
        host: the model, with its tuners and without what shares it among processes.
        algorithm: what the weights are for.
        head: None lets the model compute logits, in every column that has a weight.
        attention: None leaves attention as the model was loaded.
    """

    host: nn.Module
    algorithm: Algorithm[Any]
    head: HeadTap | None
    attention: DocumentAttention | None

    def joined(self, batch: Batch) -> AbstractContextManager[None]:
        """Return what must be entered around the forward pass of a batch and its backward pass."""
        if self.attention is None or batch.attention_mask is not None or len(batch.input_ids) != 1:
            return nullcontext()
        return self.attention.joined(Documents.from_position_ids(torch.from_numpy(batch.position_ids[0])))

    def __call__(self, model: nn.Module, batch: Batch) -> WeightedTokens:
        """Run a model on a batch.

        Args:
            model: the host, or what wraps it for this process.
            batch: of one or more samples.
        """
        device = next(self.host.parameters()).device
        labels_BT = torch.from_numpy(batch.labels).to(device)
        weights_BT = torch.from_numpy(batch.loss_scale).to(device)
        sequences_BT = torch.from_numpy(batch.sequence_ids).to(device)
        if isinstance(self.host, SwiftModel):
            self.host.on_batch(labels_BT)
        places_N = (weights_BT[:, 1:] != 0).flatten().nonzero().squeeze(1)
        if not len(places_N):
            # A forward pass of fillers only: one token keeps the graph that other processes wait for.
            places_N = torch.zeros(1, dtype=torch.long, device=device)
        chosen_N = [
            each_BT[:, 1:].flatten().index_select(0, places_N) for each_BT in (labels_BT, weights_BT, sequences_BT)
        ]
        labels_N, weights_N, sequences_N = chosen_N
        labels_N = labels_N.clamp_min(0)
        # Counted without each row's last token, which stands before nothing.
        before_N = places_N + torch.div(places_N, labels_BT.shape[1] - 1, rounding_mode="floor")
        logps_N = self._logps(model, _model_inputs(batch, self.host, device), before_N, labels_N, weights_N)
        return WeightedTokens(logps_N=logps_N, weights_N=weights_N, sequences_N=sequences_N)

    def _logps(
        self, model: nn.Module, inputs: dict[str, Tensor], before_N: Tensor, labels_N: Tensor, weights_N: Tensor
    ) -> Tensor:
        if self.head is not None:
            wanted = WantedTokens(
                places_N=before_N, labels_N=labels_N, gradient_N=self.algorithm.gradient_of_logps(weights_N)
            )
            with self.head.open(wanted) as tap:
                model(**inputs, use_cache=False)
                return tap.take()
        length = inputs["input_ids"].shape[1]
        rows_N, columns_N = torch.div(before_N, length, rounding_mode="floor"), before_N % length
        if "logits_to_keep" not in inspect.signature(self.host.forward).parameters:
            return token_logps(model(**inputs, use_cache=False).logits[rows_N, columns_N], labels_N)
        columns_K, kept_N = torch.unique(columns_N, return_inverse=True)
        logits_BKV = model(**inputs, use_cache=False, logits_to_keep=columns_K).logits
        return token_logps(logits_BKV[rows_N, kept_N], labels_N)


def _model_inputs(batch: Batch, host: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Return what the model is called with; numbers of media in its own type."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"input_ids": batch.input_ids}
    # Models that see count positions in their own way, such as in rows and columns of a picture.
    if not batch.media:
        arrays["position_ids"] = batch.position_ids
    if batch.attention_mask is not None:
        arrays["attention_mask"] = batch.attention_mask
    inputs = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    dtype = getattr(host, "dtype", torch.float32)
    for name, array in batch.media.items():
        tensor = torch.from_numpy(array).to(device)
        inputs[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return inputs
