"""Head and loss in one: log-probabilities of labels straight from hidden states, the logits never whole in memory.

A row's log-probability depends on that row's hidden state alone, and so its gradient J_n = d logp_n / d hidden_n needs
nothing that comes later. While the forward pass has a chunk's softmax at hand it makes J, (N, D), and keeps nothing
else: backward is g_n J_n for whatever g, be it that of SFT, DPO or GRPO. Nothing is made that nobody asked for: no J
without gradients, no gradient of a frozen head. A trained head's gradient is a sum over rows and does depend on g; SFT
knows g beforehand up to one factor and says so (`expected_gradient_N`), others pay for the logits twice.

How the chunks are computed stands in `linear_cross_entropy_rows` (any device) and `linear_cross_entropy_attention`.

N rows (tokens), K rows with weight, D model, V vocabulary (of this rank).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.distributed import ProcessGroup

from .cross_entropy import LossTerms, check_labels, token_logps_reference
from .linear_cross_entropy_attention import attend, attention_fits
from .linear_cross_entropy_rows import Outcome, Projection, Wanted, total_vocabulary, walk_rows


def linear_token_logps(
    hidden_ND: Tensor,
    head_VD: Tensor,
    labels_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
    expected_gradient_N: Tensor | None = None,
    group: ProcessGroup | None = None,
    vocabulary_start: int = 0,
) -> Tensor:
    """Return the log-probability, in nats, of each row's label, under softmax(soft_cap(hidden head^T + bias)).

    With label smoothing or z-loss the result is minus the row's loss instead:
    (1 - label_smoothing) logp_n + label_smoothing mean_v logp_nv - z_loss L_n^2, L_n the log of the softmax's sum.

    Matrix products take the type of the hidden states, sums and softmax are float32. Processors without matrix units
    for 16-bit types multiply in float32, which is exact for them and faster there.

    Args:
        hidden_ND: (N, D) of any floating type.
        head_VD: (V, D); with a group this rank's rows of it.
        labels_N: int64 (N,), each in [0, vocabulary) of the whole vocabulary.
        bias_V: (V,), added to the logits.
        label_smoothing: part of the target that is spread evenly over the vocabulary, in [0, 1).
        z_loss: factor of L^2, which keeps the logits from drifting.
        soft_cap: z = soft_cap tanh(logits / soft_cap); None leaves the logits as they are.
        expected_gradient_N: (N,), what the gradient of the result will be, up to one common factor. It saves a trained
            head the second computation of the logits. When it turns out wrong they are computed again.
        group: ranks that share the vocabulary, each with its rows of head and bias, and the same hidden states and
            labels; the result and the gradient of the hidden states are the same on all of them.
        vocabulary_start: index in the whole vocabulary of this rank's first row.

    Returns:
        float32 (N,) (float64 for float64), differentiable once, with respect to hidden states, head and bias.

    Raises:
        ValueError: the shapes do not fit, a label is outside the vocabulary, or a term is out of its range.
    """
    problem = _Problem(
        labels_N, LossTerms(label_smoothing, z_loss, soft_cap), expected_gradient_N, group, vocabulary_start, False
    )
    return _apply(hidden_ND, head_VD, bias_V, problem)[0]


def linear_logps_and_entropy(
    hidden_ND: Tensor,
    head_VD: Tensor,
    labels_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
    expected_gradient_N: Tensor | None = None,
    group: ProcessGroup | None = None,
    vocabulary_start: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return what `linear_token_logps` returns, and each row's entropy in nats, float32 (N,).

    H_n = L_n - sum_v softmax_nv z_nv, after the soft cap. It is a figure to watch or to select by, without a gradient.
    """
    problem = _Problem(
        labels_N, LossTerms(label_smoothing, z_loss, soft_cap), expected_gradient_N, group, vocabulary_start, True
    )
    logps_N, entropies_N = _apply(hidden_ND, head_VD, bias_V, problem)
    assert entropies_N is not None
    return logps_N, entropies_N


def linear_cross_entropy(
    hidden_ND: Tensor,
    head_VD: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
    group: ProcessGroup | None = None,
    vocabulary_start: int = 0,
) -> Tensor:
    """Return the weighted sum of cross entropies, in nats: -sum_n weights_n logp_n.

    Rows of weight zero are left out: nothing of theirs is computed.

    Args:
        hidden_ND: as for `linear_token_logps`, which this calls.
        head_VD: as there.
        labels_N: as there; ignored where the weight is zero.
        weights_N: float (N,); one weight carries loss mask, loss scale and advantage alike. No gradient flows to it.
        bias_V: as there.
        label_smoothing: as there.
        z_loss: as there.
        soft_cap: as there.
        group: as there.
        vocabulary_start: as there.

    Returns:
        float32 scalar, differentiable once, with respect to hidden states, head and bias.

    Raises:
        ValueError: as `linear_token_logps`, for the rows that count.
    """
    if weights_N.shape != labels_N.shape:
        raise ValueError(f"weights {tuple(weights_N.shape)} do not fit labels {tuple(labels_N.shape)}")
    counted = weights_N.nonzero().squeeze(1)
    weights_K = weights_N.detach().index_select(0, counted).float()
    everyone = len(counted) == len(weights_N)
    logps_K = linear_token_logps(
        hidden_ND if everyone else hidden_ND.index_select(0, counted),
        head_VD,
        labels_N if everyone else labels_N.index_select(0, counted),
        bias_V=bias_V,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        soft_cap=soft_cap,
        expected_gradient_N=-weights_K,
        group=group,
        vocabulary_start=vocabulary_start,
    )
    return -(weights_K.to(logps_K.dtype) * logps_K).sum()


def linear_token_logps_reference(
    hidden_ND: Tensor,
    head_VD: Tensor,
    labels_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
) -> Tensor:
    """Compute what `linear_token_logps` computes, in plain torch: what the fast paths are tested against."""
    return token_logps_reference(
        torch.nn.functional.linear(hidden_ND, head_VD, bias_V),
        labels_N,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        soft_cap=soft_cap,
    )


@dataclass(frozen=True)
class _Problem:
    labels_N: Tensor
    terms: LossTerms
    expected_gradient_N: Tensor | None
    group: ProcessGroup | None
    vocabulary_start: int
    entropy: bool


def _apply(
    hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor | None, problem: _Problem
) -> tuple[Tensor, Tensor | None]:
    _check(hidden_ND, head_VD, bias_V, problem)
    recorded = torch.is_grad_enabled()
    wanted = Wanted(
        hidden=recorded and hidden_ND.requires_grad,
        head=recorded and head_VD.requires_grad,
        bias=recorded and bias_V is not None and bias_V.requires_grad,
        entropy=problem.entropy,
    )
    # The products choose their own types; autocast would change them under their preallocated outputs.
    with torch.autocast(hidden_ND.device.type, enabled=False):
        results: tuple[Tensor, Tensor | None] = _LinearTokenLogps.apply(hidden_ND, head_VD, bias_V, problem, wanted)
    return results


class _LinearTokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor | None, problem: _Problem, wanted: Wanted
    ) -> tuple[Tensor, Tensor | None]:
        projection = _project(hidden_ND, head_VD, bias_V, problem)
        outcome = _evaluate(projection, wanted, problem.expected_gradient_N)
        ctx.problem = problem  # type: ignore[attr-defined]  # for the backward pass
        ctx.wanted = wanted  # type: ignore[attr-defined]  # for the backward pass
        recomputed = wanted.head or wanted.bias
        again = (hidden_ND, head_VD, bias_V, outcome.stats.log_sums_R) if recomputed else (None,) * 4
        ctx.save_for_backward(outcome.hidden_gradient_ND, *again)  # type: ignore[arg-type]  # None may be saved
        ctx.made = (outcome.head_gradient_VD, outcome.bias_gradient_V)  # type: ignore[attr-defined]  # as above
        logps_N = problem.terms.values(outcome.stats, projection.vocabulary)
        if not wanted.entropy:
            return logps_N, None
        assert outcome.stats.mean_logits_R is not None
        # Rounding may put the entropy of a sure row below 0, which has no meaning.
        entropies_N = (outcome.stats.log_sums_R - outcome.stats.mean_logits_R).clamp_min_(0)
        ctx.mark_non_differentiable(entropies_N)
        return logps_N, entropies_N

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        grad_N = grad_outputs[0]
        hidden_gradient_ND, hidden_ND, head_VD, bias_V, log_sums_N = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        problem: _Problem = ctx.problem  # type: ignore[attr-defined]  # set in forward
        wanted: Wanted = ctx.wanted  # type: ignore[attr-defined]  # set in forward
        made: tuple[Tensor | None, Tensor | None] = ctx.made  # type: ignore[attr-defined]  # set in forward
        # They are scaled in place, once: a second backward pass computes them again.
        ctx.made = (None, None)  # type: ignore[attr-defined]  # set in forward
        if hidden_gradient_ND is not None:
            hidden_gradient_ND = torch.mul(
                hidden_gradient_ND, grad_N[:, None], out=torch.empty_like(hidden_gradient_ND)
            )
        if not (wanted.head or wanted.bias):
            return hidden_gradient_ND, None, None, None, None
        factor: Tensor | None = None
        if problem.expected_gradient_N is not None and made != (None, None):
            factor = _common_factor(grad_N, problem.expected_gradient_N)
        if factor is None:
            del made
            with torch.autocast(hidden_ND.device.type, enabled=False):
                again = walk_rows(
                    _project(hidden_ND, head_VD, bias_V, problem),
                    Wanted(hidden=False, head=wanted.head, bias=wanted.bias, entropy=False),
                    scale_N=grad_N,
                    log_sums_N=log_sums_N,
                )
            made = again.head_gradient_VD, again.bias_gradient_V
        head_gradient_VD, bias_gradient_V = made
        return (
            hidden_gradient_ND,
            None if head_gradient_VD is None else _scaled(head_gradient_VD, factor, head_VD),
            None if bias_gradient_V is None else _scaled(bias_gradient_V, factor, bias_V),
            None,
            None,
        )


def _scaled(gradient: Tensor, factor: Tensor | None, parameter: Tensor) -> Tensor:
    """Scale a float32 gradient in place and return it in the parameter's type."""
    if factor is not None:
        gradient.mul_(factor)
    return gradient.to(parameter.dtype)


def _evaluate(projection: Projection, wanted: Wanted, expected_gradient_N: Tensor | None) -> Outcome:
    if expected_gradient_N is not None and (wanted.head or wanted.bias):
        # One walk makes all three products: logits, and both gradients.
        return walk_rows(projection, wanted, scale_N=expected_gradient_N)
    alone = Wanted(hidden=wanted.hidden, head=False, bias=False, entropy=wanted.entropy)
    return (attend if attention_fits(projection, alone) else walk_rows)(projection, alone)


def _common_factor(gradient_N: Tensor, expected_N: Tensor) -> Tensor | None:
    """Return c of gradient = c expected, or None where no c makes them equal.

    Each may have gone through a few float32 products on its way, hence 8 roundings.
    """
    if not expected_N.numel():
        return None
    largest = expected_N.abs().argmax()
    factor = gradient_N[largest] / expected_N[largest]
    expected_N = factor * expected_N
    allowed_N = 8 * torch.finfo(torch.float32).eps * expected_N.abs()
    return factor if bool(((gradient_N - expected_N).abs() <= allowed_N).all()) else None


def _project(hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor | None, problem: _Problem) -> Projection:
    labels_N = problem.labels_N - problem.vocabulary_start
    labels_N = labels_N.masked_fill((labels_N < 0) | (labels_N >= len(head_VD)), -1)
    vocabulary = total_vocabulary(head_VD, problem.group)
    check_labels(problem.labels_N, vocabulary)
    return Projection(hidden_ND, head_VD, bias_V, labels_N, problem.terms, vocabulary, problem.group)


def _check(hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor | None, problem: _Problem) -> None:
    fits = hidden_ND.ndim == head_VD.ndim == 2 and hidden_ND.shape[1] == head_VD.shape[1]
    fits = fits and problem.labels_N.shape == hidden_ND.shape[:1]
    if not fits or (bias_V is not None and bias_V.shape != head_VD.shape[:1]):
        raise ValueError(
            f"hidden {tuple(hidden_ND.shape)}, head {tuple(head_VD.shape)}, labels {tuple(problem.labels_N.shape)}, "
            f"bias {None if bias_V is None else tuple(bias_V.shape)} do not fit; expected (N, D), (V, D), (N,), (V,)"
        )
    expected_N = problem.expected_gradient_N
    if expected_N is not None and expected_N.shape != problem.labels_N.shape:
        raise ValueError(
            f"expected_gradient_N {tuple(expected_N.shape)} does not fit labels {tuple(problem.labels_N.shape)}"
        )
    if problem.group is None and problem.vocabulary_start:
        raise ValueError(
            f"vocabulary_start={problem.vocabulary_start!r} without a group; expected 0, as the head is whole"
        )
