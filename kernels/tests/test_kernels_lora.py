"""The low-rank step against float64, PEFT, and itself with other splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from swift_kernels import lora_plan
from swift_kernels.keep_masks import derive_seed, keep_pieces
from swift_kernels.lora import LoraLayer, lora_linear, lora_linear_reference, lora_linears
from swift_kernels.matmul_dtype import _has_matrix_unit
from swift_kernels.testing import check_kernel
from torch import Tensor

# Rounding of what is stored: eps of the type, with a factor for sums of a few hundred products.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SHAPES = [(1, 1, 1, 1), (7, 5, 3, 2), (33, 129, 65, 8), (130, 48, 200, 16)]


@pytest.fixture(params=["without matrix unit", "with matrix unit"])
def matrix_unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CPU that multiplies 16-bit types itself, and one for which they are cast."""
    for name in ("_is_amx_tile_supported", "_is_amx_fp16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: request.param == "with matrix unit", raising=False)
    _has_matrix_unit.cache_clear()
    yield
    _has_matrix_unit.cache_clear()


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def inputs(T: int, I: int, O: int, R: int, dtype: torch.dtype, small: torch.dtype) -> list[Tensor]:  # noqa: E741
    return [
        normal(T, I, seed=1, dtype=dtype),
        normal(O, I, seed=2, dtype=dtype, scale=I**-0.5),
        normal(O, seed=3, dtype=dtype),
        normal(R, I, seed=4, dtype=small, scale=I**-0.5),
        normal(O, R, seed=5, dtype=small),
    ]


def mask(seed: int, num_rows: int, num_features: int, p: float) -> Tensor:
    pieces = keep_pieces(seed, slice(0, num_rows), num_features, p, dtype=torch.float64, device=torch.device("cpu"))
    return torch.cat([keep for _, keep in pieces])


@pytest.mark.usefixtures("matrix_unit")
@pytest.mark.parametrize("small", ["same", torch.float32], ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_output_and_gradients_match_float64(
    shape: tuple[int, int, int, int], dtype: torch.dtype, small: torch.dtype | str, p: float
) -> None:
    def kernel(x: Tensor, w: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return lora_linear(x, w, bias, a, b, 1.5, dropout_p=p, generator_seed=9)

    def reference(x: Tensor, w: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return lora_linear_reference(x, w, bias, a, b, 1.5, mask(9, len(x), x.shape[1], p), p)

    tensors = inputs(*shape, dtype, small if isinstance(small, torch.dtype) else dtype)
    check_kernel(kernel, reference, tensors, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("one_mask", [True, False])
def test_gradcheck_of_layers_that_share_their_input(p: float, one_mask: bool) -> None:
    def both(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        w1, bias, a1, b1, w2, a2, b2 = rest
        layers = [LoraLayer(w1, bias, a1, b1, 2.0), LoraLayer(w2, None, a2, b2, 0.5)]
        return lora_linears(x, layers, dropout_p=p, generator_seed=4, one_mask=one_mask)

    shapes = [(2, 3, 5), (4, 5), (4,), (2, 5), (4, 2), (3, 5), (1, 5), (3, 1)]
    tensors = [normal(*shape, seed=seed).double().requires_grad_() for seed, shape in enumerate(shapes)]
    assert torch.autograd.gradcheck(both, tensors)


@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("one_mask", [True, False])
def test_layers_together_equal_each_by_itself(p: float, one_mask: bool) -> None:
    double = torch.float64
    x = normal(2, 9, 12, seed=0, dtype=double).requires_grad_()
    layers = [
        LoraLayer(
            normal(out, 12, seed=out, dtype=double),
            normal(out, seed=out + 1, dtype=double),
            normal(rank, 12, seed=out + 2, dtype=double).requires_grad_(),
            normal(out, rank, seed=out + 3, dtype=double).requires_grad_(),
            0.5 * rank,
        )
        for out, rank in ((12, 2), (4, 3), (7, 2))
    ]
    leaves = [x, *(each for layer in layers for each in (layer.a_RI, layer.b_OR))]
    together = lora_linears(x, layers, dropout_p=p, generator_seed=3, one_mask=one_mask)
    grads = torch.autograd.grad(sum((y.sin().sum() for y in together), torch.zeros(())), leaves)
    seeds = [3 if one_mask else derive_seed(3, index) for index in range(3)]
    keeps = [mask(seed, 18, 12, p).view(2, 9, 12) for seed in seeds]
    apart = [
        lora_linear_reference(x, each.weight_OI, each.bias_O, each.a_RI, each.b_OR, each.scaling, keep, p)
        for each, keep in zip(layers, keeps, strict=True)
    ]
    expected = torch.autograd.grad(sum((y.sin().sum() for y in apart), torch.zeros(())), leaves)
    for ours, theirs in zip((*together, *grads), (*apart, *expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)  # other order of float64 sums


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_chunks_of_rows_change_nothing(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Tensor]:
        x, w, bias, a, b = (each.requires_grad_() for each in inputs(50, 24, 16, 4, torch.bfloat16, torch.float32))
        y = lora_linear(x, w, bias, a, b, 2.0, dropout_p=p, generator_seed=1)
        return [y.detach(), *torch.autograd.grad(y.float().pow(2).sum(), [x, w, bias, a, b])]

    whole = run()
    monkeypatch.setattr(lora_plan, "CAST_ROWS", 7)
    for ours, theirs in zip(run(), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-5)  # a float32 sum may round to the next bfloat16


def test_equals_peft() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    theirs = peft.tuners.lora.Linear(
        torch.nn.Linear(13, 6),
        "default",
        config=peft.LoraConfig(r=4, lora_alpha=10, lora_dropout=0.0, init_lora_weights=False),
        r=4,
        lora_alpha=10,
    )
    a, b = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
    x = torch.randn(3, 5, 13, requires_grad=True)
    expected = theirs(x)
    ours = lora_linear(x, theirs.base_layer.weight, theirs.base_layer.bias, a, b, theirs.scaling["default"])
    # The same products in another order of addition.
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    for mine, other in zip(
        torch.autograd.grad(ours.sin().sum(), [x, a, b]),
        torch.autograd.grad(expected.sin().sum(), [x, a, b]),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_gradients_come_in_the_type_of_their_tensor_and_only_where_required() -> None:
    x, w, bias, a, b = inputs(6, 8, 4, 2, torch.bfloat16, torch.float32)
    a.requires_grad_()
    y = lora_linear(x, w, bias, a, b, 1.0)
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert a.grad is not None and a.grad.dtype == torch.float32
    assert [each.grad for each in (x, w, bias, b)] == [None] * 4


@pytest.mark.parametrize("required", ["x", "a", "b", "w", "bias"])
def test_each_gradient_alone_equals_that_among_all(required: str) -> None:
    names = ["x", "w", "bias", "a", "b"]
    tensors = dict(zip(names, inputs(6, 8, 4, 2, torch.float32, torch.float32), strict=True))

    def gradient(of: list[str]) -> Tensor:
        leaves = {name: each.clone().requires_grad_(name in of) for name, each in tensors.items()}
        layer = LoraLayer(leaves["w"], leaves["bias"], leaves["a"], leaves["b"], 0.7)
        (y,) = lora_linears(leaves["x"], [layer], dropout_p=0.5, generator_seed=2)
        y.square().sum().backward()
        grad = leaves[required].grad
        assert grad is not None
        return grad

    assert torch.equal(gradient([required]), gradient(names))


def test_an_output_that_is_not_used_gives_no_gradient() -> None:
    x = normal(4, 6, seed=0).requires_grad_()
    layers = [
        LoraLayer(normal(3, 6, seed=s), None, normal(2, 6, seed=s + 1).requires_grad_(), normal(3, 2, seed=s + 2), 1.0)
        for s in (1, 5)
    ]
    lora_linears(x, layers)[1].sum().backward()
    assert layers[0].a_RI.grad is None and layers[1].a_RI.grad is not None
    expected = layers[1].weight_OI.sum(0) + (layers[1].b_OR @ layers[1].a_RI).sum(0)  # by hand: ones W + ones B A
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected.detach().expand(4, 6), rtol=1e-5, atol=1e-6)


def saved_bytes(call: Callable[[], object], parameters: list[Tensor]) -> dict[int, int]:
    """Return the bytes that autograd keeps, by address, of what isn't a parameter."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        call()
    for each in parameters:
        kept.pop(each.untyped_storage().data_ptr(), None)
    return kept


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_only_x_itself_and_the_narrow_product_are_kept(p: float) -> None:
    x, w, _, a, b = inputs(64, 32, 16, 4, torch.bfloat16, torch.float32)
    parameters = [w, a.requires_grad_(), b.requires_grad_()]
    x.requires_grad_()
    kept = saved_bytes(lambda: lora_linear(x, w, None, a, b, 1.0, dropout_p=p, generator_seed=0), parameters)
    assert kept.pop(x.untyped_storage().data_ptr()) == 64 * 32 * 2
    assert len(kept) == 1 and next(iter(kept.values())) <= 64 * 4 * 4  # h, float32 at most


def test_seeds_come_from_torchs_generator_and_differ_by_call() -> None:
    x, w, _, a, b = inputs(40, 30, 20, 4, torch.float32, torch.float32)

    def twice() -> list[Tensor]:
        return [lora_linear(x, w, None, a, b, 1.0, dropout_p=0.5) for _ in range(2)]

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = twice()
    torch.set_rng_state(state)
    again = twice()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))
    assert not torch.allclose(first[0], first[1])


def test_without_dropout_no_random_number_is_drawn() -> None:
    x, w, _, a, b = inputs(4, 3, 2, 1, torch.float32, torch.float32)
    state = torch.get_rng_state()
    lora_linear(x, w, None, a, b, 1.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_autocast_decides_the_type_of_the_output_as_for_a_linear_layer() -> None:
    x, w, bias, a, b = (each.requires_grad_() for each in inputs(9, 16, 8, 2, torch.float32, torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        y = lora_linear(x, w, bias, a, b, 2.0)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    expected = lora_linear_reference(x.double(), w.double(), bias.double(), a.double(), b.double(), 2.0)
    torch.testing.assert_close(y.double(), expected, rtol=2e-2, atol=2e-2)  # bfloat16's eps is 8e-3
    assert x.grad is not None and x.grad.dtype == a.dtype == torch.float32


def test_strided_input_and_no_rows() -> None:
    _, w, _, a, b = inputs(1, 6, 4, 2, torch.float32, torch.float32)
    x = normal(6, 5, seed=8).t()
    torch.testing.assert_close(
        lora_linear(x, w, None, a, b, 1.0), lora_linear_reference(x, w, None, a, b, 1.0), rtol=1e-5, atol=1e-5
    )
    empty = torch.zeros(0, 6, requires_grad=True)
    y = lora_linear(empty, w, None, a.requires_grad_(), b, 1.0, dropout_p=0.5)
    y.sum().backward()
    assert y.shape == (0, 4) and a.grad is not None and torch.equal(a.grad, torch.zeros(2, 6))


LAYER = LoraLayer(torch.zeros(4, 6), None, torch.zeros(2, 6), torch.zeros(4, 2), 1.0)


@pytest.mark.parametrize(
    ("layers", "p", "message"),
    [
        ([], 0.0, "layers is empty"),
        ([LAYER], 1.0, r"dropout_p is 1.0; expected at least 0 and less than 1"),
        ([replace(LAYER, a_RI=torch.zeros(2, 5))], 0.0, r"A \(2, 5\)"),
        ([LAYER, replace(LAYER, b_OR=torch.zeros(2, 4))], 0.0, r"B \(2, 4\)"),
        ([replace(LAYER, bias_O=torch.zeros(6))], 0.0, r"bias \(6,\) do not fit"),
        ([replace(LAYER, weight_OI=torch.zeros(6, 4))], 0.0, r"x \(3, 6\), weight \(6, 4\)"),
    ],
    ids=["none", "p", "A", "B", "bias", "weight"],
)
def test_bad_input_is_named(layers: list[LoraLayer], p: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lora_linears(torch.zeros(3, 6), layers, dropout_p=p)
