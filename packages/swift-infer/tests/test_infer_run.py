"""One question, a file, a chat: what a user sees."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from swift_infer import InferArgs, Responder, chat, create_engine, resolve_served, run_infer
from swift_infer.args import EngineArgs
from swift_infer.errors import InvalidInferArgs
from swift_infer.run import find_options_without_effect
from swift_templates import PromptArgs, SamplingParams, Template
from swift_tuners import ModelArgs, SwiftConfig
from swift_tuners.errors import InvalidCheckpoint


def arguments(checkpoint: Path, **ask: object) -> InferArgs:
    args = InferArgs(sampling=SamplingParams(max_new_tokens=8))
    args.engine.ckpt_dir = str(checkpoint)
    args.model.torch_dtype = "float32"
    for name, value in ask.items():
        setattr(args.ask, name, value)
    return args


def test_a_checkpoint_brings_its_base_model(adapter_folder: Path, model_folder: Path) -> None:
    served = resolve_served(EngineArgs(ckpt_dir=str(adapter_folder)), ModelArgs(), PromptArgs())
    assert served.model.model == str(model_folder)
    assert served.adapters == {"default": adapter_folder}


def test_a_run_folder_stands_for_its_newest_checkpoint(adapter_folder: Path) -> None:
    served = resolve_served(EngineArgs(ckpt_dir=str(adapter_folder.parent)), ModelArgs(), PromptArgs())
    assert served.adapters == {"default": adapter_folder}


def test_a_whole_model_is_its_own_checkpoint(model_folder: Path) -> None:
    served = resolve_served(EngineArgs(ckpt_dir=str(model_folder)), ModelArgs(), PromptArgs())
    assert served.model.model == str(model_folder) and not served.adapters


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="neither a checkpoint nor a run"):
        resolve_served(EngineArgs(ckpt_dir=str(tmp_path)), ModelArgs(), PromptArgs())


def test_two_adapters_of_one_name_are_refused(adapter_folder: Path) -> None:
    with pytest.raises(InvalidInferArgs, match="two adapters are named 'checkpoint-20'"):
        resolve_served(EngineArgs(adapters=[str(adapter_folder)] * 2), ModelArgs(), PromptArgs())


def test_who_answers_of_several_has_to_be_said(adapter_folder: Path) -> None:
    engine = EngineArgs(ckpt_dir=str(adapter_folder), adapters=[f"more={adapter_folder}"])
    with pytest.raises(InvalidInferArgs, match="default, more; choose who answers"):
        resolve_served(engine, ModelArgs(), PromptArgs())
    engine.adapter = "mroe"
    with pytest.raises(InvalidInferArgs, match="did you mean 'more'"):
        resolve_served(engine, ModelArgs(), PromptArgs())
    engine.adapter = "more"
    assert resolve_served(engine, ModelArgs(), PromptArgs()).adapter == "more"


def test_adapters_of_different_bases_are_refused(adapter_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(adapter_folder, other)
    replace(SwiftConfig.read(other), base_model="org/other").write(other)
    engine = EngineArgs(ckpt_dir=str(adapter_folder), adapters=[str(other)], adapter="other")
    with pytest.raises(InvalidInferArgs, match=r"stand on different models: .*other on org/other"):
        resolve_served(engine, ModelArgs(), PromptArgs())


def test_a_folder_whose_name_is_no_adapters_name_asks_for_one(adapter_folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "lr=1e-4.v2"
    shutil.copytree(adapter_folder, odd)
    with pytest.raises(InvalidInferArgs, match="--adapters NAME=DIR"):
        resolve_served(EngineArgs(adapters=[str(odd)]), ModelArgs(), PromptArgs())
    assert resolve_served(EngineArgs(adapters=[f"odd={odd}"]), ModelArgs(), PromptArgs()).adapters == {"odd": odd}


def test_the_template_is_that_of_training_unless_another_is_asked_for(adapter_folder: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(adapter_folder, trained)
    record = replace(SwiftConfig.read(trained), system="Be brief.", response_prefix="Well: ", enable_thinking=False)
    record.write(trained)
    engine = EngineArgs(ckpt_dir=str(trained))
    filled = resolve_served(engine, ModelArgs(), PromptArgs()).template
    assert (filled.system, filled.response_prefix, filled.enable_thinking) == ("Be brief.", "Well: ", False)
    # An empty system prompt is a choice too.
    assert resolve_served(engine, ModelArgs(), PromptArgs(system="")).template.system == ""


def test_options_without_effect_are_named(adapter_folder: Path) -> None:
    args = arguments(adapter_folder, result_path="x")
    args.sampling = SamplingParams(num_return_sequences=2, temperature=1.0)
    assert "result_path" in find_options_without_effect(args)[0] and "chat" in find_options_without_effect(args)[1]
    args.sampling = SamplingParams(top_k=5)
    assert "temperature 0" in find_options_without_effect(args)[1]


def test_a_response_prefix_is_shown_and_remembered(
    adapter_folder: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments(adapter_folder, prompt="What is this?")
    args.template.response_prefix = "Well: "
    streamed = run_infer(args)
    assert streamed[0].startswith("Well: ") and capsys.readouterr().out == streamed[0] + "\n"
    args.ask.stream = False
    assert run_infer(args) == streamed


def test_streamed_and_whole_answers_are_printed_alike(adapter_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streamed = run_infer(arguments(adapter_folder, prompt="What is this?", stream=True))
    shown = capsys.readouterr().out
    whole = run_infer(arguments(adapter_folder, prompt="What is this?", stream=False))
    assert streamed == whole and shown == whole[0] + "\n" == capsys.readouterr().out


def test_a_file_of_rows_and_of_questions_is_answered(adapter_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"messages": [{"role": "user", "content": "Who?"}]}\n', encoding="utf-8")
    result = tmp_path / "answers" / "result.jsonl"
    answers = run_infer(
        arguments(adapter_folder, val_dataset=[str(rows_file), str(questions)], result_path=str(result))
    )
    lines = [json.loads(line) for line in result.read_text(encoding="utf-8").splitlines()]
    assert [line["response"] for line in lines] == answers and len(answers) == 11
    assert lines[0]["label"] == "example 1" and lines[-1]["label"] is None
    with pytest.raises(InvalidInferArgs, match="exists already"):
        run_infer(arguments(adapter_folder, val_dataset=[str(rows_file)], result_path=str(result)))
    assert lines[0]["messages"] == [{"role": "user", "content": "What is this? "}]


def test_a_question_and_a_file_at_once_are_refused(adapter_folder: Path, rows_file: Path) -> None:
    with pytest.raises(InvalidInferArgs, match="expected one of them"):
        run_infer(arguments(adapter_folder, prompt="Hi", val_dataset=[str(rows_file)]))


def test_a_chat_remembers_until_it_is_cleared(adapter_folder: Path, model_folder: Path) -> None:
    template = Template.from_folder(model_folder)
    served = resolve_served(EngineArgs(ckpt_dir=str(adapter_folder)), ModelArgs(torch_dtype="float32"), PromptArgs())
    # The untuned model: its random answers depend on all that was said.
    responder = Responder(create_engine("torch", served, template), template, SamplingParams(max_new_tokens=6))

    def answers(typed: str) -> list[str]:
        shown = io.StringIO()
        chat(responder, reading=io.StringIO(typed), writing=shown)
        return [part.partition("\n")[0] for part in shown.getvalue().split(">>> ")[1:]]

    first, second, *_ = answers("What is this?\nWhat is this?\n/exit\n")
    assert answers("What is this?\n/clear\nWhat is this?\n")[::2][:2] == [first, first]
    assert second != first
    two_lines = answers("What is \\\nthis?\n")
    assert two_lines[0].startswith("... ")
