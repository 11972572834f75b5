"""The laws of a registry: components are found by file name and by entry point, and a user's mistake gets a good error.

They are tried on components in a temporary folder, with both copies of the registry. Another test holds these equal.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import swift_templates.errors
import swift_templates.registry
import swift_tuners.errors
import swift_tuners.registry

PACKAGE = "toolbox.tools"


@dataclass(frozen=True)
class House:
    """One copy of the registry, with its errors."""

    registry: type[swift_tuners.registry.Registry[object] | swift_templates.registry.Registry[object]]
    root: type[Exception]
    unknown: type[Exception]
    duplicate: type[Exception]
    broken: type[Exception]
    missing: type[Exception]


HOUSES = [
    House(
        registry=module.Registry,
        root=root,
        unknown=errors.UnknownName,
        duplicate=errors.DuplicateName,
        broken=errors.BrokenComponent,
        missing=errors.MissingDependency,
    )
    for module, errors, root in [
        (swift_tuners.registry, swift_tuners.errors, swift_tuners.errors.SwiftTunersError),
        (swift_templates.registry, swift_templates.errors, swift_templates.errors.SwiftTemplatesError),
    ]
]

AddFile = Callable[[str, str], None]


@pytest.fixture(params=HOUSES, ids=["swift_tuners", "swift_templates"])
def house(request: pytest.FixtureRequest) -> House:
    """One of the two copies."""
    house: House = request.param
    return house


@pytest.fixture
def add_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddFile]:
    """Write files of a temporary distribution `toolbox`, whose `tools` folder holds `hammer` and `old_saw`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    add("toolbox/__init__.py", "class Tool:\n    pass\n")
    add("toolbox/tools/__init__.py", "")
    add("toolbox/tools/hammer.py", "from toolbox import Tool\nclass Hammer(Tool):\n    pass\n")
    add("toolbox/tools/old_saw.py", "from toolbox import Tool\nSAW = Tool()\n")
    add("toolbox/tools/_sharpen.py", "raise AssertionError('a private file is no component')")
    add("toolbox-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: toolbox\nVersion: 1\nProvides-Extra: drill\n")
    yield add
    # The next test has a toolbox of the same name in another folder.
    for name in list(sys.modules):
        if name.partition(".")[0] in ("toolbox", "elsewhere"):
            del sys.modules[name]


def build_registry(house: House) -> swift_tuners.registry.Registry[object] | swift_templates.registry.Registry[object]:
    """Return the registry of the temporary tools."""
    return house.registry(kind="tool", package=PACKAGE, base=importlib.import_module("toolbox").Tool)


def add_entry_points(add_file: AddFile, *points: str, distribution: str = "elsewhere") -> None:
    """Install a distribution that registers components for the toolbox."""
    lines = "\n".join([f"[{PACKAGE}]", *points])
    add_file(f"{distribution}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    add_file(f"{distribution}-1.dist-info/entry_points.txt", lines + "\n")


def test_components_are_found_by_file_name_without_importing_them(house: House, add_file: AddFile) -> None:
    add_file("toolbox/tools/fragile.py", "raise AssertionError('listing names must not import a component')")
    assert build_registry(house).names() == ["fragile", "hammer", "old_saw"]


def test_a_component_is_a_class_or_an_instance(house: House, add_file: AddFile) -> None:
    registry = build_registry(house)
    assert registry.load("hammer") is importlib.import_module("toolbox.tools.hammer").Hammer
    assert registry.load("old_saw") is importlib.import_module("toolbox.tools.old_saw").SAW


def test_hyphens_and_capitals_do_not_matter(house: House, add_file: AddFile) -> None:
    registry = build_registry(house)
    assert registry.load("Old-Saw") is registry.load("old_saw")


def test_a_class_is_asked_for_where_only_a_class_will_do(house: House, add_file: AddFile) -> None:
    with pytest.raises(house.broken, match="expected a subclass of Tool"):
        build_registry(house).load_class("old_saw")


def test_an_unknown_name_gets_the_nearest_ones(house: House, add_file: AddFile) -> None:
    with pytest.raises(house.unknown, match=r"^tool 'hamer' is unknown; did you mean 'hammer'\?$") as failure:
        build_registry(house).load("hamer")
    assert isinstance(failure.value, KeyError)
    assert isinstance(failure.value, house.root)


def test_an_unknown_name_without_neighbours_gets_the_list(house: House, add_file: AddFile) -> None:
    with pytest.raises(house.unknown, match=r"tool 'quux' is unknown; known are: hammer, old_saw$"):
        build_registry(house).load("quux")


def test_errors_survive_pickling(house: House, add_file: AddFile) -> None:
    with pytest.raises(house.unknown) as failure:
        build_registry(house).load("hamer")
    copy = pickle.loads(pickle.dumps(failure.value))
    assert type(copy) is house.unknown
    assert str(copy) == str(failure.value)


@pytest.mark.parametrize("target", ["elsewhere.chisel:Chisel", "elsewhere.chisel"], ids=["class", "module"])
def test_another_distribution_adds_a_component(house: House, add_file: AddFile, target: str) -> None:
    add_file("elsewhere/chisel.py", "from toolbox import Tool\nclass Chisel(Tool):\n    pass\n")
    add_entry_points(add_file, f"cold-chisel = {target}")
    registry = build_registry(house)
    assert registry.names() == ["cold_chisel", "hammer", "old_saw"]
    assert registry.load("cold_chisel") is importlib.import_module("elsewhere.chisel").Chisel


def test_a_name_taken_by_a_file_is_refused(house: House, add_file: AddFile) -> None:
    add_entry_points(add_file, "hammer = elsewhere.hammer:Hammer")
    message = "'toolbox.tools.hammer' and by 'elsewhere.hammer:Hammer'; rename one"
    with pytest.raises(house.duplicate, match=message) as failure:
        build_registry(house).load("old_saw")
    assert isinstance(failure.value, ValueError)


def test_a_name_taken_by_another_distribution_is_refused(house: House, add_file: AddFile) -> None:
    add_entry_points(add_file, "chisel = elsewhere.chisel:Chisel")
    add_entry_points(add_file, "Chisel = thirdplace.chisel:Chisel", distribution="thirdplace")
    with pytest.raises(house.duplicate, match="tool 'chisel' is claimed by"):
        build_registry(house).names()


def test_a_missing_package_is_named(house: House, add_file: AddFile) -> None:
    add_file("toolbox/tools/lathe.py", "import no_such_lathe.spindle")
    message = "^no_such_lathe is needed by tool 'lathe'; pip install no_such_lathe$"
    with pytest.raises(house.missing, match=message) as failure:
        build_registry(house).load("lathe")
    assert isinstance(failure.value, ImportError)


def test_a_missing_package_is_asked_for_by_its_extra(house: House, add_file: AddFile) -> None:
    add_file("toolbox/tools/drill.py", "import no_such_drill")
    message = r"^no_such_drill is needed by tool 'drill'; pip install 'toolbox\[drill\]'$"
    with pytest.raises(house.missing, match=message):
        build_registry(house).load("drill")


def test_a_missing_module_of_the_package_itself_is_no_missing_dependency(house: House, add_file: AddFile) -> None:
    add_file("toolbox/tools/plane.py", "import toolbox.blades")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'toolbox\.blades'") as failure:
        build_registry(house).load("plane")
    assert not isinstance(failure.value, house.root)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        pytest.param("class Twin(Tool): pass\nclass Other(Tool): pass\n", 2, id="two classes"),
        pytest.param("class Twin(Tool): pass\nTWIN = Twin()\n", 2, id="a class and its instance"),
        pytest.param("class _Hidden(Tool): pass\n", 0, id="only a private one"),
        pytest.param("from toolbox.tools.hammer import Hammer\n", 0, id="only somebody else's"),
    ],
)
def test_a_file_without_exactly_one_component_is_refused(
    house: House, add_file: AddFile, source: str, count: int
) -> None:
    add_file("toolbox/tools/twin.py", "from toolbox import Tool\n" + source)
    expected = f"toolbox.tools.twin defines {count} public components; a tool file defines exactly one Tool"
    with pytest.raises(house.broken, match=expected) as failure:
        build_registry(house).load("twin")
    assert isinstance(failure.value, TypeError)


def test_an_entry_point_to_something_else_is_refused(house: House, add_file: AddFile) -> None:
    add_file("elsewhere/chisel.py", "Chisel = 'a chisel'\n")
    add_entry_points(add_file, "chisel = elsewhere.chisel:Chisel")
    with pytest.raises(house.broken, match=r"'elsewhere\.chisel:Chisel' is 'a chisel'; expected a Tool"):
        build_registry(house).load("chisel")
