"""Time norm, gate and rotation against transformers' own: `python kernels/bench/elementwise.py --threads 1`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from harness import Case, can_compile, main
from swift_kernels.rms_norm import add_rms_norm, rms_norm, rms_norm_reference
from swift_kernels.rope import rope
from swift_kernels.swiglu import swiglu, swiglu_reference
from torch import Tensor

HEADS, KEY_HEADS, HEAD_SIZE = 9, 3, 64
TESTS = [f"test_kernels_{name}.py" for name in ("rms_norm", "swiglu", "rope")]


def cases(device: torch.device) -> Iterator[Case]:
    """Yield each step, forward and backward by themselves, for SmolLM2-135M's widths."""
    num_tokens = 2048 if device.type == "cpu" else 16384
    for dtype in (torch.float32, torch.bfloat16):
        for width in (576, 1536):
            x, y = (torch.randn(num_tokens, width, device=device).to(dtype).requires_grad_() for _ in range(2))
            weight = torch.rand(width, device=device).to(dtype)
            size = f"({num_tokens}, {width}) {str(dtype).removeprefix('torch.')}"
            yield from _both_ways(f"RMSNorm {size}", _norms(x, weight), [x], dtype)
            yield from _both_ways(f"add and RMSNorm {size}", _sums(x, y, weight), [x, y], dtype)
            yield from _both_ways(f"SwiGLU {size}", _gates(x, y), [x, y], dtype)
        q, k = (
            torch.randn(num_tokens, heads, HEAD_SIZE, device=device).to(dtype).requires_grad_()
            for heads in (HEADS, KEY_HEADS)
        )
        angles = torch.randn(num_tokens, HEAD_SIZE // 2, device=device).repeat(1, 2)
        turns = _turns(q, k, angles.cos().to(dtype), angles.sin().to(dtype))
        yield from _both_ways(f"RoPE {tuple(q.shape)} {str(dtype).removeprefix('torch.')}", turns, [q, k], dtype)


Forward = Callable[[], tuple[Tensor, ...]]


def _norms(x: Tensor, weight: Tensor) -> Mapping[str, Forward]:
    return {
        "LlamaRMSNorm's formula": lambda: (rms_norm_reference(x, weight, 1e-5),),
        "F.rms_norm": lambda: (torch.nn.functional.rms_norm(x, weight.shape, weight, 1e-5),),
        "rms_norm": lambda: (rms_norm(x, weight, 1e-5),),
    }


def _sums(x: Tensor, y: Tensor, weight: Tensor) -> Mapping[str, Forward]:
    def separate() -> tuple[Tensor, ...]:
        total = x + y
        return total, rms_norm_reference(total, weight, 1e-5)

    return {"+ and LlamaRMSNorm's": separate, "add_rms_norm": lambda: add_rms_norm(x, y, weight, 1e-5)}


def _gates(x: Tensor, y: Tensor) -> Mapping[str, Forward]:
    return {"LlamaMLP's formula": lambda: (swiglu_reference(x, y),), "swiglu": lambda: (swiglu(x, y),)}


def _turns(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Mapping[str, Forward]:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    def llama() -> tuple[Tensor, ...]:
        turned = apply_rotary_pos_emb(q[None].transpose(1, 2), k[None].transpose(1, 2), cos[None], sin[None])
        return tuple(turned)

    return {"apply_rotary_pos_emb": llama, "rope": lambda: rope(q, k, cos, sin)}


def _both_ways(
    title: str, forwards: Mapping[str, Forward], inputs: Sequence[Tensor], dtype: torch.dtype
) -> Iterator[Case]:
    baseline = next(iter(forwards))
    device = inputs[0].device
    if can_compile(device):
        forwards = {**forwards, "torch.compile": torch.compile(forwards[baseline])}
    outputs = {name: forward() for name, forward in forwards.items()}
    weights = {name: [torch.randn_like(each) for each in made] for name, made in outputs.items()}

    def backward(name: str) -> Callable[[], object]:
        return lambda: torch.autograd.grad(outputs[name], inputs, weights[name], retain_graph=True)

    read = sum(each.nbytes for each in inputs)
    written = sum(each.nbytes for each in outputs[baseline])
    yield Case(f"{title}, forward", forwards, baseline, dtype, num_bytes=read + written)
    backwards = {name: backward(name) for name in forwards}
    yield Case(f"{title}, backward", backwards, baseline, dtype, num_bytes=written + 2 * read)


if __name__ == "__main__":
    main([Path(__file__).parent.parent / "tests" / name for name in TESTS], cases)
