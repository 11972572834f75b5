"""What a run says before it trains."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from swift_data import ChatRow, Origin
from swift_templates import Conversation, Message, Template, TemplateArgs, ToolCall
from swift_train.errors import InvalidTrainArgs, NothingToTrain, RefusedRow
from swift_train.memory import MIB, estimate_memory, plan_memory, read_peak_mib
from swift_train.report import Plan, describe_plan
from swift_train.samples import Encoder, RunData, Samples, encode_rows, plan_packs
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


def row(question: str, answer: str) -> ChatRow:
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return ChatRow(conversation=Conversation(messages=messages), origin=Origin("rows.jsonl", 1))


ROWS = [row("What is this?", "This is an example"), row("Hello " * 40, "Hello"), row("Who?", "Paris")]


def encoder(model_folder: Path, **options: object) -> Encoder:
    build = partial(Template.from_folder, model_folder, TemplateArgs(**options))  # type: ignore[arg-type]  # options of a test
    return Encoder(template=build(), algorithm="sft", build=build)


def encode(model_folder: Path, **options: object) -> Samples:
    return encode_rows(ROWS, encoder(model_folder, **options), name="training", show_progress=False)


def test_long_samples_are_left_out_and_counted(model_folder: Path) -> None:
    samples = encode(model_folder, max_length=40)
    assert (samples.num_rows, len(samples.encoded), samples.num_left_out, samples.num_cut) == (3, 2, 1, 0)
    assert samples.longest > 40


def test_long_samples_are_cut_where_that_is_asked_for(model_folder: Path) -> None:
    samples = encode(model_folder, max_length=40, truncation_strategy="left")
    assert (len(samples.encoded), samples.num_left_out, samples.num_cut) == (3, 0, 1)
    assert max(map(len, samples.encoded)) == 40


def test_nothing_left_to_train_is_an_error(model_folder: Path) -> None:
    with pytest.raises(NothingToTrain, match="none of the 3 training rows is left"):
        encode(model_folder, max_length=3)


def test_rows_that_train_nothing_are_counted_and_named(model_folder: Path) -> None:
    untrained = replace(
        ROWS[0],
        conversation=Conversation(
            messages=tuple(
                replace(each, loss=False) if each.role == "assistant" else each
                for each in ROWS[0].conversation.messages
            )
        ),
    )
    encode_these = partial(encode_rows, encoder=encoder(model_folder), name="training", show_progress=False)
    assert encode_these([untrained, ROWS[2]]).num_untrained == 1
    with pytest.raises(NothingToTrain, match="look at the rows' 'loss' fields"):
        encode_these([untrained])


def test_a_pack_shorter_than_a_sample_is_an_error(model_folder: Path) -> None:
    with pytest.raises(InvalidTrainArgs, match="raise --packing_length"):
        plan_packs(encode(model_folder), packing_length=20)


def test_a_plan_shows_the_trained_tokens_and_every_count(model_folder: Path) -> None:
    samples = encode(model_folder, max_length=40)
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 1, bias=False))
    model[0].requires_grad_(False)
    plan = Plan(
        data=RunData(
            training=samples, validation=None, training_rows=ROWS, skipped_rows={"no answer": 1, "not JSON": 2}
        ),
        num_packs=1,
        num_steps=7,
        global_batch=4,
        memory=plan_memory(model, tokens=5, trained_tokens=2, checkpointing=False),
    )
    text = "\n".join(describe_plan(plan, Template.from_folder(model_folder), model))
    assert "«This is an example<|im_end|>»" in text
    tokens, trained = samples.num_tokens, samples.num_trained
    assert f"3 rows, 2 samples, {tokens} tokens, {trained} of them trained, 1 samples left out, too long" in text
    assert "3 left out (--on_bad_row skip): 2 'not JSON', 1 'no answer'" in text
    assert "10 of 110 train (9.09%)" in text
    assert "packed into 1 batch rows" in text and "7 of 4 batch rows each" in text
    assert "activations unknown" in text


def test_memory_is_counted_by_hand() -> None:
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    model.model.norm.requires_grad_(True)
    estimate = estimate_memory(model, tokens=10, trained_tokens=4, checkpointing=False)
    weights = sum(each.numel() for each in model.parameters())
    assert estimate.weights_mib == pytest.approx(weights * 4 / MIB)
    assert estimate.gradients_mib == pytest.approx(8 * 4 / MIB)
    assert estimate.optimizer_mib == pytest.approx(8 * 8 / MIB)
    # 3 layers of 10 tokens with 10 * 8 + 4 * 16 floats, and twice the logits of 4 tokens.
    assert estimate.activations_mib == pytest.approx((3 * 10 * 144 + 2 * 4 * 100) * 4 / MIB)


def test_activations_are_computed_again_only_where_memory_asks_for_it() -> None:
    config = LlamaConfig(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    few, many = (plan_memory(model, tokens=tokens, trained_tokens=4, checkpointing=None) for tokens in (10, 10**10))
    assert (few.checkpointing, many.checkpointing) == (False, True)
    assert many.estimate == estimate_memory(model, tokens=10**10, trained_tokens=4, checkpointing=True)
    assert plan_memory(model, tokens=10, trained_tokens=4, checkpointing=True).checkpointing


def test_peak_memory_grows_with_what_is_held() -> None:
    before = read_peak_mib()
    held = np.ones(int(before + 200) * MIB // 8)
    assert read_peak_mib() > before + 100
    assert held[0] == 1


def test_a_row_that_the_template_refuses_is_named_or_counted(model_folder: Path) -> None:
    # This chat template leaves tool calls out.
    call = ToolCall("look", {}, None)
    messages = (*ROWS[0].conversation.messages[:1], Message(role="assistant", content="", tool_calls=(call,)))
    refused = replace(ROWS[0], conversation=Conversation(messages=messages), origin=Origin("rows.jsonl", 7))
    encode_these = partial(encode_rows, encoder=encoder(model_folder), name="training", show_progress=False)
    with pytest.raises(RefusedRow, match=r"rows.jsonl:7: .*; 1 more rows are refused"):
        encode_these([ROWS[0], refused, refused])
    samples = encode_these([ROWS[0], refused, refused], on_bad_row="skip")
    assert (len(samples.encoded), samples.num_refused) == (1, 2)
    text = describe(samples, model_folder)
    assert "2 rows left out, refused by the template (--on_bad_row skip): 2 '" in text
    assert text.count("refused: rows.jsonl:7: ") == 2


def describe(samples: Samples, model_folder: Path) -> str:
    """Return what is said about samples before they are trained on."""
    model = nn.Linear(10, 1)
    plan = Plan(
        data=RunData(training=samples, validation=None, training_rows=ROWS, skipped_rows={}),
        num_packs=len(samples.encoded),
        num_steps=1,
        global_batch=1,
        memory=plan_memory(model, tokens=5, trained_tokens=2, checkpointing=False),
    )
    return "\n".join(describe_plan(plan, Template.from_folder(model_folder), model))


def test_rows_with_a_bad_label_or_a_rejected_answer_are_told(model_folder: Path, tmp_path: Path) -> None:
    worse = (Message(role="assistant", content="Rome"),)
    rows = [*ROWS, replace(ROWS[0], label=False), replace(ROWS[2], rejected=worse, num_shared=1, label=False)]
    for _ in ("encoded", "found again"):
        samples = encode_rows(
            rows, encoder(model_folder), name="training", show_progress=False, cache_dir=tmp_path / "cache"
        )
        text = describe(samples, model_folder)
        assert "note: 2 rows have label false, and their answers are trained on" in text
        assert "note: 1 rows have a rejected answer, which is not used" in text
    assert "note:" not in describe(encode(model_folder), model_folder)
