"""Which objects of a row are refused, how they replace placeholders, and IoU."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from swift_templates.grounding import (
    Box,
    InvalidObjects,
    Objects,
    PictureSize,
    Point,
    Polygon,
    iou,
    load_notation,
    replace_placeholders,
    to_shape,
    to_shapes,
    to_units,
)

SIZE = PictureSize(640, 480, resized=(644, 476))
DOG = Box(320, 120, 480, 240)  # half, a quarter, three quarters, half
CORNER = Point(64, 48)
SIGN = Polygon(((64, 48), (320, 48), (320, 240), (64, 240)))

# --- Rows


def test_units_are_pixels_thousandths_or_fractions_of_the_original_picture() -> None:
    assert to_shape([320, 120, 480, 240], SIZE) == DOG
    assert to_shape([500, 250, 750, 500], SIZE, units="norm_1000") == DOG
    assert to_shape([0.5, 0.25, 0.75, 0.5], SIZE, units="norm_1") == DOG
    assert to_shape(np.array([64, 48], dtype=np.float32), SIZE) == CORNER  # type: ignore[arg-type]  # an array serves
    assert to_shape([64, 48, 320, 48, 320, 240, 64, 240], SIZE) == SIGN
    assert to_units("norm1000") == "norm_1000"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([10, 10, 5, 20], r"box is \[10.0, 10.0, 5.0, 20.0\], its corners swapped: x2 \(5\) is below x1 \(10\)"),
        ([10, 30, 15, 20], r"y2 \(20\) is below y1 \(30\)"),
        ([10, 10, 10, 20], "no area, x1 and x2 are both 10"),
        ([10, 20, 30, 20], "no area, y1 and y2 are both 20"),
        ([10, 10, 641, 20], "outside of the picture: x2 is 641; expected 0 to 640 with units 'real'"),
        ([10, 10, 20, 481], "outside of the picture: y2 is 481; expected 0 to 480"),
        ([-1, 10, 20, 30], "x1 is -1"),
        ([10, float("nan"), 20, 30], "y1 is not a number"),
        ([10, float("inf"), 20, 30], "y1 is inf"),
        ([10, 10**400, 20, 30], "y1 is inf"),
        ([10, "20", 20, 30], "expected numbers, but '20' is none"),
        ([10, True, 20, 30], "expected numbers, but True is none"),
        ([10, None, 20, 30], "expected numbers, but None is none"),
        ([], "0 numbers; expected 2"),
        ([1], "1 numbers"),
        ([1, 2, 3], "3 numbers; expected 2 .a point., 4 .a box."),
        ([1, 1, 2, 2, 3, 3], "no area; expected three corners or more, not all in one line"),
        ([1, 1, 1, 1, 1, 1], "no area"),
    ],
)
def test_coordinates_that_are_no_shape_in_the_picture_are_refused(numbers: list[float], said: str) -> None:
    with pytest.raises(InvalidObjects, match=said):
        to_shape(numbers, SIZE)


def test_a_bow_tie_is_a_polygon() -> None:
    # Its signed area is 0.
    assert len(to_shape([0, 0, 10, 10, 10, 0, 0, 10], SIZE).corners) == 4


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: to_units("pixels"), "units of boxes are 'pixels'; expected one of 'real', 'norm_1000', 'norm_1'"),
        (lambda: PictureSize(0, 480), r"a picture's size is \(0, 480\)"),
        (lambda: PictureSize(640, 480, resized=(0, 1)), "expected width and height in pixels, above 0"),
        (lambda: to_shapes(Objects(boxes=((1, 2),)), []), "boxes and 0 pictures"),
        (lambda: to_shapes(Objects(boxes=((1, 2),)), [SIZE, SIZE]), "boxes and 2 pictures; .* image_ids"),
        (lambda: to_shapes(Objects(boxes=((1, 2),), image_ids=(2,)), [SIZE, SIZE]), "box 1 is in picture 2 of 2"),
        (lambda: to_shapes(Objects(boxes=((1, 2),), image_ids=(-1,)), [SIZE]), "box 1 is in picture -1 of 1"),
        (lambda: to_shapes(Objects(boxes=((1, 2),), image_ids=(0, 0)), [SIZE]), "2 image_ids and 1 boxes"),
        (lambda: to_shapes(Objects(boxes=((1, 2), (3, 2, 1, 4))), [SIZE]), "box 2 is .* swapped"),
        (lambda: load_notation("internvl").render(CORNER, SIZE), "'internvl' has no way to write a point; .* a box"),
        (lambda: load_notation("qwen_vl").render(Polygon(SIGN.corners[:3]), SIZE), "write a polygon of 3 corners"),
        (lambda: load_notation("qwen_vl").render(Box(0, 0, 641, 1), SIZE), "outside of the picture"),
        (lambda: load_notation("qwen_vl").render_ref("a</ref>"), "holds '</ref>', a mark of notation 'qwen_vl'"),
        (lambda: load_notation("paligemma").render_ref("a;b"), "holds ';'"),
        (lambda: load_notation("florence2").render_ref("a<sep>b"), "holds '<sep>'"),
        (lambda: load_notation("qwen2_5_vl").render(DOG, PictureSize(640, 480)), "size that the picture is resized to"),
        (lambda: load_notation("qwen2_5_vl").parse("", PictureSize(640, 480)), "size that the picture is resized to"),
    ],
)
def test_what_cannot_be_written_is_refused(build: Callable[[], object], said: str) -> None:
    with pytest.raises(InvalidObjects, match=said) as caught:
        build()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# --- Placeholders


def test_placeholders_are_replaced_in_order_over_all_texts_and_pictures() -> None:
    objects = Objects(
        refs=("dog", "cat"),
        boxes=((320, 120, 480, 240), (0, 0, 50, 50)),
        image_ids=(0, 1),
    )
    texts = ["Find <ref-object>.", "At <bbox>.", "And <ref-object>?", "<bbox>"]
    sizes = [SIZE, PictureSize(100, 200)]
    assert replace_placeholders(texts, objects, sizes, load_notation("qwen_vl")) == [
        "Find <ref>dog</ref>.",
        "At <box>(500,250),(749,500)</box>.",
        "And <ref>cat</ref>?",
        "<box>(0,0),(500,250)</box>",
    ]


def test_a_json_row_spells_its_object_and_names_are_escaped_in_it() -> None:
    objects = Objects(refs=('5" nail', '5" nail'), boxes=((500, 250, 750, 500),), units="norm_1000")
    texts = ["Where is the <ref-object>?", '{"bbox_2d": <bbox>, "label": "<ref-object>"}']
    notation = load_notation("qwen2_5_vl")
    written = replace_placeholders(texts, objects, [SIZE], notation)
    assert written == ['Where is the 5" nail?', '{"bbox_2d": [322, 119, 483, 238], "label": "5\\" nail"}']
    assert notation.parse(written[1], SIZE).found[0].label == '5" nail'


def test_what_is_written_in_is_not_searched_for_placeholders() -> None:
    objects = Objects(refs=("<bbox>",), boxes=((64, 48),))
    notation = load_notation("plain_pixels")
    assert replace_placeholders(["<ref-object> <bbox>"], objects, [SIZE], notation) == ["<bbox> [64, 48]"]


def test_a_row_without_objects_stays_as_it_is() -> None:
    assert replace_placeholders(["Hello <b>"], Objects(), [], load_notation("qwen_vl")) == ["Hello <b>"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["<bbox>"], "0 times '<ref-object>' and the objects have 1 refs"),
        (["<ref-object>"], "0 times '<bbox>' and the objects have 1 boxes"),
        (["<ref-object><bbox>", "<bbox>"], "2 times '<bbox>' and the objects have 1 boxes"),
    ],
)
def test_wrong_counts_are_refused(texts: list[str], said: str) -> None:
    with pytest.raises(InvalidObjects, match=said):
        replace_placeholders(texts, Objects(refs=("a",), boxes=((1, 2),)), [SIZE], load_notation("qwen_vl"))


# --- IoU


def test_iou_of_each_box_with_each() -> None:
    # By hand: the same; half of one (1/2); a quarter each of 4 and 4 shared 1 (1/7); touching; no area.
    a = [[0, 0, 2, 2], [5, 5, 5, 5]]
    b = [[0, 0, 2, 2], [0, 0, 1, 2], [1, 1, 3, 3], [2, 0, 4, 2], [5, 5, 5, 5]]
    expected = np.array([[1, 1 / 2, 1 / 7, 0, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-15)


def test_iou_of_no_boxes_has_no_rows() -> None:
    assert iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert iou(np.zeros((3, 4)), []).shape == (3, 0)


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=1, max_size=5))
def test_iou_is_that_of_counted_pixels(corners: list[tuple[int, int, int, int]]) -> None:
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    masks = np.zeros((len(boxes), 10, 10), dtype=bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    measured = iou(boxes, boxes)
    for at, mask in enumerate(masks):
        for to, other in enumerate(masks):
            shared, union = int((mask & other).sum()), int((mask | other).sum())
            assert measured[at, to] == pytest.approx(shared / max(union, 1))


@pytest.mark.parametrize(
    ("boxes", "said"),
    [([1, 2, 3, 4], "shape"), ([[1, 2, 3]], "shape"), ([[3, 0, 1, 1]], "x1 <= x2"), ([[0, 0, 1, np.nan]], "numbers")],
)
def test_iou_refuses_what_is_no_box(boxes: list[list[float]], said: str) -> None:
    with pytest.raises(InvalidObjects, match=said):
        iou(boxes, [[0, 0, 1, 1]])
