"""Dataset cards: the bundled rows convert by their card, and become what the card says they are."""

from __future__ import annotations

import json
import re

import pytest
from swift_data.chat_row import ChatRow, to_row
from swift_data.column_format import Answers
from swift_data.dataset_card import DATASETS, UNKNOWN, DatasetCard, load_card
from swift_data.datasets.self_cognition import fill_identity
from swift_data.errors import BadRow, InvalidArgument
from swift_data.source import Origin
from swift_templates.messages import JSON, Media, Message, ToolCall

ORIGIN = Origin("rows.jsonl", 1)
NAMES = DATASETS.names()
# Bundled with their rows, whose columns are ours.
OWN = ("harrowgate",)
UPSTREAM = [name for name in NAMES if name not in OWN]


def convert(card: DatasetCard, index: int = 0, *, answers: Answers = "required") -> ChatRow:
    """Return one of a card's example rows, converted."""
    return to_row(card.convert(card.examples[index]), origin=ORIGIN, answers=answers)


def media_kinds(row: ChatRow) -> set[str]:
    """Return the kinds of media in a row."""
    return {each.kind for message in row.conversation.messages for each in message.media}


@pytest.mark.parametrize("name", UPSTREAM)
def test_example_rows_become_what_their_card_says(name: str) -> None:
    card = load_card(name)
    assert len(card.examples) == 2
    before = repr(card.examples)
    answers: Answers = "optional" if card.kind == "prompt" else "required"
    rows = [convert(card, index, answers=answers) for index in range(2)]
    assert rows[0] != rows[1]
    assert repr(card.examples) == before
    for row in rows:
        messages = row.conversation.messages
        assert (messages[-1].role == "user") == (card.kind == "prompt")
        assert bool(row.rejected) == (card.kind == "preference")
        assert (row.label is not None) == (card.kind == "kto")
        assert (len(messages) == 1) == (card.kind in ("text", "prompt"))
        if card.kind == "text":
            assert messages[0].role == "assistant"
        if card.kind == "grounding":
            assert row.objects is not None
            assert "<bbox>" in messages[-1].content
        if card.kind == "prompt":
            assert row.solution or row.extras
    expected = {"vision": {"image"}, "grounding": {"image"}, "video": {"video"}, "audio": {"audio"}}
    if card.kind in expected:
        assert media_kinds(rows[0]) == expected[card.kind]


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_card_says_where_its_rows_are(name: str) -> None:
    card = load_card(name)
    assert card.hf_id or card.ms_id
    for each in (card.hf_id, card.ms_id):
        assert each is None or re.fullmatch(r"[\w.-]+/[\w.-]+", each), each
    assert all(re.fullmatch(r"[a-z]{2}", code) for code in card.language)
    # SPDX: an identifier with a capital, or LicenseRef- and a name for terms that are not on its list.
    assert card.licence == UNKNOWN or re.fullmatch(r"(?=.*[A-Z])[A-Za-z0-9.-]+", card.licence)
    assert not card.hub_subset or not card.hub_subsets or card.hub_subset in card.hub_subsets


def test_there_are_cards_for_what_people_use() -> None:
    kinds = {load_card(name).kind for name in NAMES}
    wanted = {"chat", "prompt", "preference", "kto", "text", "agent", "vision", "grounding", "video", "audio"}
    assert kinds == wanted
    assert len(UPSTREAM) >= 60
    hubs = [(card.hf_id, card.ms_id) for card in map(load_card, UPSTREAM)]
    # Two names of one set, as users of other tools spell it.
    assert len(hubs) - len(set(hubs)) == 2


def test_a_name_is_spelled_with_hyphens_too() -> None:
    assert load_card("alpaca-gpt4-zh").hf_id == load_card("alpaca_zh").hf_id


def test_hh_rlhf_is_taken_apart_into_turns() -> None:
    row = convert(load_card("hh_rlhf"), 1)
    assert [message.content for message in row.conversation.messages] == [
        "Hello",
        "Hello.",
        "Thanks",
        "You are welcome.",
    ]
    assert row.num_shared == 3
    assert row.rejected == (Message(role="assistant", content="So?"),)


def test_glaives_texts_become_messages_calls_and_tools() -> None:
    row = convert(load_card("glaive_function_calling"))
    function: JSON = {"name": "lamp", "parameters": {"type": "object"}}
    assert row.conversation.tools == ({"type": "function", "function": function},)
    assert row.conversation.messages == (
        Message(role="user", content="Is the top light on?"),
        Message(role="assistant", content="", tool_calls=(ToolCall("lamp", {"room": "top"}),)),
        Message(role="tool", content='{"on": true}'),
        Message(role="assistant", content="Yes, it is on."),
    )


def test_xlams_answers_become_calls_in_one_message() -> None:
    row = convert(load_card("xlam"))
    assert row.conversation.messages[1].tool_calls == (
        ToolCall("lamp", {"room": "top"}),
        ToolCall("lamp", {"room": "hall"}),
    )


def test_gsm8ks_final_number_becomes_the_solution() -> None:
    row = convert(load_card("gsm8k"))
    assert row.solution == "6"
    assert row.conversation.messages[-1].content == "2 * 3 = <<2*3=6>>6 men.\n#### 6"


def test_grits_boxes_stand_in_the_caption() -> None:
    row = convert(load_card("grit"))
    assert row.conversation.messages[-1].content == "<ref-object><bbox> above <ref-object><bbox>"
    assert row.objects == {
        "ref": ["a tower", "a boat"],
        "bbox": [[0.1, 0.1, 0.3, 0.8], [0.5, 0.7, 0.9, 0.9]],
        "bbox_type": "norm1",
    }


def test_the_most_common_answer_is_taken() -> None:
    assert convert(load_card("textvqa")).conversation.messages[-1].content == "light"


def test_agent_instructs_answers_say_which_are_trained() -> None:
    messages = convert(load_card("agent_instruct")).conversation.messages
    assert [message.loss for message in messages] == [None, False, None, True]


def test_thoughts_are_kept_apart_from_the_answer() -> None:
    answer = convert(load_card("deepseek_r1_distill_zh")).conversation.messages[-1]
    assert (answer.reasoning_content, answer.content) == ("9等于3乘3。", "不是。")


def test_a_video_gets_its_place_and_its_ending() -> None:
    (medium,) = convert(load_card("llava_video")).conversation.messages[0].media
    assert medium == Media(kind="video", source="boats/1.mp4", at=0)
    (medium,) = convert(load_card("video_chatgpt")).conversation.messages[0].media
    assert medium.source == "v_boat.mp4"


@pytest.mark.parametrize("name", [name for name in UPSTREAM if load_card(name).prepare])
def test_a_row_without_what_a_card_reads_is_a_bad_row(name: str) -> None:
    with pytest.raises(BadRow):
        to_row(load_card(name).convert({"unrelated": 1}), origin=ORIGIN)


def identity_rows() -> list[ChatRow]:
    """Return the bundled rows of self-cognition."""
    card = load_card("self-cognition")
    (path,) = card.files.values()
    lines = path.read_text(encoding="utf-8").splitlines()
    return [to_row(card.convert(json.loads(line)), origin=Origin(str(path), at + 1)) for at, line in enumerate(lines)]


def test_self_cognition_is_filled_with_the_names() -> None:
    rows = identity_rows()
    assert len(rows) >= 20
    assert {row.extras["tag"] for row in rows} == {"zh", "en"}
    filled = [fill_identity(row, "Lampo", "the keepers") for row in rows]
    texts = [message.content for row in filled for message in row.conversation.messages]
    assert not any("{{" in text for text in texts)
    assert filled[0].conversation.messages[-1].content == "I am Lampo, an AI assistant made by the keepers."
    # What it is given stays as it was.
    assert "{{NAME}}" in rows[0].conversation.messages[-1].content


def test_two_names_are_one_for_each_language() -> None:
    card = load_card("self_cognition")
    english, chinese = (
        fill_identity(convert(card, index), ("小灯", "Lampo"), ("守塔人", "the keepers")) for index in (0, 1)
    )
    assert english.conversation.messages[-1].content == "I am Lampo, made by the keepers."
    assert chinese.conversation.messages[-1].content == "我是小灯，由守塔人开发。"


def test_a_row_without_marks_comes_back_as_it_is() -> None:
    row = to_row({"query": "2 + 2?", "response": "4"}, origin=ORIGIN)
    assert fill_identity(row, "Lampo", "the keepers") is row


@pytest.mark.parametrize("name", ["", " ", (), ("a", "b", "c"), ("a", "")])
def test_an_identity_needs_names(name: str | tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="model_name"):
        fill_identity(convert(load_card("self_cognition")), name, "the keepers")


def test_a_cards_constants_give_way_to_what_a_row_has() -> None:
    card = load_card("coco_caption")
    row = to_row(card.convert({**card.examples[0], "query": "What is it?"}), origin=ORIGIN)
    assert row.conversation.messages[0].content == "What is it?"
