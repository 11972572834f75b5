"""`swift template show`: a row of a dataset, as the model sees it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from swift_cli.commands.template import LookArgs, TemplateCommandArgs
from swift_cli.main import main
from swift_templates.testing import write_tiny_folder

ROWS: list[dict[str, object]] = [
    {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]},
    {"query": "Weather?", "response": "Action: look\nAction Input: {}"},
    {"messages": [{"role": "user", "content": "Just asked."}]},
    {"query": "Which?", "response": "This.", "rejected_response": "That."},
    {"query": "Good?", "response": "Good.", "label": False},
]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Options that name a tiny model and five rows."""
    model = write_tiny_folder(tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    return ["--model", str(model), "--dataset", str(rows), "--template", "chatml"]


def show(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["template", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_row_is_shown_with_its_place_and_marks(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(["show", *words], capsys) == (
        f"row 1: {tmp_path / 'rows.jsonl'}:1\n"
        "template: family 'chatml'; tools: no known dialect; loss_scale: default; max_length: 2048\n"
        "--- sample: 17 tokens, 4 trained (4 x1)\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«Hi.<|im_end|>»\n"
    )


def test_the_action_may_be_left_out_and_is_an_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert show(words, capsys) == show(["--action", "show", *words], capsys)


def test_weights_and_ids_are_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = show([*words, "--row", "2", "--loss_scale", "react", "--ids", "true"], capsys)
    assert "«Action:»« look\n»(x3)«Action Input:»« {}»(x3)«<|im_end|>»" in out
    text, ids = out.split("--- token ids\n")
    assert ids.count("»") == text.count("»") and ids.split()[0] == "1"


def test_colour_is_for_terminals(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[1;32mHi.<|im_end|>\x1b[0m" in show([*words, "--color", "always"], capsys)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b" in show(words, capsys)
    assert "\x1b" not in show([*words, "--color", "never"], capsys)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in show(words, capsys)


def test_rows_of_all_kinds_are_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--- prompt: " in show([*words, "--row", "3"], capsys)
    pair = show([*words, "--row", "4"], capsys).split("\nwith the rejected answer:\n")
    assert "«This.<|im_end|>»" in pair[0] and "«That.<|im_end|>»" in pair[1]
    assert show([*words, "--row", "5"], capsys).splitlines()[0].endswith(":5; label: False")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--row", "6"], "--row is 6; expected 1 to 5"),
        (["--row", "0"], "--row is 0; expected 1 to 5"),
        (["--dataset", "none"], "no dataset is named"),
        (["--action", "shwo"], "--action is 'shwo'"),
        (["--template", "chatlm"], "template family 'chatlm' is unknown; did you mean "),
    ],
)
def test_a_mistake_is_one_paragraph(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["template", *words, *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("swift template: error: ") and message in err


def test_the_defaults_show_the_first_row() -> None:
    assert TemplateCommandArgs().look == LookArgs(action="show", row=1, ids=False, color="auto")


@pytest.mark.slow
def test_pictures_are_shown_by_the_models_processor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    image = pytest.importorskip("PIL.Image")
    chat = (
        "{% for m in messages %}<|im_start|>{{ m.role + '\n' }}{% if m.content is string %}{{ m.content }}"
        "{% else %}{% for part in m.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
        "{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    folder = write_tiny_folder(tmp_path / "model", chat_template=chat, special_tokens=special)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat,
    ).save_pretrained(folder)
    (tmp_path / "data").mkdir()
    image.fromarray(np.zeros((12, 20, 3), dtype=np.uint8)).save(tmp_path / "data" / "black.png")
    row = {"query": "<image>What?", "response": "Night.", "images": ["black.png"]}
    (tmp_path / "data" / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    for here, rows in (("", str(tmp_path / "data" / "rows.jsonl")), ("", "data/rows.jsonl"), ("data", "rows.jsonl")):
        monkeypatch.chdir(tmp_path / here)
        # transformers may say on stderr which of its processors it takes.
        assert main(["template", "--model", str(folder), "--dataset", rows]) == 0
        out = capsys.readouterr().out
        # 16 x 16 pixels in patches of 8 x 8 are four.
        assert "[image: 4 tokens, 20x12]What?<|im_end|>" in out
        assert "pixel_values: float32 (1, 3, 16, 16)" in out
