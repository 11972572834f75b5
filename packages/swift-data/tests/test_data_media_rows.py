"""Rows with pictures, videos, sounds and boxes; places are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from swift_data.chat_row import ChatRow, to_row
from swift_data.errors import BadRow, Reason
from swift_data.object_columns import to_objects
from swift_data.source import Origin
from swift_templates.grounding import Objects
from swift_templates.messages import JSON, Media, Message

ORIGIN = Origin("rows.jsonl", 3)


def image(source: object, at: int = 0) -> Media:
    """Return a picture."""
    return Media(kind="image", source=source, at=at)


def user(content: object) -> dict[str, object]:
    """Return a question as rows have it."""
    return {"role": "user", "content": content}


ANSWER: dict[str, object] = {"role": "assistant", "content": "Yes."}


def convert(*messages: dict[str, object], **columns: object) -> ChatRow:
    """Return the row with these messages and columns."""
    return to_row({"messages": [*messages], **columns}, origin=ORIGIN)


# From ms-swift's documentation, "Multimodal".
@pytest.mark.parametrize(
    ("raw", "messages"),
    [
        pytest.param(
            {
                "messages": [{"role": "assistant", "content": "<image>is a puppy, <image>is a kitten"}],
                "images": ["a", "b"],
            },
            [Message(role="assistant", content="is a puppy, is a kitten", media=(image("a"), image("b", 12)))],
            id="pre-training",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "<image><image>What is the difference?"},
                    {"role": "assistant", "content": "One is a kitten."},
                ],
                "images": ["/xxx/x.jpg", "/xxx/x.png"],
            },
            [
                Message(
                    role="user", content="What is the difference?", media=(image("/xxx/x.jpg"), image("/xxx/x.png"))
                ),
                Message(role="assistant", content="One is a kitten."),
            ],
            id="two pictures",
        ),
        pytest.param(
            {"query": "<audio>What did it say?", "response": "Nothing.", "audios": ["x.mp3"]},
            [
                Message(role="user", content="What did it say?", media=(Media(kind="audio", source="x.mp3"),)),
                Message(role="assistant", content="Nothing."),
            ],
            id="a sound",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "<image>What is here, <video>and here?"},
                    {"role": "assistant", "content": "An elephant."},
                ],
                "images": ["x.jpg"],
                "videos": ["x.mp4"],
            },
            [
                Message(
                    role="user",
                    content="What is here, and here?",
                    media=(image("x.jpg"), Media(kind="video", source="x.mp4", at=14)),
                ),
                Message(role="assistant", content="An elephant."),
            ],
            id="a picture and a video",
        ),
        pytest.param(
            {
                "messages": [{"role": "user", "content": "Draw an apple"}, {"role": "assistant", "content": "<image>"}],
                "images": ["x.jpg"],
            },
            [
                Message(role="user", content="Draw an apple"),
                Message(role="assistant", content="", media=(image("x.jpg"),)),
            ],
            id="a picture as the answer",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "<image>Time?"},
                    {"role": "tool_call", "content": '{"name": "click", "arguments": {"x": 105}}'},
                    {"role": "tool_response", "content": '{"images": "<image>"}'},
                    {"role": "assistant", "content": "Eleven."},
                ],
                "images": ["desktop.png", "calendar.png"],
            },
            None,
            id="a picture as a tool's result",
        ),
    ],
)
def test_the_nth_placeholder_takes_the_nth_medium(raw: dict[str, object], messages: list[Message] | None) -> None:
    row = to_row(raw, origin=ORIGIN)
    if messages is None:
        asked, _, result, _ = row.conversation.messages
        assert asked.media == (image("desktop.png"),)
        assert (result.content, result.media) == ('{"images": ""}', (image("calendar.png", 12),))
    else:
        assert row.conversation.messages == tuple(messages)


def test_media_without_placeholders_come_before_the_first_question() -> None:
    row = convert(
        {"role": "system", "content": "Look."}, user("What?"), ANSWER, image="a.png", videos=["b.mp4", "c.mp4"]
    )
    assert row.conversation.messages[1] == Message(
        role="user",
        content="What?",
        media=(
            image("a.png"),
            Media(kind="video", source="b.mp4"),
            Media(kind="video", source="c.mp4"),
        ),
    )


def test_without_a_column_the_same_characters_are_text() -> None:
    row = convert(user("What does <image> do in HTML, and <audio>?"), ANSWER)
    assert row.conversation.messages[0] == Message(role="user", content="What does <image> do in HTML, and <audio>?")
    # A kind without a column keeps its characters beside one with a column.
    row = convert(user("<image>What is <audio>?"), ANSWER, images=["a.png"])
    assert row.conversation.messages[0] == Message(role="user", content="What is <audio>?", media=(image("a.png"),))


PARTS = [
    pytest.param({"type": "image", "image": "a.png"}, image("a.png"), id="image"),
    pytest.param({"type": "image", "url": "https://x.org/a.png"}, image("https://x.org/a.png"), id="url"),
    pytest.param({"type": "image", "path": "a.png"}, image("a.png"), id="path"),
    pytest.param({"type": "image", "base64": "AAAA"}, image("data:image/png;base64,AAAA"), id="base64"),
    pytest.param({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                 image("data:image/png;base64,AAAA"), id="OpenAI"),
    pytest.param({"type": "image_url", "image_url": "a.png"}, image("a.png"), id="OpenAI, short"),
    pytest.param({"type": "input_image", "image_url": "a.png"}, image("a.png"), id="OpenAI's responses"),
    pytest.param({"type": "image", "image": {"bytes": b"\x89PNG", "path": "a.png"}}, image(b"\x89PNG"), id="bytes"),
    pytest.param({"type": "video", "video": "a.mp4"}, Media(kind="video", source="a.mp4"), id="video"),
    pytest.param({"type": "video_url", "video_url": {"url": "a"}}, Media(kind="video", source="a"), id="video_url"),
    pytest.param({"type": "audio", "audio": "a.wav"}, Media(kind="audio", source="a.wav"), id="audio"),
    pytest.param(
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        Media(kind="audio", source="data:audio/mp3;base64,AAAA"),
        id="OpenAI's audio",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("part", "medium"), PARTS)
def test_parts_of_a_content_become_media_between_the_texts(part: dict[str, object], medium: Media) -> None:
    row = convert(user([{"type": "text", "text": "In "}, part, {"type": "text", "text": "what?"}]), ANSWER)
    placed = Media(kind=medium.kind, source=medium.source, at=3)
    assert row.conversation.messages[0] == Message(role="user", content="In what?", media=(placed,))
    # Tables give each part the fields of all of them.
    padded = {**dict.fromkeys(("text", "image", "video", "audio", "url"), None), **part}
    same = convert(user([{"type": "text", "text": "In "}, padded, {"type": "text", "text": "what?"}]), ANSWER)
    assert same == row


def test_parts_that_name_no_source_take_the_columns() -> None:
    # As TRL has it.
    row = convert(user([{"type": "image"}, {"type": "text", "text": "And "}, {"type": "image", "text": None}]), ANSWER,
                  images=["a.png", "b.png"])  # fmt: skip
    assert row.conversation.messages[0] == Message(
        role="user", content="And ", media=(image("a.png"), image("b.png", 4))
    )


def test_parts_and_placeholders_take_the_columns_in_their_order() -> None:
    content = [
        {"type": "text", "text": "1<image>2"},
        {"type": "image"},
        {"type": "text", "text": "3<image>4"},
        {"type": "image", "image": "own.png"},
    ]
    row = convert(user([*content[:3]]), ANSWER, images=["a", "b", "c"])
    assert row.conversation.messages[0] == Message(
        role="user", content="1234", media=(image("a", 1), image("b", 2), image("c", 3))
    )
    row = convert(user(content), ANSWER, images=["a", "b", "c"])
    assert row.conversation.messages[0].media[-1] == image("own.png", 4)


def test_media_are_taken_as_data_sets_have_them() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    row = convert(
        user("<image>" * 5),
        ANSWER,
        images=["a.png", b"\x89PNG", {"bytes": None, "path": "b.png"}, {"bytes": b"\xff\xd8", "path": "c"}, pixels],
    )
    sources = [each.source for each in row.conversation.messages[0].media]
    assert sources[:4] == ["a.png", b"\x89PNG", "b.png", b"\xff\xd8"]
    assert sources[4] is pixels
    assert [each.source for each in convert(user("x"), ANSWER, images='["a", "b"]').conversation.messages[0].media] == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("columns", [{"images": []}, {"images": None}, {"image": ""}, {"image": None, "images": []}])
def test_empty_columns_of_media_don_t_matter(columns: dict[str, object]) -> None:
    assert convert(user("What?"), ANSWER, **columns) == convert(user("What?"), ANSWER)


@pytest.mark.parametrize(
    ("content", "columns", "reason", "words"),
    [
        ("<image>x", {"images": ["a", "b"]}, "invalid value", "'images' has 2, and the texts have places for 1"),
        ("<image><image>x", {"images": ["a"]}, "invalid value", "'images' has 1, and the texts have places for 2"),
        ("<image>x", {"images": []}, "invalid value", "'images' has 0, and the texts have places for 1"),
        # The picture got lost.
        ("<image>x", {"image": None}, "invalid value", "'images' has 0, and the texts have places for 1"),
        ("<video>x", {"videos": ["a", "b"]}, "invalid value", "'videos' has 2, and the texts have places for 1"),
        ([{"type": "image"}], {}, "invalid value", "'images' has 0, and the texts have places for 1"),
        ([{"type": "image", "image": "a"}], {"images": ["b"]}, "invalid value", "'images' has 1"),
        ("x", {"images": ["a"], "image": "b"}, "ambiguous columns", "'images', 'image'"),
        ("x", {"images": [3]}, "invalid value", "'images[0]' is 3; expected a path"),
        ("x", {"images": [""]}, "invalid value", "'images[0]' is ''"),
        ("x", {"images": [None]}, "invalid value", "'images[0]' is None"),
        (
            "x",
            {"audio": {"array": [0.0], "sampling_rate": 16000}},
            "invalid value",
            "'audio' has 'array', 'sampling_rate'",
        ),
        ([{"type": "hologram"}], {}, "invalid value", "'messages[0].content[0].type' is 'hologram'"),
        ([{"text": "x"}], {}, "missing field", "'messages[0].content[0]' lacks 'type'"),
        ([{"type": "text"}], {}, "missing field", "'messages[0].content[0]' lacks 'text'"),
        (["x"], {}, "invalid value", "'messages[0].content[0]' is 'x'; expected an object"),
        ([{"type": "image_url", "image_url": {"detail": "low"}}], {}, "invalid value", "image_url' has 'detail'"),
    ],
)
def test_media_that_cannot_be_placed_are_a_bad_row(
    content: object, columns: dict[str, object], reason: Reason, words: str
) -> None:
    with pytest.raises(BadRow) as caught:
        convert(user(content), ANSWER, **columns)
    assert caught.value.reason == reason
    assert words in caught.value.problem


def test_both_answers_of_a_pair_are_about_the_same_picture() -> None:
    row = to_row(
        {"image": "a.png", "question": "<image>What?", "chosen": "A lamp.", "rejected": "A ship."}, origin=ORIGIN
    )
    asked = Message(role="user", content="What?", media=(image("a.png"),))
    worse = row.rejected_conversation
    assert worse is not None
    assert row.conversation.messages == (asked, Message(role="assistant", content="A lamp."))
    assert worse.messages == (asked, Message(role="assistant", content="A ship."))


def test_pairs_of_parts_share_their_picture() -> None:
    def answered(text: str) -> list[dict[str, object]]:
        return [user([{"type": "image"}, {"type": "text", "text": "What?"}]), {"role": "assistant", "content": text}]

    row = to_row({"images": ["a.png"], "chosen": answered("A lamp."), "rejected": answered("A ship.")}, origin=ORIGIN)
    assert row.num_shared == 1
    assert row.conversation.messages[0].media == (image("a.png"),)


# From ms-swift's documentation, "Grounding".
DOG = {"ref": ["a dog", "a woman"], "bbox": [[331.5, 761.4, 853.5, 1594.8], [676.5, 685.8, 1099.5, 1427.4]]}


def boxed(content: str, objects: object) -> ChatRow:
    """Return a row with this answer and these boxes."""
    return convert(
        user("<image>Describe it."), {"role": "assistant", "content": content}, images=["x.jpg"], objects=objects
    )


def test_boxes_stay_on_the_row_and_their_placeholders_in_the_text() -> None:
    row = boxed("<ref-object><bbox> and <ref-object><bbox> play", DOG)
    assert row.objects == DOG
    assert row.conversation.messages[1].content == "<ref-object><bbox> and <ref-object><bbox> play"
    assert row.extras == {}


def test_boxes_may_be_json_in_a_text_and_need_no_placeholder() -> None:
    assert boxed("click <bbox>", '{"ref": [], "bbox": [[615, 226]]}').objects == {"ref": [], "bbox": [[615, 226]]}
    assert boxed("It is there.", DOG).objects == DOG
    assert boxed("It is there.", {"bbox": [[0, 0, 1, 1]], "bbox_type": "norm1", "image_id": [0]}).objects


@pytest.mark.parametrize("objects", [None, {}, [], ""])
def test_no_boxes_are_none(objects: object) -> None:
    assert boxed("A <bbox> is a tag.", objects).objects is None


@pytest.mark.parametrize(
    ("content", "objects", "words"),
    [
        ("<bbox>", DOG, "'objects.bbox' has 2, and the texts have 1 times '<bbox>'"),
        ("<ref-object>", {"bbox": []}, "'objects.ref' has 0, and the texts have 1 times '<ref-object>'"),
        ("<bbox>", {"bbox": "1, 2"}, "'objects.bbox' is '1, 2'; expected a list"),
        ("x", {"bbox_type": "inches"}, "'objects.bbox_type' is 'inches'; expected one of 'real'"),
        ("x", [DOG], "'objects' is [{"),
        ("x", "a dog", "'objects' is 'a dog'; expected an object"),
    ],
)
def test_boxes_that_do_not_fit_are_a_bad_row(content: str, objects: object, words: str) -> None:
    with pytest.raises(BadRow) as caught:
        boxed(content, objects)
    assert caught.value.reason == "invalid value"
    assert words in caught.value.problem


KINDS = st.sampled_from(["image", "video", "audio"])


@given(st.lists(st.one_of(KINDS, st.text(alphabet="ab<>é ", max_size=4)), max_size=8), st.booleans())
def test_texts_and_media_come_out_as_they_went_in(pieces: list[str], split: bool) -> None:
    kinds = [piece for piece in pieces if piece in ("image", "video", "audio")]
    columns = {f"{kind}s": [f"{kind}{at}" for at in range(kinds.count(kind))] for kind in set(kinds)}
    content: object = "".join(f"<{piece}>" if piece in kinds else piece for piece in pieces)
    if split:
        content = [{"type": piece} if piece in kinds else {"type": "text", "text": piece} for piece in pieces]
    row = convert(user(content), ANSWER, **columns)
    (asked, _) = row.conversation.messages
    assert asked.content == "".join(piece for piece in pieces if piece not in kinds)
    # By hand: what stands before each medium is the text before it.
    length = 0
    expected = []
    seen: dict[str, int] = {}
    for piece in pieces:
        if piece in kinds:
            expected.append((piece, f"{piece}{seen.get(piece, 0)}", length))
            seen[piece] = seen.get(piece, 0) + 1
        else:
            length += len(piece)
    assert [(each.kind, each.source, each.at) for each in asked.media] == expected


def test_boxes_are_what_grounding_reads() -> None:
    raw: dict[str, JSON] = {"ref": ["a dog"], "bbox": [[1, 2], [3, 4, 5, 6]], "bbox_type": "norm1", "image_id": [0, 1]}
    assert to_objects(raw) == Objects(
        refs=("a dog",), boxes=((1.0, 2.0), (3.0, 4.0, 5.0, 6.0)), units="norm_1", image_ids=(0, 1)
    )
    assert to_objects({}) == Objects()


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({"bbox": [[1, 2, 3]]}, "'objects.bbox[0]' is [1, 2, 3]; expected [x, y]"),
        ({"bbox": [[1, "2"]]}, "'objects.bbox[0]' is [1, '2']"),
        ({"bbox": [[]]}, "'objects.bbox[0]' is []"),
        ({"bbox": [3]}, "'objects.bbox[0]' is 3"),
        ({"ref": [3]}, "'objects.ref[0]' is 3"),
        ({"bbox": [[1, 2]], "image_id": [0, 1]}, "'objects.image_id' has 2 for 1 boxes"),
        ({"bbox": [[1, 2]], "image_id": [-1]}, "'objects.image_id[0]' is -1"),
    ],
)
def test_boxes_of_another_form_are_a_bad_row(objects: dict[str, object], words: str) -> None:
    with pytest.raises(BadRow) as caught:
        boxed("x", objects)
    assert words in caught.value.problem
