"""Which modules a tuner changes."""

from __future__ import annotations

import pytest
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import TargetNotFound
from swift_tuners.targets import find_targets
from swift_tuners.testing import tiny_decoder, toy_mlp
from torch import nn

PROJECTIONS = [
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
]
EVERY_LINEAR = [f"model.layers.{layer}.{name}" for layer in range(2) for name in PROJECTIONS]


class Tied(nn.Module):
    """A model without `get_output_embeddings` whose head is tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.body = nn.Linear(3, 3)
        self.to_words = nn.Linear(3, 5, bias=False)
        self.to_words.weight = self.words.weight


@pytest.mark.parametrize(
    ("model", "targets", "expected"),
    [
        pytest.param(tiny_decoder(), "all-linear", EVERY_LINEAR, id="all-linear leaves out the head"),
        pytest.param(tiny_decoder(tie_word_embeddings=False), "all-linear", EVERY_LINEAR, id="also an untied one"),
        pytest.param(Tied(), "all-linear", ["body"], id="a head that only its tie betrays"),
        pytest.param(toy_mlp(), "all-linear", ["up", "down"], id="a model without a head"),
        pytest.param(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "all-linear", ["0"], id="numbers as names"),
        pytest.param(toy_mlp(), ["down"], ["down"], id="a name"),
        pytest.param(
            tiny_decoder(), ["1.mlp.up_proj", "lm_head"], ["model.layers.1.mlp.up_proj", "lm_head"], id="ends"
        ),
        pytest.param(tiny_decoder(), ["all-linear", "lm_head"], [*EVERY_LINEAR, "lm_head"], id="all-linear and a name"),
        pytest.param(tiny_decoder(), r".*\.1\..*q_proj", ["model.layers.1.self_attn.q_proj"], id="a pattern"),
    ],
)
def test_targets_are_found(model: nn.Module, targets: str | list[str], expected: list[str]) -> None:
    assert find_targets(model, targets) == expected


def test_targets_are_those_of_the_host_whatever_is_attached() -> None:
    model = tiny_decoder()
    before = find_targets(model, "all-linear")
    tuned = Swift.prepare_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["mlp"]))
    assert find_targets(tuned.host, "all-linear") == before


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (tiny_decoder(), ["q_prj"], "'q_prj' matches no module of the model; did you mean 'q_proj'"),
        (tiny_decoder(), ["attn.q_proj"], "'attn.q_proj' matches no module of the model; did you mean 'q_proj'"),
        (toy_mlp(), ["head"], "'head' matches no module of the model; known are: act, down, up"),
        (nn.Sequential(nn.Linear(2, 2)), ["1"], "known are: 0"),
        (
            nn.Sequential(nn.ReLU()),
            "all-linear",
            "finds no linear layer in the model, which is made of ReLU, Sequential",
        ),
    ],
)
def test_a_target_that_matches_nothing_is_told_the_nearest(model: nn.Module, targets: list[str], message: str) -> None:
    with pytest.raises(TargetNotFound, match=message):
        find_targets(model, targets)
