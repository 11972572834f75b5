"""A LoRA on architectures of transformers: attached, trained a step, saved, loaded, merged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from swift_tuners.models.architecture_check import check_architecture
from swift_tuners.models.tiny_architectures import Task, build_tiny, list_architectures
from swift_tuners.models.tiny_config import tiny_config

PAGE = Path(__file__).resolve().parents[3] / "docs" / "architectures.md"
SAMPLE: list[tuple[str, Task]] = [
    ("llama", "causal-lm"),
    ("gpt2", "causal-lm"),
    ("bloom", "causal-lm"),
    ("mamba", "causal-lm"),
    ("jamba", "causal-lm"),
    ("mixtral", "causal-lm"),
    ("bart", "causal-lm"),
    ("rwkv", "causal-lm"),
    ("laguna", "causal-lm"),
    ("llava", "image-text"),
    ("qwen2_vl", "image-text"),
    ("shieldgemma2", "image-text"),
    ("udop", "image-text"),
]
# What fails, and the step and the reason. timm cannot be had for every build of torch.
KNOWN: dict[tuple[str, Task], str] = {
    ("gemma4_assistant", "causal-lm"): "call: .*shared_kv_states",
    ("gemma4_unified_assistant", "causal-lm"): "call: .*shared_kv_states",
    ("instructblipvideo", "image-text"): "call: .*Number of elements of source",
    ("pi0", "image-text"): "call: .*'state'",
    ("gemma3n", "causal-lm"): "build: .*timm",
    ("gemma3n", "image-text"): "build: .*timm",
    ("fast_vlm", "image-text"): "build: .*timm",
    ("perception_lm", "image-text"): "build: .*timm",
}
EVERY: list[tuple[str, Task]] = [
    *((name, "causal-lm") for name in list_architectures("causal-lm")),
    *((name, "image-text") for name in list_architectures("image-text")),
]


@pytest.mark.parametrize(("model_type", "task"), SAMPLE)
def test_a_sample_of_architectures_works(model_type: str, task: Task) -> None:
    report = check_architecture(model_type, task)
    assert report.works, f"{report.failed_at}: {report.reason}"
    assert report.trained > 0
    assert report.picture == (task == "image-text")


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "task"), EVERY)
def test_every_architecture_works_or_fails_as_known(model_type: str, task: Task) -> None:
    report = check_architecture(model_type, task)
    outcome = f"{report.failed_at}: {report.reason}"
    if re.search(r"requires the (timm|scipy) library|No module named '(timm|scipy)'", outcome):
        pytest.skip(report.reason)
    known = KNOWN.get((model_type, task))
    if known is None:
        assert report.works, outcome
    else:
        assert re.search(known, outcome.replace("\n", " ")), outcome


def test_idle_adapters_are_named() -> None:
    # BART's decoder alone has nobody to attend to.
    report = check_architecture("bart", "causal-lm")
    assert len(report.idle) == 16
    assert all(".encoder_attn." in name for name in report.idle)


def test_a_failure_is_in_the_report() -> None:
    report = check_architecture("pi0", "image-text")
    assert (report.works, report.failed_at) == (False, "call")
    assert "state" in report.reason


def test_a_tiny_model_is_the_same_at_each_call_and_tiny() -> None:
    one, other = build_tiny("qwen3_next"), build_tiny("qwen3_next")
    assert sum(parameter.numel() for parameter in one.parameters()) < 1_000_000
    for (name, left), right in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), name
    # Every kind of layer that the default config has is there.
    assert one.config.layer_types == ["linear_attention", "full_attention"]


def test_token_ids_stay_apart_and_inside_the_vocabulary() -> None:
    config = tiny_config("qwen2_vl")
    ids = [config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id]
    assert len(set(ids)) == 4
    assert max(ids) < config.get_text_config().vocab_size


def test_an_unknown_architecture_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no_such_model"):
        build_tiny("no_such_model")


@pytest.mark.skipif(not PAGE.exists(), reason="the page is not part of the distribution")
def test_the_page_covers_what_was_promised() -> None:
    text = PAGE.read_text(encoding="utf-8")
    works = re.findall(r"^\| (\S+) \| works \|", text, re.MULTILINE)
    counts = [(int(good), int(all_)) for good, all_ in re.findall(r": (\d+) of (\d+) work$", text, re.MULTILINE)]
    assert len(works) == sum(good for good, _ in counts)
    assert counts[0][0] >= 170
    assert counts[1][0] >= 66
    assert {"mamba", "mamba2", "falcon_mamba"} <= set(works)
