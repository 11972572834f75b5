"""AdaLoRA's schedule of ranks: the run of plain PEFT, step by step, and the same again after a checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import peft
import pytest
import torch
from safetensors.torch import load_file
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import CheckpointMismatch, UnsupportedConfig
from swift_tuners.peft_adalora import AdaLoraTuner
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs
from torch import Tensor

# Leaving ranks of value 0 out of a sum of a few products rounds otherwise.
ROUNDING = 1e-6
NUM_STEPS = 20

pytestmark = pytest.mark.filterwarnings("ignore:The following rank_pattern keys", "ignore:Adapter 'default'")


def make_config(delta_t: int = 1) -> peft.AdaLoraConfig:
    return peft.AdaLoraConfig(
        init_r=6,
        target_r=2,
        tinit=3,
        tfinal=5,
        deltaT=delta_t,
        total_step=NUM_STEPS,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "down_proj"],
        # Without a task PEFT's own model leaves the orthogonality out of the loss.
        task_type="CAUSAL_LM",
    )


def tokens(step: int) -> Tensor:
    return torch.randint(3, 64, (2, 7), generator=torch.Generator().manual_seed(step))


def adam(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.01)


def make_model(delta_t: int) -> tuple[SwiftModel, torch.optim.Optimizer]:
    torch.manual_seed(7)
    model = Swift.prepare_model(tiny_decoder(), make_config(delta_t))
    return model, adam(list(tuner_of(model).parameters().values()))


def tuner_of(model: SwiftModel, name: str = "default") -> AdaLoraTuner:
    return cast("AdaLoraTuner", model.tuners[name])


def train(model: SwiftModel, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        # In PEFT's order: sums of gradients round by it.
        loss = model(input_ids=tokens(step), labels=tokens(step)).loss
        auxiliary = model.auxiliary_loss()
        assert auxiliary is not None
        (loss + auxiliary).backward()
        optimizer.step()
        model.on_step(step, optimizer)
        optimizer.zero_grad()


def total_rank(tuner: AdaLoraTuner) -> int:
    return sum(sum(kept) for kept in (tuner.rank_pattern or {}).values())


@pytest.mark.parametrize("delta_t", [1, 3])
def test_a_whole_run_is_that_of_plain_peft_bit_for_bit(delta_t: int) -> None:
    model, optimizer = make_model(delta_t)
    torch.manual_seed(7)
    theirs = peft.get_peft_model(tiny_decoder(), make_config(delta_t))
    second = adam([each for each in theirs.parameters() if each.requires_grad])
    for step in range(1, NUM_STEPS + 3):
        train(model, optimizer, step, step)
        theirs(input_ids=tokens(step), labels=tokens(step)).loss.backward()
        second.step()
        theirs.base_model.update_and_allocate(step)  # type: ignore[operator]  # a method of AdaLoraModel
        second.zero_grad()
        expected = {key.removeprefix("base_model.model."): each for key, each in theirs.state_dict().items()}
        assert all(torch.equal(each, expected[key]) for key, each in model.host.state_dict().items()), step
        pattern = cast("peft.AdaLoraConfig", theirs.peft_config["default"]).rank_pattern or {}
        assert (tuner_of(model).rank_pattern or {}) == {
            key.replace(".default", ""): kept for key, kept in pattern.items()
        }
    # Six layers with 6 ranks each at first, and 2 on average at the end.
    assert total_rank(tuner_of(model)) == 12


# Before the first cut, between cuts, two steps after one with ranks that grew again, at the last cut, and after it.
@pytest.mark.parametrize(("delta_t", "stop"), [(1, 2), (1, 10), (3, 14), (1, 15), (3, 18)])
def test_a_run_goes_on_bit_for_bit_from_its_checkpoint(delta_t: int, stop: int, tmp_path: Path) -> None:
    model, optimizer = make_model(delta_t)
    train(model, optimizer, 1, stop)
    model.save_pretrained(tmp_path)
    resumed = Swift.from_pretrained(tiny_decoder(), tmp_path, {"default": "renamed"}, trainable=True)
    second = adam(list(tuner_of(resumed, "renamed").parameters().values()))
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, stop + 1, NUM_STEPS)
    train(resumed, second, stop + 1, NUM_STEPS)
    pairs = zip(model.host.state_dict().values(), resumed.host.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert tuner_of(model).rank_pattern == tuner_of(resumed, "renamed").rank_pattern


@pytest.mark.parametrize(("delta_t", "stop"), [(1, 2), (1, 10), (3, 14), (1, NUM_STEPS)])
def test_plain_peft_answers_alike_from_what_is_left_of_the_ranks(delta_t: int, stop: int, tmp_path: Path) -> None:
    model, optimizer = make_model(delta_t)
    train(model, optimizer, 1, stop)
    model.eval()
    expected = answer(model, tiny_decoder_inputs())
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny_decoder().eval(), tmp_path)
    assert (answer(theirs, tiny_decoder_inputs()) - expected).abs().max() < ROUNDING
    loaded = Swift.from_pretrained(tiny_decoder().eval(), tmp_path)
    assert torch.equal(answer(loaded, tiny_decoder_inputs()), expected)
    loaded.save_pretrained(tmp_path / "again")
    again = Swift.from_pretrained(tiny_decoder().eval(), tmp_path / "again")
    assert torch.equal(answer(again, tiny_decoder_inputs()), expected)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    ranks = sum(len(each) for key, each in saved.items() if key.endswith("lora_A"))
    assert ranks == {2: 36, 10: total_rank(tuner_of(model)), NUM_STEPS: 12}.get(stop, ranks)
    if stop == 14:
        # Ranks that were cut at step 12 and grew again act on the output, so that they are saved.
        assert ranks > total_rank(tuner_of(model))


def test_what_plain_peft_saved_answers_alike(tmp_path: Path) -> None:
    torch.manual_seed(7)
    theirs = peft.get_peft_model(tiny_decoder(), make_config())
    optimizer = adam([each for each in theirs.parameters() if each.requires_grad])
    for step in range(1, NUM_STEPS + 1):
        theirs(input_ids=tokens(step), labels=tokens(step)).loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step)  # type: ignore[operator]  # a method of AdaLoraModel
        optimizer.zero_grad()
    theirs.eval().save_pretrained(str(tmp_path))
    ours = Swift.from_pretrained(tiny_decoder().eval(), tmp_path)
    # PEFT itself answers from all ranks here, as we do.
    assert torch.equal(answer(ours, tiny_decoder_inputs()), answer(theirs, tiny_decoder_inputs()))
    assert total_rank(tuner_of(ours)) == 12


def test_a_tuner_that_only_answers_or_is_off_cuts_no_ranks(tmp_path: Path) -> None:
    model, _ = make_model(1)
    disturb(model)
    model.save_pretrained(tmp_path)
    loaded = Swift.from_pretrained(tiny_decoder(), tmp_path)
    model.deactivate()
    for each in (loaded, model):
        # Without gradients a step would be refused.
        each.on_step(5)
        assert tuner_of(each).rank_pattern is None


def test_several_share_a_model_with_each_other_and_with_lora_of_a_like_name() -> None:
    configs = {"ada": make_config(), "ada2": make_config(), "ada3": LoraConfig(r=2, target_modules=["q_proj"])}
    model = Swift.prepare_model(tiny_decoder(), configs)
    disturb(model)
    for step in range(1, 16):
        model(input_ids=tokens(step), labels=tokens(step)).loss.backward()
        model.on_step(step)
        model.host.zero_grad()
    assert [total_rank(tuner_of(model, name)) for name in ("ada", "ada2")] == [12, 12]


def test_a_layer_that_a_step_does_not_use_has_no_importance() -> None:
    model = Swift.prepare_model(
        toy_mlp(), peft.AdaLoraConfig(init_r=2, target_r=1, total_step=4, target_modules=["up", "down"])
    )
    disturb(model)
    model.host.get_submodule("up")(toy_mlp_inputs()["x"]).sum().backward()
    model.on_step(4)
    # Those of the layer that was used are the two that matter.
    assert tuner_of(model).rank_pattern == {"up.lora_E": [True, True], "down.lora_E": [False, False]}


def test_the_steps_of_the_run_set_the_schedule() -> None:
    model, optimizer = make_model(1)
    tuner_of(model).plan_steps(10)
    train(model, optimizer, 1, 5)
    # With 10 steps and 5 of them at the end, the last cut is at the fifth.
    assert total_rank(tuner_of(model)) == 12
    with pytest.raises(UnsupportedConfig, match="no step left to cut ranks in a run of 8"):
        tuner_of(model).plan_steps(8)


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedConfig, match="from init_r=2 to target_r=2"):
        Swift.prepare_model(toy_mlp(), peft.AdaLoraConfig(init_r=2, target_r=2, total_step=5, target_modules=["up"]))
    model, optimizer = make_model(1)
    with pytest.raises(UnsupportedConfig, match="there are none at step 1; call on_step after"):
        model.on_step(1)
    train(model, optimizer, 1, 10)
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    before, key, after = path.read_text().partition('"rank_pattern"')
    path.write_text(before + key + after.replace("true", "false", 1))
    with pytest.raises(CheckpointMismatch, match="its config and weights do not belong together"):
        Swift.from_pretrained(tiny_decoder(), tmp_path)
