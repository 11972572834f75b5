"""Every engine holds the contract, and answers as plain transformers does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from swift_infer import Engine, Responder, ServedModel, create_engine
from swift_infer.engine import ENGINES, check_sampling
from swift_infer.errors import InvalidInferArgs, PromptTooLong, UnknownAdapter
from swift_infer.testing import check_engine
from swift_templates import Conversation, Message, Prompt, PromptArgs, SamplingParams, Template
from swift_templates.errors import UnknownName
from swift_tuners import ModelArgs
from transformers import AutoModelForCausalLM


def served(model: Path, adapters: dict[str, Path] | None = None) -> ServedModel:
    return ServedModel(
        model=ModelArgs(model=str(model), torch_dtype="float32"),
        adapters=adapters or {},
        adapter=None,
        template=PromptArgs(),
    )


@pytest.fixture(scope="session")
def template(model_folder: Path) -> Template:
    return Template.from_folder(model_folder)


@pytest.fixture(scope="session")
def engine(model_folder: Path, adapter_folder: Path, template: Template) -> Engine:
    return create_engine("torch", served(model_folder, {"tuned": adapter_folder}), template)


def ask(text: str) -> Conversation:
    return Conversation(messages=(Message(role="user", content=text),))


def prompts(template: Template, *, adapter: str | None = None) -> list[Prompt]:
    encoded = [
        template.encode_prompt(ask(text)) for text in ("What is this?", "Hello, how are you today? " * 3, "Paris")
    ]
    return [Prompt(input_ids=each.input_ids, adapter=adapter) for each in encoded]


@pytest.mark.parametrize("name", ENGINES.names())
@pytest.mark.parametrize("adapter", [None, "tuned"])
def test_every_engine_keeps_the_laws(
    name: str, adapter: str | None, model_folder: Path, adapter_folder: Path, template: Template
) -> None:
    check_engine(
        create_engine(name, served(model_folder, {"tuned": adapter_folder}), template),
        prompts(template, adapter=adapter),
    )


def test_greedy_tokens_equal_plain_transformers(engine: Engine, model_folder: Path, template: Template) -> None:
    host = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    for prompt, (completion,) in zip(
        prompts(template), engine.generate(prompts(template), SamplingParams(max_new_tokens=12)), strict=True
    ):
        ids = list(prompt.input_ids)
        for token in completion.token_ids:
            chosen = int(host(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            assert chosen == token
            ids.append(token)


def test_base_and_adapter_prompts_share_a_call(engine: Engine, template: Template) -> None:
    greedy = SamplingParams(max_new_tokens=6)
    base, tuned = prompts(template), prompts(template, adapter="tuned")
    mixed = [each for pair in zip(base, tuned, strict=True) for each in pair]
    answers = engine.generate(mixed, greedy)
    assert answers[::2] == engine.generate(base, greedy)
    assert answers[1::2] == engine.generate(tuned, greedy)
    assert answers[::2] != answers[1::2]


def test_a_stop_word_ends_the_answer_before_it(engine: Engine, template: Template) -> None:
    free = engine.generate(prompts(template)[:1], SamplingParams(max_new_tokens=20))[0][0]
    text = template.decode(free.token_ids)
    word = text[6:9]
    stopped = engine.generate(prompts(template)[:1], SamplingParams(max_new_tokens=20, stop_words=[word]))[0][0]
    assert stopped.finish_reason == "stop"
    shown = template.decode(stopped.token_ids)
    assert text.startswith(shown) and word not in shown


def test_a_stream_ends_before_a_stop_word_as_a_whole_answer_does(engine: Engine, template: Template) -> None:
    free = engine.generate(prompts(template)[:1], SamplingParams(max_new_tokens=20))[0][0]
    text = template.decode(free.token_ids)
    for start in range(1, 12):
        # From the middle of a token to the middle of another, wherever those are.
        sampling = SamplingParams(max_new_tokens=20, stop_words=["never said", text[start : start + 4]])
        whole = engine.generate(prompts(template)[:1], sampling)[0][0]
        assert list(engine.stream(prompts(template)[0], sampling)) == whole.token_ids


def test_a_long_prompt_does_not_shorten_its_neighbours_answer(engine: Engine, template: Template) -> None:
    short = prompts(template)[0]
    long = Prompt(input_ids=(short.input_ids * 40)[:253])
    sampling = SamplingParams(max_new_tokens=40)
    together = engine.generate([short, long], sampling)
    assert together[0] == engine.generate([short], sampling)[0]
    assert len(together[1][0].token_ids) <= 3  # 256 - 253


def test_the_models_own_generation_settings_do_not_leak_in(
    model_folder: Path, template: Template, tmp_path: Path
) -> None:
    changed = tmp_path / "model"
    shutil.copytree(model_folder, changed)
    (changed / "generation_config.json").write_text('{"no_repeat_ngram_size": 1, "max_length": 3, "do_sample": true}')
    greedy = SamplingParams(max_new_tokens=12)
    answers = [
        create_engine("torch", served(each), template).generate(prompts(template), greedy)
        for each in (model_folder, changed)
    ]
    assert answers[0] == answers[1]


def test_pieces_of_a_stream_join_to_the_answer(engine: Engine, template: Template) -> None:
    responder = Responder(engine, template, SamplingParams(max_new_tokens=16), adapter="tuned")
    streamed = "".join(responder.stream(ask("What is this?")))
    assert streamed == responder.answer([ask("What is this?")])[0][0].content


def test_a_closed_stream_stops_generating(engine: Engine, template: Template) -> None:
    stream = engine.stream(prompts(template)[0], SamplingParams(max_new_tokens=200, temperature=1.0, seed=0))
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    # Nothing runs any more that could disturb the next answer.
    greedy = SamplingParams(max_new_tokens=4)
    assert engine.generate(prompts(template), greedy) == engine.generate(prompts(template), greedy)


def test_an_unknown_adapter_is_named(engine: Engine, template: Template) -> None:
    with pytest.raises(UnknownAdapter, match="loaded are: tuned"):
        engine.generate(prompts(template, adapter="tuend"), SamplingParams(max_new_tokens=1))


def test_a_prompt_without_room_for_an_answer_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match="a prompt has 256 tokens"):
        engine.generate([Prompt(input_ids=[5] * 256)], SamplingParams(max_new_tokens=1))


def test_an_unknown_engine_gets_the_nearest_name(model_folder: Path, template: Template) -> None:
    with pytest.raises(UnknownName, match="did you mean 'torch'"):
        create_engine("troch", served(model_folder), template)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (SamplingParams(max_new_tokens=0), "max_new_tokens is 0"),
        (SamplingParams(temperature=-1), "temperature is -1"),
        (SamplingParams(top_p=0), "top_p is 0"),
        (SamplingParams(num_return_sequences=2), "all answers are the same"),
    ],
    ids=["no tokens", "negative temperature", "no mass", "equal answers"],
)
def test_values_that_no_engine_can_follow_are_refused(sampling: SamplingParams, message: str) -> None:
    with pytest.raises(InvalidInferArgs, match=message):
        check_sampling(sampling)
