"""The standard formats of the SWIFT paper (arXiv 2408.05517, listing 2), word for word; what its tool takes is ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from swift_data.chat_row import ChatRow, to_row
from swift_data.errors import BadRow
from swift_data.source import Origin
from swift_templates.grounding import Objects
from swift_templates.messages import JSON, Conversation, Media, Message

ORIGIN = Origin("rows.jsonl", 1)
SUM = Message(role="user", content="Calculate 22+45")
RIGHT = Message(role="assistant", content="The answer is 67.")
PICTURE = Media(kind="image", source="/coco2017/train/10045.jpg", at=0)
LOOK = Message(role="user", content="What is in the image?", media=(PICTURE,))
GIRL = Message(role="assistant", content="The image shows a little girl walking.")


def read(line: str) -> ChatRow:
    """Return what a line of JSON becomes."""
    return to_row(json.loads(line), origin=ORIGIN)


def plain(*messages: Message) -> ChatRow:
    """Return a row of these messages and nothing else."""
    return ChatRow(conversation=Conversation(messages=messages), origin=ORIGIN)


def test_a_question_and_its_answer() -> None:
    row = read('{"query": "Calculate 22+45", "response": "The answer is 67."}')
    assert row == plain(SUM, RIGHT)


def test_a_history_and_tools() -> None:
    tool: dict[str, JSON] = {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    row = read(
        '{"system": "You are a good math teacher.", "query": "Calculate 22+45", "response": "The answer is 67.", '
        '"history": [["Can you calculate math?", "Yes, I can do math calculation."]], '
        f'"tools": [{json.dumps(tool)}]}}'
    )
    asked = Message(role="user", content="Can you calculate math?")
    told = Message(role="assistant", content="Yes, I can do math calculation.")
    expected = plain(Message(role="system", content="You are a good math teacher."), asked, told, SUM, RIGHT)
    assert row == replace(expected, conversation=replace(expected.conversation, tools=(tool,)))


def test_a_rejected_answer() -> None:
    row = read(
        '{"query": "Calculate 22+45", "response": "The answer is 67.", "rejected_response": "I cannot calculate math."}'
    )
    worse = Message(role="assistant", content="I cannot calculate math.")
    assert row == replace(plain(SUM, RIGHT), rejected=(worse,), num_shared=1)


def test_a_question_about_a_picture() -> None:
    row = read(
        '{"query": "<image>What is in the image?", "response": "The image shows a little girl walking.", '
        '"images": ["/coco2017/train/10045.jpg"]}'
    )
    assert row == plain(LOOK, GIRL)


def test_a_rejected_answer_about_a_picture() -> None:
    row = read(
        '{"query": "<image>What is in the image?", "response": "The image shows a little girl walking.", '
        '"rejected_response": "I cannot see any image.", "images": ["/coco2017/train/10045.jpg"]}'
    )
    worse = Message(role="assistant", content="I cannot see any image.")
    assert row == replace(plain(LOOK, GIRL), rejected=(worse,), num_shared=1)


def test_a_box_in_a_picture() -> None:
    row = read(
        '{"query": "<image>Where is <ref-object>?", "response": "The position is <bbox>", '
        '"images": ["/coco2017/train/10045.jpg"], "objects": "[{\\"caption\\": \\"guy in red\\", '
        '\\"bbox\\": [138, 136, 235, 359], \\"bbox_type\\": \\"real\\", \\"image\\": 0}]"}'
    )
    where = Message(role="user", content="Where is <ref-object>?", media=(PICTURE,))
    there = Message(role="assistant", content="The position is <bbox>")
    boxes = Objects(refs=("guy in red",), boxes=((138.0, 136.0, 235.0, 359.0),), units="real", image_ids=(0,))
    assert row == replace(
        plain(where, there),
        conversation=Conversation(messages=(where, there), objects=boxes),
        objects={"ref": ["guy in red"], "bbox": [[138, 136, 235, 359]], "image_id": [0], "bbox_type": "real"},
    )


def boxed(content: str, things: object) -> ChatRow:
    """Return a row with a picture, this answer and these things in the picture."""
    raw = {"query": "<image>Where?", "response": content, "images": ["1.jpg"], "objects": things}
    return to_row(raw, origin=ORIGIN)


def test_a_thing_may_have_several_boxes_and_no_caption() -> None:
    things = [
        {"caption": "a dog", "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "bbox_type": "norm_1000", "image": 0},
        {"bbox": [9, 9, 10, 10], "bbox_type": "norm_1000", "image": None},
    ]
    assert boxed("<ref-object>: <bbox>, <bbox>; <bbox>", things).objects == {
        "ref": ["a dog"],
        "bbox": [[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 10, 10]],
        "image_id": [0, 0, 0],
        "bbox_type": "norm_1000",
    }


@pytest.mark.parametrize(
    ("things", "words"),
    [
        ([{"caption": "a dog"}], "'objects' is [{'caption': 'a dog'}]; expected an object"),
        ([{"bbox": [1, 2], "label": "a dog"}], "'objects' is [{"),
        ([{"bbox": "1, 2"}], "'objects.bbox[0]' is '1, 2'"),
        ([{"bbox": []}], "'objects.bbox[0]' is []"),
        ([{"bbox": [1, 2], "image": "0"}], "'objects.image_id[0]' is '0'"),
        ([{"bbox": [1, 2], "bbox_type": "inches"}], "'objects.bbox_type' is 'inches'"),
        ([{"bbox": [1, 2]}, {"bbox": [1, 2], "bbox_type": "norm_1"}], "several 'bbox_type': 'real', 'norm_1'"),
    ],
)
def test_a_thing_of_another_form_is_a_bad_row(things: list[dict[str, object]], words: str) -> None:
    with pytest.raises(BadRow) as caught:
        boxed("x", things)
    assert caught.value.reason == "invalid value"
    assert words in caught.value.problem
