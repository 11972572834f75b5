"""Toy hosts: the same small models at each call, for trying tuners on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..model import SwiftModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Toy:
    """A model to try tuners on, and arguments for its forward."""

    make_model: Callable[[], nn.Module]
    make_inputs: Callable[[], dict[str, Tensor]]


class ToyMLP(nn.Module):
    """Two linear layers, without anything that transformers models have."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.down = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8) to (B, 4)."""
        out: Tensor = self.down(self.act(self.up(x)))
        return out


class ToyConvNet(nn.Module):
    """Two residual blocks of convolutions and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList([_ConvBlock(), _ConvBlock()])
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 4)."""
        hidden = self.stem(image)
        for block in self.blocks:
            hidden = block(hidden)
        out: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return out


class _ConvBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)
        self.conv = nn.Conv2d(8, 8, kernel_size=3, padding=1)
        # Its running statistics change in training.
        self.batch_norm = nn.BatchNorm2d(8)
        self.proj = nn.Linear(8, 8)

    def forward(self, hidden: Tensor) -> Tensor:
        mixed = self.proj(torch.relu(self.batch_norm(self.conv(self.norm(hidden)))).movedim(1, -1)).movedim(-1, 1)
        return hidden + mixed


def toy_mlp() -> ToyMLP:
    """Return the same small MLP at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToyMLP()


def toy_mlp_inputs() -> dict[str, Tensor]:
    """Return arguments for `toy_mlp`."""
    return {"x": torch.randn(3, 8, generator=_seeded())}


def toy_conv() -> ToyConvNet:
    """Return the same small convolutional net at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToyConvNet()


def toy_conv_inputs() -> dict[str, Tensor]:
    """Return arguments for `toy_conv`."""
    return {"image": torch.randn(2, 3, 6, 6, generator=_seeded())}


def tiny_decoder(*, tie_word_embeddings: bool = True, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the same Llama of two layers, 64 tokens and some 20,000 random weights at each call."""
    from ..models.tiny import build_tiny_llama

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_tiny_llama(tie_word_embeddings=tie_word_embeddings, dtype=dtype)


def tiny_decoder_inputs() -> dict[str, Tensor]:
    """Return arguments for `tiny_decoder`."""
    return {"input_ids": torch.randint(3, 64, (2, 7), generator=_seeded())}


def tiny_vlm() -> PreTrainedModel:
    """Return the same LLaVA at each call: the tiny decoder's like, a vision tower of two layers, and a projector."""
    from ..models.tiny import build_tiny_llava

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_tiny_llava()


def tiny_vlm_inputs() -> dict[str, Tensor]:
    """Return arguments for `tiny_vlm`: two rows, each with an image of four tokens."""
    generator = _seeded()
    words = torch.randint(3, 60, (2, 5), generator=generator)
    image = torch.full((2, 4), 63)
    return {
        "input_ids": torch.cat([words[:, :1], image, words[:, 1:]], dim=1),
        "pixel_values": torch.randn(2, 3, 8, 8, generator=generator),
    }


TOYS: Mapping[str, Toy] = {
    "mlp": Toy(toy_mlp, toy_mlp_inputs),
    "conv": Toy(toy_conv, toy_conv_inputs),
    "decoder": Toy(tiny_decoder, tiny_decoder_inputs),
    "vlm": Toy(tiny_vlm, tiny_vlm_inputs),
}
"""By the names that `Laws.models` uses."""


def disturb(model: SwiftModel, *, scale: float = 0.05) -> None:
    """Give all that trains other values, the same at each call: most tuners do nothing before they have learnt."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += scale * noise.to(parameter.device, parameter.dtype)


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return a model's output as one tensor: the logits, if it has some."""
    with torch.no_grad():
        return forward(model, inputs)


def forward(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return a model's output as one tensor, with its graph."""
    # oneDNN convolves by another algorithm where a weight needs gradients, which is 3e-8 off.
    with torch.backends.mkldnn.flags(enabled=False):
        output = model(**inputs)
    if isinstance(output, Tensor):
        return output
    # logits of language models, sample of diffusers', the hidden states of encoders
    names = ("logits", "sample", "last_hidden_state")
    tensor: Tensor = next(getattr(output, name) for name in names if hasattr(output, name))
    return tensor


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)
