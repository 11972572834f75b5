"""How options are called; the argument classes here are small ones of the tests' own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from swift_cli.errors import UnknownOption, UnsupportedOption
from swift_cli.field_helps import read_field_helps
from swift_cli.options import Options, Registry
from swift_export.args import ExportArgs
from swift_infer.args import InferArgs
from swift_train.args import SftArgs
from swift_tuners.registry import Registry as TunersRegistry

BRUSHES = {
    "thick": "width: int = 9\n    colour: str = 'red'",
    "thin": "sharpness: float = 0.5\n    colour: str = 'red'",
}


@dataclass
class Canvas:
    """What is painted on."""

    canvas: str = "linen"
    """Which cloth."""
    colour: str = "white"
    """Ground."""


@dataclass
class Canvases:
    """Two canvases of one class."""

    front: Canvas = field(default_factory=Canvas)
    canvas: Canvas = field(default_factory=Canvas)


@pytest.fixture
def brushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[type, Registry]]:
    """A registry of two brushes, each in a file of its own."""
    package = tmp_path / "brushes_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("class BrushArgs: 'Options of one brush.'")
    for name, body in BRUSHES.items():
        (package / f"{name}.py").write_text(
            "from dataclasses import dataclass\n"
            "from . import BrushArgs\n\n"
            f"@dataclass\nclass {name.title()}(BrushArgs):\n    'Brush.'\n\n    {body}\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    base = importlib.import_module(package.name).BrushArgs
    yield {base: TunersRegistry(kind="brush", package=package.name, base=base)}
    for module in [name for name in sys.modules if name.partition(".")[0] == package.name]:
        del sys.modules[module]


def make_painting(registries: Mapping[type, Registry], brush: type | None = None) -> type:
    """Return an argument class with a brush chosen by name; by default the thick one."""
    ((base, registry),) = registries.items()
    default = brush or registry.load_class("thick")

    @dataclass
    class Painting:
        """Paint."""

        canvas: Canvas = field(default_factory=Canvas)
        brush: object = field(default_factory=default)

    # The base class exists only while the test runs, so no annotation in this file can name it.
    Painting.__annotations__ = {"canvas": Canvas, "brush": base}
    return Painting


@pytest.mark.parametrize(
    ("args_class", "spelling", "path"),
    [
        (SftArgs, "learning_rate", "train.learning_rate"),
        (SftArgs, "learning-rate", "train.learning_rate"),
        (SftArgs, "train.learning-rate", "train.learning_rate"),
        (SftArgs, "lr", "train.learning_rate"),
        (SftArgs, "train.lr", "train.learning_rate"),
        (SftArgs, "model", "model.model"),
        (SftArgs, "model_id_or_path", "model.model"),
        (SftArgs, "template", "template.template"),
        (SftArgs, "tuner", "tuner.name"),
        (SftArgs, "tuner.name", "tuner.name"),
        (SftArgs, "tuner_type", "tuner.name"),
        (SftArgs, "train-type", "tuner.name"),
        (SftArgs, "rank", "tuner.rank"),
        (SftArgs, "lora_rank", "tuner.rank"),
        (SftArgs, "lora-alpha", "tuner.alpha"),
        (SftArgs, "tuner.target_modules", "tuner.target_modules"),
        (InferArgs, "infer_backend", "engine.infer_backend"),
        (ExportArgs, "ckpt_dir", "export.ckpt_dir"),
        (SftArgs, "dry-run", "dry_run"),
    ],
)
def test_every_spelling_finds_its_option(args_class: type, spelling: str, path: str) -> None:
    assert Options(args_class).find(spelling).path == path


@pytest.mark.parametrize("args_class", [SftArgs, InferArgs, ExportArgs])
def test_no_two_options_share_a_flag(args_class: type) -> None:
    flags = [option.flag for option in Options(args_class)]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("learning_rat", "--learning_rat is unknown; did you mean --learning_rate?"),
        ("lorarank", "--lorarank is unknown; did you mean --lora_rank or --galore_rank?"),
        ("zzz", "--zzz is unknown; --help shows what is known"),
        ("train", "--train is a group of options; name one, such as --train.output_dir"),
        ("name", "--name is unknown"),
    ],
)
def test_a_wrong_spelling_gets_the_nearest_one(spelling: str, message: str) -> None:
    with pytest.raises(UnknownOption) as caught:
        Options(SftArgs).find(spelling)
    assert str(caught.value).startswith(message)


def test_a_field_that_is_not_unique_needs_its_group() -> None:
    options = Options(Canvases)
    assert {option.flag for option in options if option.group} == {
        "front.canvas",
        "front.colour",
        "canvas.canvas",
        "canvas.colour",
    }
    assert options.find("front.colour").path == "front.colour"
    with pytest.raises(UnknownOption, match=r"--colour could be --front.colour or --canvas.colour; say which"):
        options.find("colour")


def test_a_group_chosen_by_name_has_the_options_of_that_name(brushes: Mapping[type, Registry]) -> None:
    painting = make_painting(brushes)
    default = Options(painting, registries=brushes)
    assert (default.chosen, default.find("thick_width").path) == ({"brush": "thick"}, "brush.width")

    thin = Options(painting, chosen={"brush": "thin"}, registries=brushes)
    assert (thin.find("brush").default, thin.find("sharpness").default) == ("thin", 0.5)
    # Two groups have a colour; only one of them is the brush's.
    assert thin.find("thin_colour").path == "brush.colour"


@pytest.mark.parametrize("spelling", ["width", "thick_width", "brush.width"])
def test_an_option_of_another_choice_is_said_to_be_one(brushes: Mapping[type, Registry], spelling: str) -> None:
    options = Options(make_painting(brushes), chosen={"brush": "thin"}, registries=brushes)
    with pytest.raises(UnknownOption, match=f"--{spelling} is an option of brush 'thick', but the brush is 'thin'"):
        options.find(spelling)


def test_a_default_that_no_registry_has_is_refused(brushes: Mapping[type, Registry]) -> None:
    with pytest.raises(UnsupportedOption, match="no registered brush; expected one of thick, thin"):
        Options(make_painting(brushes, brush=Canvas), registries=brushes)


def test_a_class_that_is_no_dataclass_of_groups_is_refused() -> None:
    @dataclass
    class Flat:
        """A field where a group belongs."""

        width: int = 1

    with pytest.raises(UnsupportedOption, match="expected a dataclass, the group of its options"):
        Options(Flat)
    with pytest.raises(UnsupportedOption, match="is no argument class"):
        Options(int)  # type: ignore[arg-type]  # the mistake under test


def test_helps_are_the_literals_under_the_fields_of_a_class_and_its_parents() -> None:
    @dataclass
    class Fresco(Canvas):
        """Wet plaster."""

        depth: int = 1
        """How deep,
        in millimetres."""
        bare: int = 0

    assert read_field_helps(Fresco) == {
        "canvas": "Which cloth.",
        "colour": "Ground.",
        "depth": "How deep,\nin millimetres.",
    }
