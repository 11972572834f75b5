"""`Swift`: tuners on and off a model, in four calls."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from .args import TunerArgs
from .checkpoint import DEFAULT_TUNER, FILE_NAME, PEFT_CONFIG_FILE, SwiftConfig, TunerEntry
from .errors import CheckpointMismatch, InvalidCheckpoint, InvalidName, UnknownName, UnsupportedConfig
from .model import SwiftModel
from .option_types import find_misfit
from .registry import nearest
from .tuner import CONFIG_FILE, AnyTuner, TunerConfig
from .tuners import TUNERS

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@runtime_checkable
class Calibrated(Protocol):
    """A tuner that may start from what the host computes on some data."""

    calibration: Sequence[Mapping[str, Any]] | None

    @property
    def needs_calibration(self) -> bool:
        """Whether it does."""
        ...


class Swift:
    """Attach tuners to a model, load, save and merge them.

    Each call either succeeds or leaves the model as it was.
    """

    @staticmethod
    def prepare_model(
        model: nn.Module,
        config: TunerConfig | Mapping[str, TunerConfig],
        *,
        calibration: Iterable[Mapping[str, Any]] | None = None,
    ) -> SwiftModel:
        """Attach new tuners.

        Args:
            model: any torch module, changed in place; or what an earlier call returned, which then gets more tuners.
            config: one config, for a tuner named 'default', or several by name; ours or PEFT's.
            calibration: arguments of the model's forward, batch by batch, for tuners that start from what the model
                does on some data, such as LoRA by EVA or CorDA.

        Returns:
            The model with its tuners attached, active, in the order of their phases, and trainable.

        Raises:
            UnsupportedConfig: a config is none, does not fit this model, or lacks its calibration; or no tuner uses
                the one that is given.
            TargetNotFound: a target names no module.
            DuplicateName, InvalidName: a tuner's name is taken or cannot be used.
        """
        configs = config if isinstance(config, Mapping) else {DEFAULT_TUNER: config}
        if not configs:
            raise UnsupportedConfig("no config was given; expected one, or several by name")
        tuners = [build_tuner(each, name=_check_name(name)) for name, each in configs.items()]
        if calibration is not None:
            _calibrate(tuners, calibration)
        with _undo_on_error(model) as tuned:
            for tuner in sorted(tuners, key=lambda tuner: tuner.phase):
                tuned.attach(tuner)
        return tuned

    @staticmethod
    def from_pretrained(
        model: nn.Module,
        folder: str | Path,
        adapter_name: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        trainable: bool = False,
    ) -> SwiftModel:
        """Attach the tuners of a checkpoint: one that `save` wrote, or a folder of PEFT's.

        Args:
            model: as for `prepare_model`.
            folder: the checkpoint.
            adapter_name: which of its tuners; by default all. A mapping gives them other names: {'default': 'poems'}.
            trainable: whether they train on, or only answer.

        Returns:
            The model with the tuners attached and active.

        Raises:
            InvalidCheckpoint: the folder or a file in it is missing, truncated or foreign.
            CheckpointMismatch: the checkpoint belongs to another base model.
            UnknownName: the checkpoint holds no tuner of such a name.
            DuplicateName, InvalidName: a tuner's name is taken or cannot be used.
        """
        folder = Path(folder)
        entries = find_tuners(folder)
        names = _choose(adapter_name, [entry.name for entry in entries], folder)
        loaded = [
            (load_tuner(folder / entry.folder, name=_check_name(names[entry.name])), folder / entry.folder)
            for entry in entries
            if entry.name in names
        ]
        with _naming_base(folder, model), _undo_on_error(model) as tuned:
            for tuner, place in sorted(loaded, key=lambda pair: pair[0].phase):
                tuner.trainable = trainable
                tuned.attach(tuner)
                tuner.load(place)
        return tuned

    @staticmethod
    def save(model: SwiftModel, folder: str | Path, *, swift_config: SwiftConfig | None = None) -> SwiftConfig:
        """Write a model's tuners and swift.json; see `SwiftModel.save_pretrained`."""
        return model.save_pretrained(folder, swift_config=swift_config)

    @staticmethod
    def merge(model: SwiftModel) -> nn.Module:
        """Fold a model's active tuners into its host and return that; see `SwiftModel.merge_and_unload`."""
        return model.merge_and_unload()


def build_tuner(config: TunerConfig, *, name: str) -> AnyTuner:
    """Return the tuner that a config describes, not yet attached.

    Raises:
        UnsupportedConfig: it is neither a config of ours nor of PEFT, or an option of ours is of another type.
    """
    if isinstance(config, TunerArgs) and is_dataclass(config):
        misfit = find_misfit(type(config), vars(config))
        if misfit:
            raise UnsupportedConfig(f"{type(config).__name__} of tuner {name!r}: {misfit}")
    build = getattr(config, "build_tuner", None)
    if callable(build) and not isinstance(config, type):
        tuner: AnyTuner = build(name)
        return tuner
    # A config of PEFT cannot exist before peft is imported.
    peft = sys.modules.get("peft")
    if peft is not None and isinstance(config, peft.PeftConfig):
        from .peft_kinds import build_peft_tuner

        return build_peft_tuner(config, name=name)
    raise UnsupportedConfig(
        f"the config of tuner {name!r} is {config!r:.120}; expected a config of swift_tuners or of peft"
    )


def find_tuners(folder: Path) -> list[TunerEntry]:
    """List the tuners of a checkpoint, by its swift.json or, without one, by looking for PEFT's files.

    Raises:
        InvalidCheckpoint: the folder is none, or holds no tuner.
    """
    if not folder.is_dir():
        raise InvalidCheckpoint(f"{str(folder)!r} is no folder; expected a checkpoint that swift or PEFT wrote")
    if (folder / FILE_NAME).exists():
        entries = SwiftConfig.read(folder).tuners
    else:
        places = [".", *sorted(each.name for each in folder.iterdir() if each.is_dir())]
        found = [place for place in places if (folder / place / PEFT_CONFIG_FILE).is_file()]
        entries = [TunerEntry(name=DEFAULT_TUNER if each == "." else each, kind="peft", folder=each) for each in found]
    if not entries:
        whole = (folder / "config.json").exists()
        hint = (
            "it is a whole model: load it with load_model"
            if whole
            else f"expected {FILE_NAME} or {PEFT_CONFIG_FILE} in it"
        )
        raise InvalidCheckpoint(f"{str(folder)!r} holds no tuner; {hint}")
    return entries


def load_tuner(folder: Path, *, name: str) -> AnyTuner:
    """Return the tuner whose config is in a folder; its weights are loaded once it is attached.

    Raises:
        InvalidCheckpoint: the config is missing, damaged or foreign.
        UnknownName: no tuner of its kind is registered.
    """
    if (folder / PEFT_CONFIG_FILE).is_file():
        from .peft_kinds import load_peft_tuner

        return load_peft_tuner(folder, name=name)
    path = folder / CONFIG_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidCheckpoint(
            f"{str(folder)!r} holds neither {PEFT_CONFIG_FILE} nor {CONFIG_FILE}; the checkpoint is incomplete"
        ) from error
    except ValueError as error:
        raise InvalidCheckpoint(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise InvalidCheckpoint(f"{str(path)!r} names no kind; expected a config that a tuner wrote")
    args = TUNERS.load_class(fields.pop("kind"))
    return build_tuner(args.read_config(fields), name=name)


def _calibrate(tuners: Sequence[AnyTuner], calibration: Iterable[Mapping[str, Any]]) -> None:
    """Give batches to the tuners that start from them. Raises UnsupportedConfig."""
    takers = [tuner for tuner in tuners if isinstance(tuner, Calibrated) and tuner.needs_calibration]
    batches = list(calibration)
    if not takers or not batches:
        given = f"{len(batches)} batches" if batches else "no batch"
        described = ", ".join(f"{tuner.name!r} ({tuner.kind})" for tuner in takers or tuners)
        raise UnsupportedConfig(
            f"calibration holds {given}, for {described}; "
            + ("expected one or more" if takers else "none of them starts from data: leave calibration out")
        )
    for taker in takers:
        taker.calibration = batches


@contextmanager
def _undo_on_error(model: nn.Module) -> Iterator[SwiftModel]:
    """Yield the model as a SwiftModel; on an error, take off again what was attached inside the block."""
    tuned = model if isinstance(model, SwiftModel) else SwiftModel(model)
    before = set(tuned.tuners)
    try:
        yield tuned
    except BaseException:
        for name in reversed([name for name in tuned.tuners if name not in before]):
            tuned.detach(name)
        if tuned is not model:
            tuned.unload()
        raise


@contextmanager
def _naming_base(folder: Path, model: nn.Module) -> Iterator[None]:
    """Add the names of both models to the message of a CheckpointMismatch that has them not."""
    try:
        yield
    except CheckpointMismatch as error:
        base = SwiftConfig.read(folder).base_model if (folder / FILE_NAME).is_file() else None
        if base is None or repr(base) in str(error):
            raise
        here = getattr(model, "name_or_path", None) or type(model).__name__
        raise CheckpointMismatch(f"{error}; the checkpoint stands on {base!r}, this is {here!r}") from error


def _check_name(name: object) -> str:
    # The name is also a folder in the checkpoint, and a part of parameter names.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidName(f"a tuner's name is {name!r}; expected letters, digits, underscores and hyphens")
    return name


def _choose(wanted: str | Sequence[str] | Mapping[str, str] | None, known: list[str], folder: Path) -> dict[str, str]:
    """Return new names by the names in the checkpoint."""
    if wanted is None:
        return {name: name for name in known}
    if isinstance(wanted, str):
        wanted = [wanted]
    names = dict(wanted) if isinstance(wanted, Mapping) else {name: name for name in wanted}
    for name in names:
        if name not in known:
            raise UnknownName(f"checkpoint {str(folder)!r} holds no tuner {name!r}; {nearest(name, known)}")
    return names
