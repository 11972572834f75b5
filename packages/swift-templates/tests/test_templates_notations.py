"""What each notation writes and reads, to the character and to half a unit, and how it takes bad answers."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swift_templates.errors import LawBroken
from swift_templates.grounding import (
    Box,
    Coordinates,
    InvalidObjects,
    PictureSize,
    Point,
    Polygon,
    Shape,
    load_notation,
    notations,
    to_shape,
)
from swift_templates.grounding_testing import check_notation

SIZE = PictureSize(640, 480, resized=(644, 476))
DOG = Box(320, 120, 480, 240)  # half, a quarter, three quarters, half
SIZE_OF_EXAMPLES = PictureSize(1000, 1000, resized=(1008, 1008))
CORNER = Point(64, 48)
SIGN = Polygon(((64, 48), (320, 48), (320, 240), (64, 240)))

# By hand from the rules that the docstrings state: name, label, shape, text.
WRITTEN: list[tuple[str, str | None, Shape, str]] = [
    ("qwen_vl", "dog", DOG, "<ref>dog</ref><box>(500,250),(749,500)</box>"),
    ("qwen_vl", None, CORNER, "<box>(100,100)</box>"),
    ("qwen_vl", "sign", SIGN, "<ref>sign</ref><quad>(100,100),(500,100),(500,500),(100,500)</quad>"),
    (
        "qwen2_vl",
        "dog",
        DOG,
        "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(500,250),(750,500)<|box_end|>",
    ),
    ("qwen2_vl", None, Box(0, 0, 640, 480), "<|box_start|>(0,0),(999,999)<|box_end|>"),
    ("qwen2_vl", None, SIGN, "<|quad_start|>(100,100),(500,100),(500,500),(100,500)<|quad_end|>"),
    ("qwen2_5_vl", "dog", DOG, '```json\n[\n\t{"bbox_2d": [322, 119, 483, 238], "label": "dog"}\n]\n```'),
    ("qwen2_5_vl", "q", CORNER, '```json\n[\n\t{"point_2d": [64, 48], "label": "q"}\n]\n```'),
    ("qwen2_5_vl", None, Box(0, 0, 640, 480), '```json\n[\n\t{"bbox_2d": [0, 0, 644, 476]}\n]\n```'),
    ("qwen3_vl", "dög", DOG, '```json\n[\n\t{"bbox_2d": [500, 250, 750, 500], "label": "dög"}\n]\n```'),
    ("deepseek_vl2", "dog", DOG, "<|ref|>dog<|/ref|><|det|>[[500, 250, 749, 500]]<|/det|>"),
    ("internvl", "dog", DOG, "<ref>dog</ref><box>[[500, 250, 750, 500]]</box>"),
    ("minicpm_v", "dog", DOG, "<ref>dog</ref><box>500 250 750 500</box>"),
    ("minicpm_v", None, CORNER, "<point>100 100</point>"),
    ("minicpm_v", None, SIGN, "<quad>100 100 500 100 500 500 100 500</quad>"),
    ("cogvlm", None, Box(32, 120, 640, 480), "[[050,250,999,999]]"),
    ("glm4v", None, Box(32, 120, 640, 480), "[[50,250,1000,1000]]"),
    # Padded to 640 by 640, the picture begins 80 pixels further down: (120 + 80) / 640 = 0.3125, 320 / 640.
    ("llava", None, DOG, "[0.50, 0.31, 0.75, 0.50]"),
    ("plain_thousandths", None, DOG, "[500, 250, 750, 500]"),
    ("plain_thousandths", None, SIGN, "[100, 100, 500, 100, 500, 500, 100, 500]"),
    ("plain_pixels", None, DOG, "[320, 120, 480, 240]"),
    # round(0.25 * 1023) = 256, round(0.5 * 1023) = round(511.5) = 512, round(0.75 * 1023) = 767; y before x
    ("paligemma", "dog", DOG, "<loc0256><loc0512><loc0512><loc0767> dog"),
    # 0.25 / (1 / 1000) is cell 250
    ("florence2", "dog", DOG, "dog<loc_500><loc_250><loc_750><loc_500>"),
    ("florence2", None, Box(0, 0, 640, 480), "<loc_0><loc_0><loc_999><loc_999>"),
    ("florence2", "corner", CORNER, "corner<loc_100><loc_100>"),
    (
        "florence2",
        "sign",
        SIGN,
        "sign<poly><loc_100><loc_100><loc_500><loc_100><loc_500><loc_500><loc_100><loc_500></poly>",
    ),
    ("molmo", "a corner", CORNER, '<point x="10.0" y="10.0" alt="a corner">a corner</point>'),
    # Upper left cell: row 8, column 16; lower right: row ceil(15) = 15, column ceil(23) = 23.
    ("kosmos2", "dog", DOG, "<phrase>dog</phrase><object><patch_index_0272><patch_index_0503></object>"),
]


@pytest.mark.parametrize(("name", "label", "shape", "text"), WRITTEN)
def test_a_notation_writes_its_format_to_the_character(name: str, label: str | None, shape: Shape, text: str) -> None:
    assert load_notation(name).render_answer([(label, shape)], SIZE) == text


@pytest.mark.parametrize("name", notations.names())
def test_a_notation_knows_its_name_and_is_among_the_examples(name: str) -> None:
    notation = load_notation(name)
    assert notation.name == name
    assert name in {each[0] for each in WRITTEN}


# --- Round trips


def _sizes() -> st.SearchStrategy[PictureSize]:
    side = st.integers(1, 5000)
    return st.builds(lambda w, h, rw, rh: PictureSize(w, h, resized=(rw, rh)), side, side, side, side)


def _shapes(corners: int, size: PictureSize) -> st.SearchStrategy[Shape]:
    def to_shape_or_none(fractions: list[tuple[float, float]]) -> Shape | None:
        numbers = [x for corner in fractions for x in corner]
        if corners == 2:
            (x1, x2), (y1, y2) = (sorted(axis) for axis in zip(*fractions, strict=True))
            numbers = [x1, y1, x2, y2]
        try:
            return to_shape(numbers, size, units="norm_1")
        except InvalidObjects:
            return None

    corner = st.tuples(st.floats(0, 1), st.floats(0, 1))
    shape = st.lists(corner, min_size=corners, max_size=corners).map(to_shape_or_none)
    return shape.filter(lambda each: each is not None).map(lambda each: each or CORNER)


LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>|;[]"), max_size=12).map(str.strip)


@pytest.mark.parametrize("name", notations.names())
@settings(max_examples=40)
@given(data=st.data())
def test_a_shape_comes_back_within_half_a_unit_of_the_notation(name: str, data: st.DataObject) -> None:
    notation, size = load_notation(name), data.draw(_sizes())
    corners = data.draw(st.sampled_from(notation.corners or (1, 2, 3, 4, 5)))
    shape, label = data.draw(_shapes(corners, size)), data.draw(LABELS)
    text = "Here: " + notation.render_answer([(label or None, shape)], size)
    read = notation.parse(text, size)
    assert read.malformed == ()
    assert len(read.found) == 1
    units = notation.coordinates.unit(size)
    last = notation.coordinates.last
    for corner, again in zip(shape.corners, read.found[0].shape.corners, strict=True):
        for before, after, unit, side in zip(corner, again, units, (size.width, size.height), strict=True):
            # Kosmos-2 reads the middles of its cells; numbers up to 999 of 1000 cannot say where the last one ends.
            allowed = 1.0 if name == "kosmos2" else 0.5
            if last is not None:
                allowed = max(allowed, before / side * 1000 - last)
            assert abs(before - after) <= allowed * unit * (1 + 1e-9) + 1e-9 * side


@pytest.mark.parametrize(
    "name", ["qwen2_vl", "qwen3_vl", "internvl", "minicpm_v", "cogvlm", "glm4v", "plain_thousandths"]
)
@settings(max_examples=30)
@given(
    sides=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    edges=st.sets(st.integers(0, 999), min_size=2, max_size=2),
)
def test_whole_thousandths_come_back_as_they_were(name: str, sides: tuple[int, int], edges: set[int]) -> None:
    notation, size, (low, high) = load_notation(name), PictureSize(*sides), sorted(edges)
    shape = to_shape([low, low, high, high], size, units="norm_1000")
    assert str(low) in notation.render(shape, size) and str(high) in notation.render(shape, size)
    again = notation.parse(notation.render_answer([(None, shape)], size), size).found[0].shape
    assert notation.render(again, size) == notation.render(shape, size)


@pytest.mark.parametrize("name", ["qwen_vl", "qwen2_vl", "qwen2_5_vl", "internvl", "deepseek_vl2", "paligemma"])
def test_several_things_come_back_with_their_names_and_places(name: str) -> None:
    notation = load_notation(name)
    other = Box(0, 0, 64, 48)
    text = notation.render_answer([("dog", DOG), ("a cat", other)], SIZE)
    found = notation.parse(text, SIZE).found
    assert [each.label for each in found] == ["dog", "a cat"]
    assert found[0].end <= found[1].start
    for each, shape in zip(found, (DOG, other), strict=True):
        numbers = notation.render(shape, SIZE)
        assert numbers in text[each.start : each.end]


# --- Answers as models give them

READ: list[tuple[str, str, list[tuple[str | None, Shape]]]] = [
    (
        "qwen_vl",
        "<ref>two dogs</ref><box>(0,0),(999,999)</box><box>(0,0),(333,333)</box> and <box>(333,0),(999,333)</box>",
        [("two dogs", Box(0, 0, 999, 999)), ("two dogs", Box(0, 0, 333, 333)), (None, Box(333, 0, 999, 333))],
    ),
    ("qwen2_vl", "<|box_start|>( 1, 2 ), (1000, 1000)<|box_end|>", [(None, Box(0.999, 1.998, 999, 999))]),
    (
        "internvl",
        "<ref>cats</ref><box>[[0, 0, 500, 500], [500, 500, 1000, 1000]]</box>",
        [("cats", Box(0, 0, 499.5, 499.5)), ("cats", Box(499.5, 499.5, 999, 999))],
    ),
    (
        "cogvlm",
        "A dog [[000,000,500,500;500,500,999,999]].",
        [(None, Box(0, 0, 499.5, 499.5)), (None, Box(499.5, 499.5, 998.001, 998.001))],
    ),
    ("glm4v", "<|begin_of_box|>[[0, 0, 500, 500]]<|end_of_box|>", [(None, Box(0, 0, 499.5, 499.5))]),
    ("plain_pixels", "as said in [1], it is at [10.5, 20] or so", [(None, Point(10.5, 20))]),
    ("qwen3_vl", '{"bbox_2d": [0, 0, 500, 500], "label": "a {b}"} ok', [("a {b}", Box(0, 0, 499.5, 499.5))]),
    ("qwen3_vl", '{"objects": [{"point_2d": [500, 500]}]}', [(None, Point(499.5, 499.5))]),
    (
        "paligemma",
        "<loc0000><loc0000><loc1023><loc0341><seg001><seg127> tall cat ; <loc0000><loc0000><loc0341><loc0341> dog",
        [("tall cat", Box(0, 0, 333, 999)), ("dog", Box(0, 0, 333, 333))],
    ),
    (
        "florence2",
        "</s><s>cat<loc_0><loc_0><loc_99><loc_99><loc_0><loc_0><loc_199><loc_199></s>",
        [("cat", Box(0.4995, 0.4995, 99.4005, 99.4005)), ("cat", Box(0.4995, 0.4995, 199.3005, 199.3005))],
    ),
    (
        "molmo",
        'See <points x1="10.0" y1="20" x2="30" y2="40" alt="&quot;a&quot;">a</points>.',
        [('"a"', Point(99.9, 199.8)), ('"a"', Point(299.7, 399.6))],
    ),
    (
        "kosmos2",
        "<grounding> An image of<phrase> a snowman</phrase><object><patch_index_0000><patch_index_0033>"
        "</delimiter_of_multi_objects/><patch_index_0005><patch_index_0005></object>",
        [
            ("a snowman", Box(15.609375, 15.609375, 46.828125, 46.828125)),
            ("a snowman", Box(156.09375, 0, 187.3125, 31.21875)),
        ],
    ),
]


@pytest.mark.parametrize(("name", "text", "expected"), READ)
def test_an_answer_is_read_back_to_pixels(name: str, text: str, expected: list[tuple[str | None, Shape]]) -> None:
    read = load_notation(name).parse(text, PictureSize(999, 999, resized=(999, 999)))
    assert read.malformed == ()
    assert [each.label for each in read.found] == [label for label, _ in expected]
    for each, (_, shape) in zip(read.found, expected, strict=True):
        assert type(each.shape) is type(shape)
        np.testing.assert_allclose(each.shape.corners, shape.corners, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "piece", "reason"),
    [
        ("qwen_vl", "a <box>(1,2),(3", "<box>(1,2),(3", "not closed; expected '</box>'"),
        ("qwen_vl", "<box>(1,2),(3,4) <box>(1,2)</box>", "<box>(1,2),(3,4) ", "not closed"),
        ("qwen_vl", "<box>one, two</box>", "<box>one, two</box>", "not pairs of numbers"),
        ("qwen_vl", "(1,2)</box>", "</box>", "closes nothing"),
        ("qwen_vl", "<box>(1,2),(3,1000)</box>", "<box>(1,2),(3,1000)</box>", "y is 1000, outside .* 0 to 999"),
        ("qwen_vl", "<box>(5,2),(3,4)</box>", "<box>(5,2),(3,4)</box>", "corners are swapped"),
        ("qwen_vl", "<quad>(5,2),(3,4)</quad>", "<quad>(5,2),(3,4)</quad>", "a box; expected a polygon of 4 corners"),
        ("internvl", "<box>[[1, 2, 3]]</box>", "<box>[[1, 2, 3]]</box>", "3 numbers"),
        ("internvl", "<box>[[1, 2]]</box>", "<box>[[1, 2]]</box>", "a point; expected a box"),
        ("internvl", "<box>[[1, 2, x]]</box>", "<box>[[1, 2, x]]</box>", "not numbers and commas"),
        ("internvl", "<box>[]</box>", "<box>[]</box>", "not numbers and commas"),
        ("minicpm_v", "<box>1, 2, 3, 4</box>", "<box>1, 2, 3, 4</box>", "spaces between"),
        ("cogvlm", "a [[1,2,3", "[[1,2,3", "not closed"),
        ("cogvlm", "a [[1,2,-3,4]] b", "[[1,2,-3,4]]", "x is -3, outside"),
        ("plain_pixels", "[1, 2, nan, 4]", "[1, 2, ", "not closed"),
        ("plain_pixels", "[1, 2, 99999999999999999999, 4]", "[1, 2, 99999999999999999999, 4]", "not numbers"),
        ("qwen3_vl", 'a [{"bbox_2d": [1, 2,', '{"bbox_2d": [1, 2,', "broken or cut JSON"),
        ("qwen3_vl", '{"bbox_2d": [1, 2, 3, NaN]}', '{"bbox_2d": [1, 2, 3, NaN]}', "not a list of numbers"),
        ("qwen3_vl", '{"bbox_2d": "dog"}', '{"bbox_2d": "dog"}', "not a list of numbers"),
        ("qwen3_vl", '{"bbox_2d": [1, 2]}', '{"bbox_2d": [1, 2]}', "2 numbers are a point; expected a box"),
        ("paligemma", "<loc0001><loc0002><loc0003> cat", "<loc0001><loc0002><loc0003>", "3 numbers"),
        ("paligemma", "<loc0001><loc0002><loc00", "<loc0001><loc0002><loc00", "cut inside"),
        ("paligemma", "<loc0001><loc0002><loc1024><loc0003>", "<loc0001><loc0002><loc1024><loc0003>", "y is 1024"),
        ("florence2", "<loc_1><loc_2><loc_3>", "<loc_1><loc_2><loc_3>", "3 numbers"),
        ("florence2", "<poly><loc_1><loc_2></poly>", "<poly><loc_1><loc_2></poly>", "less than three corners"),
        ("florence2", "cat<loc_1><loc_2><loc_3><loc_4><lo", "<lo", "cut inside"),
        ("molmo", '<point x="101" y="3">', '<point x="101" y="3">', "x is 101"),
        ("llava", "[0.1, 0.02, 0.5, 0.5]", "[0.1, 0.02, 0.5, 0.5]", "in the padding"),
        ("molmo", "<point here>", "<point here>", "a tag without"),
        ("molmo", '<point x="1', '<point x="1', "not closed"),
        ("kosmos2", "<object><patch_index_0001></object>", "<object><patch_index_0001></object>", "not two cells"),
        ("kosmos2", "<object><patch_index_1024><patch_index_1025></object>", None, "cell 1025 is outside"),
    ],
)
def test_a_malformed_answer_comes_back_as_text_with_a_reason(
    name: str, text: str, piece: str | None, reason: str
) -> None:
    malformed = load_notation(name).parse(text, SIZE).malformed
    assert len(malformed) == 1
    assert malformed[0].text == text[malformed[0].start : malformed[0].end] == (piece or text)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(malformed[0].reason)


PIECES = st.sampled_from(
    [
        *("<ref>", "</ref>", "<box>", "</box>", "<quad>", "<|box_start|>", "<|box_end|>", "<|det|>", "<|/det|>"),
        *("[", "]", "[[", "]]", "(", ")", ",", ";", ".", "-", "1", "250", "1e9", "9" * 5000, "٣", "NaN"),
        *("{", "}", '"', '{"bbox_2d":', '{"point_2d":[1,2]', "\\", "<loc0012>", "<loc_12>", "<loc", "<sep>"),
        *("<poly>", "</poly>", '<point x="1"', 'y="2"', ">", ' alt="', "<object>", "<patch_index_0001>", "</object>"),
        *("\ud800", " ", "\n", "dog"),
    ]
)


@pytest.mark.parametrize("name", notations.names())
@settings(max_examples=60)
@given(pieces=st.lists(PIECES, max_size=30), noise=st.text(max_size=10))
def test_no_answer_makes_a_notation_raise(name: str, pieces: list[str], noise: str) -> None:
    text = "".join(pieces) + noise
    read = load_notation(name).parse(text, SIZE)
    for start, end in [*((it.start, it.end) for it in read.found), *((it.start, it.end) for it in read.malformed)]:
        assert 0 <= start < end <= len(text)
    for found in read.found:
        for x, y in found.shape.corners:
            assert 0 <= x <= SIZE.width + 1e-9 and 0 <= y <= SIZE.height + 1e-9


@pytest.mark.parametrize("name", notations.names())
@pytest.mark.parametrize(
    "piece",
    ["<ref>", "<box>", "[", "[[1,", "(1,", '{"bbox_2d":', '{"', "<point ", 'x="1" ', "<loc_1>", "<loc0001>", " "],
)
def test_a_hostile_answer_takes_time_that_grows_with_its_length_only(name: str, piece: str) -> None:
    start = time.perf_counter()
    load_notation(name).parse(piece * (100_000 // len(piece)), SIZE)
    # A few tenths at most were measured; a quadratic reader takes a minute and more.
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("name", notations.names())
def test_the_format_that_a_docstring_shows_is_read(name: str) -> None:
    lines = (importlib.import_module(f"swift_templates.notations.{name}").__doc__ or "").splitlines()
    read = load_notation(name).parse("\n".join(line for line in lines if line.startswith("    ")), SIZE_OF_EXAMPLES)
    assert read.found and not read.malformed


# --- The check for other notations


@pytest.mark.parametrize("name", notations.names())
def test_every_notation_keeps_the_laws(name: str) -> None:
    check_notation(load_notation(name))


def test_the_check_finds_a_notation_that_reads_other_pixels_than_it_writes() -> None:
    class Shifted(Coordinates):
        def decode(self, numbers: Sequence[float], size: PictureSize) -> tuple[tuple[float, float], ...] | str:
            return super().decode([max(number - 1, 0) for number in numbers], size)

    broken = dataclasses.replace(load_notation("plain_thousandths"), coordinates=Shifted(scale=1000))
    with pytest.raises(LawBroken, match="expected it within"):
        check_notation(broken)
