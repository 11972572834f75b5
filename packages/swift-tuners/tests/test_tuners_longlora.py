"""LongLoRA: attention in shifted groups in training, the model's own outside, embedding and norms trained."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from swift_tuners import LoraConfig, Swift, SwiftModel, TunerConfig
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.models.tiny_architectures import build_tiny
from swift_tuners.testing import disturb, tiny_decoder, toy_mlp
from swift_tuners.tuners.longlora import LongLoRAConfig
from torch import Tensor, nn
from transformers import PreTrainedModel


def llama(*, heads: int = 4, keys: int = 2, attention: str = "sdpa") -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=64,
            hidden_size=8 * heads,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=keys,
            head_dim=8,
            initializer_range=0.3,
            pad_token_id=0,
            attn_implementation=attention,  # type: ignore[call-arg]  # taken by the base class
        )
        model: PreTrainedModel = transformers.LlamaForCausalLM(config).eval()
    return model


def ids(length: int) -> Tensor:
    return torch.randint(1, 64, (2, length), generator=torch.Generator().manual_seed(length))


def sees(heads: int, keys: int, length: int, ratio: float = 0.25) -> Tensor:
    """Return (H, T, T): which tokens see which, straight from the paper's figure 2 (the wrapped group cut in two)."""
    size = max(2, math.ceil(length * ratio))
    # The heads of half of the keys are shifted; an odd number of keys has no half, then it is the heads' half.
    unshifted = heads // 2 if keys % 2 else keys // 2 * (heads // keys)
    allowed = torch.zeros(heads, length, length, dtype=torch.bool)
    for head in range(heads):
        shift = 0 if head < unshifted else size // 2
        for token in range(length):
            for other in range(token + 1):
                if shift and token < shift:
                    allowed[head, token, other] = True
                else:
                    first = shift if shift else 0
                    allowed[head, token, other] = other >= first and (other - first) // size == (token - first) // size
    return allowed


def expected(heads: int, keys: int, rows: Tensor, padding: Tensor | None = None) -> Tensor:
    """Return what plain eager attention answers under an explicit mask for each head."""
    model = llama(heads=heads, keys=keys, attention="eager")
    allowed = sees(heads, keys, rows.shape[1]).expand(len(rows), -1, -1, -1)
    positions = torch.arange(rows.shape[1]).expand_as(rows)
    if padding is not None:
        allowed = allowed & padding[:, None, None, :].bool()
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    with torch.no_grad():
        found: Tensor = model(input_ids=rows, attention_mask=mask, position_ids=positions).logits
    return found


def prepare(host: nn.Module, **options: object) -> SwiftModel:
    return Swift.prepare_model(host, LongLoRAConfig(dropout=0.0, **options))  # type: ignore[arg-type]  # its options


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("heads", "keys"), [(4, 4), (4, 2), (4, 1), (3, 3), (6, 3)])
@pytest.mark.parametrize("length", [2, 7, 8, 16, 19])
def test_training_attends_as_the_paper_has_it(attention: str, heads: int, keys: int, length: int) -> None:
    model = prepare(llama(heads=heads, keys=keys, attention=attention)).train()
    answered = model(input_ids=ids(length)).logits
    # Kernels sum in another order.
    assert (answered - expected(heads, keys, ids(length))).abs().max() < 2e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_seen_by_no_token(attention: str, side: str) -> None:
    rows, padding = ids(16), torch.ones(2, 16, dtype=torch.long)
    padding[0, : 5 if side == "left" else None] = 0 if side == "left" else 1
    if side == "right":
        padding[0, 11:] = 0
    model = prepare(llama(attention=attention)).train()
    positions = torch.arange(16).expand_as(rows)
    answered = model(input_ids=rows, attention_mask=padding, position_ids=positions).logits
    real = padding.bool()
    assert torch.isfinite(answered).all()
    assert (answered[real] - expected(4, 2, rows, padding)[real]).abs().max() < 2e-5
    answered.square().mean().backward()
    assert all(bool(torch.isfinite(each.grad).all()) for each in model.parameters() if each.grad is not None)


def test_packed_samples_do_not_see_each_other() -> None:
    positions = torch.cat([torch.arange(7), torch.arange(9)])[None]
    model = prepare(llama()).train()
    rows = ids(16)[:1]
    changed = rows.clone()
    changed[0, :7] = 5
    one, other = (model(input_ids=each, position_ids=positions, use_cache=False).logits for each in (rows, changed))
    assert torch.equal(one[0, 7:], other[0, 7:]) and not torch.equal(one[0, :7], other[0, :7])


def test_a_token_hears_of_its_own_and_its_shifted_group_and_of_no_later_token() -> None:
    # One layer; 16 tokens in groups of 4: token 9 is in group 8..11, shifted 6..9.
    host = llama()
    del host.model.layers[1]
    host.config.num_hidden_layers = 1
    model = prepare(host).train()
    hidden = nn.functional.embedding(
        ids(16)[:1], host.get_parameter("model.embed_tokens.weight").detach()
    ).requires_grad_(True)
    model(inputs_embeds=hidden).logits[0, 9].square().sum().backward()
    assert hidden.grad is not None
    assert [token for token in range(16) if hidden.grad[0, token].any()] == [6, 7, 8, 9]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_outside_of_training_attention_is_the_models_own(attention: str) -> None:
    host = llama(attention=attention)
    with torch.no_grad():
        plain = host(input_ids=ids(12)).logits
    generate: Any = host.generate
    written = generate(ids(12), max_new_tokens=5, do_sample=False)
    model = prepare(host)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids(12)).logits, plain)
    assert torch.equal(model.generate(ids(12), max_new_tokens=5, do_sample=False), written)
    with torch.no_grad():
        assert not torch.equal(model.train()(input_ids=ids(12)).logits, plain)
        model.deactivate()
        assert torch.equal(model(input_ids=ids(12)).logits, plain), "off, also in training mode"
    assert host.config._attn_implementation == attention


def test_models_beside_it_keep_their_attention() -> None:
    other = llama().train()
    with torch.no_grad():
        plain = other(input_ids=ids(12)).logits
        model = prepare(llama()).train()
        twin = copy.deepcopy(model)
        shifted = model(input_ids=ids(12)).logits
        assert torch.equal(other(input_ids=ids(12)).logits, plain)
        twin.unload()
        assert torch.equal(model(input_ids=ids(12)).logits, shifted)


def test_embedding_and_norms_train_beside_lora() -> None:
    model = prepare(tiny_decoder(), target_modules=["q_proj", "v_proj"], rank=2)
    names = set(model.tuners["default"].parameters())
    host = {name for name in names if "lora_" not in name}
    norms = {
        f"model.layers.{layer}.{name}_layernorm.weight" for layer in (0, 1) for name in ("input", "post_attention")
    }
    assert host == {"model.embed_tokens.weight", "model.norm.weight"} | norms
    assert len(names - host) == 8


def test_they_stay_frozen_where_the_user_says_so() -> None:
    model = prepare(tiny_decoder(), train_embedding=False, train_norms=False)
    assert all("lora_" in name for name in model.tuners["default"].parameters())


def test_a_merged_model_is_an_ordinary_one(tmp_path: Path) -> None:
    model = prepare(llama())
    disturb(model)
    with torch.no_grad():
        tuned = model(input_ids=ids(12)).logits
    merged = model.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    assert merged.config._attn_implementation == "sdpa"
    merged.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert (again(input_ids=ids(12)).logits - tuned).abs().max() < 1e-4
        assert torch.equal(merged.train()(input_ids=ids(12)).logits, again.train()(input_ids=ids(12)).logits)


def test_sinks_of_the_heads_are_cut_with_them() -> None:
    # GPT-OSS has a number for each head in its attention; all heads in one group are then full attention.
    host = build_tiny("gpt_oss")
    rows = ids(8)
    with torch.no_grad():
        plain = host.train()(input_ids=rows).logits
        model = prepare(host, group_size_ratio=1.0).train()
        half = [name for name, module in host.named_modules() if hasattr(module, "sinks")]
        assert half
        # The shifted heads still see half groups, so only the first half of the first token's row is alike: itself.
        assert (model(input_ids=rows).logits[:, 0] - plain[:, 0]).abs().max() < 1e-5


def test_it_lives_beside_lora() -> None:
    configs: dict[str, TunerConfig] = {
        "long": LongLoRAConfig(rank=2),
        "lora": LoraConfig(target_modules=["q_proj"], r=2),
    }
    model = Swift.prepare_model(tiny_decoder().eval(), configs)
    disturb(model)
    with torch.no_grad():
        before = model(input_ids=ids(9)).logits
        assert (model.merge_and_unload()(input_ids=ids(9)).logits - before).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("make_model", "options", "message"),
    [
        (toy_mlp, {}, "finds no attention of transformers in ToyMLP"),
        (lambda: build_tiny("bloom"), {}, "cannot be exchanged|finds no attention"),
        (lambda: build_tiny("mamba"), {}, "finds no attention"),
        (tiny_decoder, {"group_size_ratio": 0.0}, "group_size_ratio=0.0"),
        (lambda: llama(attention="flex_attention"), {}, "choose sdpa"),
    ],
    ids=["mlp", "bloom", "mamba", "ratio", "flex"],
)
def test_what_it_cannot_change_is_refused(make_model: object, options: dict[str, float], message: str) -> None:
    assert callable(make_model)
    with pytest.raises(UnsupportedConfig, match=message):
        prepare(make_model(), **options)
