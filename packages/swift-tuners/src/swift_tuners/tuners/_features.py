"""What comes out of a module: how wide it is and along which dimension; and bottlenecks that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..host_modules import host_modules, is_linear, unwrap
from ..module_map import ModuleMap, is_norm

Activation: TypeAlias = Literal["gelu", "relu", "silu", "identity"]
_ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}
_CONVOLUTIONS: tuple[type[nn.Conv1d | nn.Conv2d | nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of a module's output.

    Attributes:
        width: how many there are.
        spatial: dimensions of a map, such as 2 for (B, C, H, W); 0 where the features come last, as in (B, T, C).
    """

    width: int
    spatial: int = 0

    def check(self, hidden: Tensor) -> None:
        """Raise UnsupportedConfig where a tensor has not these features."""
        fits = hidden.dim() > (self.spatial + 1 if self.spatial else 0)
        if not fits or hidden.shape[-1 - self.spatial] != self.width:
            raise UnsupportedConfig(
                f"a module was taken to return {self.width} features along dimension {-1 - self.spatial}, but it "
                f"returns {tuple(hidden.shape)}; choose other target_modules"
            )


def find_features(modules: Mapping[str, nn.Module], parts: ModuleMap, path: str) -> Features:
    """Return the features of what a module of the host returns.

    Blocks, attention and MLP of a language model return its hidden states; other modules what their last layer does.

    Raises:
        UnsupportedConfig: the module holds no layer of a known kind.
    """
    module = modules[path]
    own = _of_layer(module)
    if own is not None:
        return own
    block = next((layer for layer in parts.layers if path == layer or path.startswith(f"{layer}.")), None)
    whole = path == block or path in parts.attention or path in parts.mlp
    if block is not None and whole:
        hidden = _hidden_states(modules, parts, block)
        if hidden is not None:
            return hidden
    found = [_of_layer(inner) for _, inner in host_modules(module) if not is_norm(inner)]
    known = [features for features in found if features is not None]
    if not known:
        raise UnsupportedConfig(
            f"module {path!r} ({type(module).__name__}) holds no linear or convolutional layer that would tell how "
            "wide its output is; choose other target_modules"
        )
    # Of a map that passes linear layers too, the convolutions tell the layout.
    return next((features for features in reversed(known) if features.spatial), known[-1])


def find_operations(modules: Mapping[str, nn.Module], parts: ModuleMap, *, bare: bool) -> list[str]:
    """Return attention and MLP of every block.

    Args:
        modules: the host's.
        parts: what they are.
        bare: of an MLP that is no module of its own, return the last linear layer; otherwise nothing.
    """
    mlp = [path for path in parts.mlp if _of_layer(modules[path]) is None]
    if bare:
        last = {path.rpartition(".")[0]: path for path in parts.mlp if path not in mlp}
        mlp.extend(last.values())
    return [path for path in modules if path in {*parts.attention, *mlp}]


def bottleneck(features: Features, hidden: int, *, activation: Activation, starts_at_zero: bool) -> nn.Sequential:
    """Return down, activation, up; linear over the features, so convolutions of size 1 on maps."""
    down, up = project(features.width, hidden, features), project(hidden, features.width, features)
    for layer in (down, up):
        nn.init.xavier_uniform_(layer.weight.view(layer.weight.shape[0], -1))
        nn.init.zeros_(layer.get_parameter("bias"))
    if starts_at_zero:
        nn.init.zeros_(up.weight)
    return nn.Sequential(down, _ACTIVATIONS[activation](), up)


def run_bottleneck(branch: nn.Module, hidden: Tensor) -> Tensor:
    """Return up act down of the features, in the type of the bottleneck's weights."""
    weight = next(branch.parameters())
    hidden = hidden.to(weight.dtype)
    if weight.dim() == 2:
        # torch multiplies otherwise laid out features in another order where weights train than where they do not.
        hidden = hidden.contiguous()
    out: Tensor = branch(hidden)
    return out


def project(width: int, new_width: int, features: Features) -> nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """Return a linear map from some features to others, in the layout of `features`, in float32."""
    if features.spatial:
        return _CONVOLUTIONS[features.spatial - 1](width, new_width, kernel_size=1, dtype=torch.float32)
    return nn.Linear(width, new_width, dtype=torch.float32)


def _of_layer(module: nn.Module) -> Features | None:
    for spatial, kind in enumerate(_CONVOLUTIONS, start=1):
        if isinstance(module, kind):
            return Features(width=module.out_channels, spatial=spatial)
    if isinstance(module, nn.MultiheadAttention):
        return Features(width=module.embed_dim)
    if isinstance(module, nn.Embedding):
        return Features(width=module.embedding_dim)
    if is_linear(module):
        # nf is what GPT-2's Conv1D calls it.
        width = getattr(module, "out_features", None) or getattr(module, "nf", None)
        return Features(width=width) if isinstance(width, int) else None
    if is_norm(module) and isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return Features(width=module.normalized_shape[-1])
    return None


def _hidden_states(modules: Mapping[str, nn.Module], parts: ModuleMap, block: str) -> Features | None:
    """Return the features of what runs through a block: as its norms take it, or as the embedding makes it."""
    if any(isinstance(inner, _CONVOLUTIONS[1:]) for _, inner in host_modules(modules[block])):
        return None
    for child in modules[block].children():
        weight = getattr(unwrap(child), "weight", None)
        if is_norm(unwrap(child)) and weight is not None and weight.dim() == 1:
            return Features(width=len(weight))
    embedding = modules[parts.embedding] if parts.embedding is not None else None
    if isinstance(embedding, nn.Embedding):
        return Features(width=embedding.embedding_dim)
    return None
