"""A tuner of somebody else's, one file with an entry point: found, checked, saved, loaded; and its faults are found."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from swift_tuners import TUNERS, Swift, TunerConfig
from swift_tuners.errors import InvalidCheckpoint, UnknownName
from swift_tuners.testing import answer, check_tuner, disturb, toy_mlp, toy_mlp_inputs

ShiftArgs = Callable[..., TunerConfig]

SOURCE = '''
    """Shift: a trained vector added to the output of one layer."""

    from __future__ import annotations

    from dataclasses import dataclass

    from swift_tuners import Phase, Tuner, TunerArgs


    @dataclass(kw_only=True)
    class ShiftArgs(TunerArgs):
        """Options, and the config that is saved."""

        layer: str = "down"
        fault: str = ""

        def build_config(self) -> ShiftArgs:
            """Return itself."""
            return self

        def build_tuner(self, name: str) -> ShiftTuner:
            """Return the tuner."""
            return ShiftTuner(self, name=name)


    class ShiftTuner(Tuner[ShiftArgs]):
        """Adds the vector by a hook."""

        phase = Phase.HOOK
        kind = "shift"

        def attach(self, model):
            """Hook into the layer."""
            import torch

            self._model = model
            bias = model.get_submodule(self.config.layer).bias
            self._shift = torch.nn.Parameter(torch.full_like(bias, float(self.config.fault == "start")))
            model.register_parameter(f"shift_{self.name}", self._shift)
            self._handle = model.get_submodule(self.config.layer).register_forward_hook(self._add)

        def _add(self, module, inputs, output):
            return output + self._shift if self.active or self.config.fault == "always on" else output

        def parameters(self):
            """Return the vector."""
            host = {"up.weight": self._model.up.weight} if self.config.fault == "trains the host" else {}
            return {f"shift_{self.name}": self._shift} | host

        def state(self):
            """Return the vector under a name that does not depend on the tuner's."""
            return {} if self.config.fault == "saves nothing" else {"shift": self._shift.detach()}

        def activate(self, active):
            """Switch the hook."""
            self.active = active

        def detach(self):
            """Take the hook off."""
            if self.config.fault != "leaves its hook":
                self._handle.remove()
            if self.config.fault != "leaves a parameter":
                del self._model._parameters[f"shift_{self.name}"]
'''


@pytest.fixture(scope="module")
def shift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShiftArgs]:
    """The tuner's argument class, found by its entry point."""
    site = tmp_path_factory.mktemp("site")
    (site / "shift_tuner.py").write_text(dedent(SOURCE))
    info = site / "shift_tuner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shift-tuner\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[swift_tuners.tuners]\nshift = shift_tuner\n")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield TUNERS.load_class("shift")  # type: ignore[misc]  # it is its own config
    sys.path.remove(str(site))
    sys.modules.pop("shift_tuner")


def test_it_is_registered_beside_ours(shift: ShiftArgs) -> None:
    assert {"lora", "shift"} <= set(TUNERS.names())
    with pytest.raises(UnknownName, match="did you mean 'shift'"):
        TUNERS.load("shfit")


def test_it_keeps_the_laws(shift: ShiftArgs) -> None:
    check_tuner(shift, toy_mlp, toy_mlp_inputs(), mergeable=False)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("start", "an untrained tuner changes nothing"),
        ("always on", "a deactivated tuner leaves the host's output"),
        ("trains the host", "a deactivated tuner leaves the host's output"),
        ("saves nothing", "a reloaded tuner answers as the saved one"),
        ("leaves a parameter", "the state dict has the same keys"),
        ("leaves its hook", "removal leaves no hook behind"),
    ],
)
def test_a_broken_law_is_found(shift: ShiftArgs, fault: str, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_tuner(lambda: shift(fault=fault), toy_mlp, toy_mlp_inputs(), mergeable=False)


def test_a_tuner_that_cannot_be_merged_says_so_by_the_law(shift: ShiftArgs) -> None:
    with pytest.raises(ValueError, match=r"tuner 'probe' \(shift\) cannot be folded into weights"):
        check_tuner(shift, toy_mlp, toy_mlp_inputs())


def test_its_checkpoint_is_readable_json_and_safetensors(shift: ShiftArgs, tmp_path: Path) -> None:
    model = Swift.prepare_model(toy_mlp().eval(), {"mine": shift(layer="up")})
    disturb(model)
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "mine" / "tuner_config.json").read_text())
    assert fields == {"kind": "shift", "layer": "up", "fault": ""}
    loaded = Swift.from_pretrained(toy_mlp().eval(), tmp_path, {"mine": "renamed"})
    assert torch.equal(answer(loaded, toy_mlp_inputs()), answer(model, toy_mlp_inputs()))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"kind": "shfit"}, UnknownName, "'shfit' is unknown; did you mean 'shift'"),
        ({"kind": "shift", "colour": 1}, InvalidCheckpoint, "'colour', which this version does not know"),
        ({"layer": "up"}, InvalidCheckpoint, "names no kind"),
    ],
)
def test_a_foreign_config_is_refused(
    shift: ShiftArgs, fields: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    Swift.prepare_model(toy_mlp(), {"mine": shift()}).save_pretrained(tmp_path)
    (tmp_path / "mine" / "tuner_config.json").write_text(json.dumps(fields))
    with pytest.raises(error, match=message):
        Swift.from_pretrained(toy_mlp(), tmp_path)
