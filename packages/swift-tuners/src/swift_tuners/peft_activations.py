"""Starts of LoRA that look at what the host computes on some data: EVA's directions and CorDA's factors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from peft import LoraConfig, get_eva_state_dict
from torch import Tensor, nn

from .errors import MissingDependency, UnsupportedConfig
from .peft_checks import find_embedding
from .peft_layers import PeftLayer
from .targets import unwrap

Batch: TypeAlias = Mapping[str, Any]
"""Arguments of one forward of the host."""
_MAX_ROUNDS = 100
_IGNORED = -100
# What models raise for arguments of wrong names, types and shapes.
_MISFITS = (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError)


def eva_directions(
    model: nn.Module, config: LoraConfig, names: Sequence[str], batches: Sequence[Batch]
) -> dict[str, Tensor]:
    """Return A of each linear layer: the directions in which its inputs vary most, (r of the layer, in).

    Layers whose inputs vary in more directions get more of the common number of ranks, others fewer, down to 0.

    Raises:
        UnsupportedConfig: the batches are too small, or no arguments of the model; or another adapter is on the model
            already.
    """
    _check_batches(model, batches)
    if hasattr(model, "peft_config"):
        raise UnsupportedConfig(
            "EVA looks at the model without adapters, and this one has some; give the tuner that starts by 'eva' first"
        )
    # PEFT chooses the layers by its config; here they are known.
    wanted = LoraConfig(r=config.r, rank_pattern=config.rank_pattern, target_modules=list(names))
    wanted.eva_config = config.eva_config
    limit = _MAX_ROUNDS * len(batches)
    num_calls = 0

    def run(host: nn.Module, batch: dict[str, Any]) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls > limit:
            raise UnsupportedConfig(
                f"EVA found no stable directions in {limit} batches; each must hold more tokens than a layer's rank "
                f"times rho, {config.r} x {getattr(config.eva_config, 'rho', 2)}: give larger batches"
            )
        with torch.no_grad():
            _run(host, batch)

    try:
        # PEFT prints a line for each layer and batch that it skips.
        with _as_it_answers(model), redirect_stdout(io.StringIO()):
            found: dict[str, Tensor] = get_eva_state_dict(
                model,
                [dict(batch) for batch in batches],
                wanted,
                forward_fn=run,
                prepare_model_inputs_fn=lambda batch, _: _counted(batch),
                prepare_layer_inputs_fn=_rows_for_eva,
                show_progress_bar=False,
            )
    except ValueError as error:
        if isinstance(error, UnsupportedConfig):
            raise
        raise UnsupportedConfig(f"EVA cannot start from these batches: {error}") from error
    finally:
        _remove_eva_hooks(model)
    return found


@torch.no_grad()
def corda_factors(
    model: nn.Module, config: LoraConfig, layers: Mapping[str, PeftLayer], batches: Sequence[Batch], adapter: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A0 and B0 of each layer, from the weights as they act on the layers' inputs.

    Args:
        model: the host, with the adapter in place, which does nothing yet.
        config: as asked for.
        layers: those of the adapter.
        batches: arguments of the host.
        adapter: its name.

    Raises:
        UnsupportedConfig: an input is not finite, a layer is not used on these batches, or they are no arguments of the
            model.
    """
    _check_batches(model, batches)
    sums: dict[str, Tensor] = {}
    mask: list[Tensor | None] = [None]
    handles = [
        unwrap(cast("nn.Module", layer)).register_forward_pre_hook(partial(_add_covariance, sums, mask, path))
        for path, layer in layers.items()
    ]
    try:
        with _as_it_answers(model):
            for batch in batches:
                mask[0] = _counted(batch)
                _run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for path, layer in layers.items():
        if path not in sums:
            raise UnsupportedConfig(f"layer {path!r} is not used on the calibration batches; give others, or targets")
        found[path] = _factors(cast("Any", layer), adapter, config, sums.pop(path) / len(batches))
    return found


def _factors(layer: Any, adapter: str, config: LoraConfig, covariance: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401  # PEFT's
    """Return A0 and B0 from U S V^T C, the SVD of W C for the covariance C of the layer's inputs."""
    try:
        from peft.tuners.lora.corda import collect_eigens_for_layer
    except ModuleNotFoundError as error:
        # PEFT 0.21 imports attrs there and does not declare it.
        raise MissingDependency(f"{error.name} is needed by CorDA; pip install 'swift-tuners[corda]'") from error
    linear = layer.get_base_layer()
    linear.covariance_matrix = covariance
    try:
        eigens = collect_eigens_for_layer(linear, config)
    finally:
        del linear.covariance_matrix
    rank = layer.r[adapter]
    # The instruction-previewed mode trains the largest components, the knowledge-preserved one the smallest.
    keeps = config.corda_config is not None and config.corda_config.corda_method == "kpm"
    chosen = slice(-rank, None) if keeps else slice(None, rank)
    roots = (eigens.S_WC[chosen] / layer.scaling[adapter]).sqrt()
    device = linear.weight.device
    return eigens.V_WC[:, chosen].to(device).T * roots[:, None], eigens.U_WC[:, chosen].to(device) * roots


def _add_covariance(
    sums: dict[str, Tensor], mask: list[Tensor | None], path: str, _module: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    rows = _rows(inputs[0], mask[0]).float()
    rows = rows / rows.max().abs()
    if not torch.isfinite(rows).all():
        raise UnsupportedConfig(f"the input of layer {path!r} is not finite on the calibration batches; check them")
    sums[path] = sums.get(path, 0) + rows.T @ rows


def _check_batches(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Raise UnsupportedConfig if a batch holds no named arguments, or ids that the model has no embedding for."""
    size = getattr(find_embedding(model), "num_embeddings", None)
    for index, batch in enumerate(batches):
        where = f"calibration[{index}]"
        if not isinstance(batch, Mapping) or not all(isinstance(name, str) for name in batch):
            raise UnsupportedConfig(
                f"{where} is a {type(batch).__name__}; expected the arguments of one forward by name, such as "
                "{'input_ids': ...}"
            )
        ids, labels = batch.get("input_ids"), batch.get("labels")
        if ids is None:
            continue
        if not isinstance(ids, Tensor) or ids.is_floating_point() or not ids.numel():
            raise UnsupportedConfig(f"input_ids of {where} are {ids!r:.80}; expected a tensor of token ids")
        outside = ids[(ids < 0) | (ids >= size)] if isinstance(size, int) else ids[:0]
        if outside.numel():
            raise UnsupportedConfig(
                f"input_ids of {where} hold {int(outside.flatten()[0])}, outside the model's vocabulary of {size}; "
                "encode the texts with the model's own tokenizer"
            )
        mask = batch.get("attention_mask")
        # One of four dimensions says more than which tokens are padding.
        for name, given in {
            "labels": labels,
            "attention_mask": mask if getattr(mask, "ndim", 2) == 2 else None,
        }.items():
            if given is not None and (not isinstance(given, Tensor) or given.shape != ids.shape):
                raise UnsupportedConfig(
                    f"{name} of {where} has another shape than its input_ids, {tuple(ids.shape)}; give one a token"
                )


def _run(model: nn.Module, batch: Batch) -> None:
    """Call the model. Raises UnsupportedConfig: it cannot be called with this."""
    try:
        model(**batch)
    except torch.OutOfMemoryError:
        raise
    except _MISFITS as error:
        if isinstance(error, UnsupportedConfig):
            raise
        shapes = {name: tuple(each.shape) if isinstance(each, Tensor) else each for name, each in batch.items()}
        raise UnsupportedConfig(
            f"{type(model).__name__} cannot be called with a calibration batch, {shapes!r:.120}: {error!r:.200}; "
            "give arguments of its forward as they come in training"
        ) from error


def _counted(batch: Batch) -> Tensor | None:
    """Return which tokens of a batch count, (B, T): no padding, and only those that are trained if labels say so."""
    ids = batch.get("input_ids")
    if ids is None:
        return None
    counted = torch.ones_like(ids, dtype=torch.bool)
    padding = batch.get("attention_mask")
    if padding is not None and padding.shape == ids.shape:
        counted &= padding.bool()
    if batch.get("labels") is not None:
        counted &= batch["labels"] != _IGNORED
    return counted


def _rows(values: Tensor, counted: Tensor | None) -> Tensor:
    """Return a layer's inputs as (rows, in); what has another shape than the tokens counts in full."""
    if counted is not None and values.shape[:2] == counted.shape:
        return values[counted.to(values.device)]
    return values.reshape(-1, values.shape[-1])


def _rows_for_eva(values: Any, counted: Tensor | None, _name: str) -> Tensor:  # noqa: ANN401  # arguments of a layer
    return _rows(values[0] if isinstance(values, tuple | list) else values, counted)


def _remove_eva_hooks(model: nn.Module) -> None:
    """Take off what PEFT leaves on the layers after an error."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if type(hook).__module__ == "peft.tuners.lora.eva":
                del module._forward_hooks[key]


@contextmanager
def _as_it_answers(model: nn.Module) -> Iterator[None]:
    """Have the model in evaluation mode, and each module in its own again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
