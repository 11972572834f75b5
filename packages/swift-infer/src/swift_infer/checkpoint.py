"""What a user points at, resolved: base model, adapters in order, template.

A training checkpoint brings a `swift.json` that names its base; a merged or foreign model is a whole model folder; a
folder of PEFT's own names its base in `adapter_config.json`. All become the same `ServedModel`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from swift_templates.args import TemplateArgs
from swift_tuners.args import ModelArgs
from swift_tuners.checkpoint import SwiftConfig
from swift_tuners.checkpoint_folder import choose_base, find_checkpoint, read_record

from .args import EngineArgs
from .errors import InvalidInferArgs


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What an engine loads.

    Attributes:
        model: how the base is loaded.
        adapters: name to folder, in the order of attachment.
        template: how conversations become tokens.
    """

    model: ModelArgs
    adapters: dict[str, Path]
    template: TemplateArgs


def resolve_served(engine: EngineArgs, model: ModelArgs, template: TemplateArgs) -> ServedModel:
    """Say what is to be loaded.

    Args:
        engine: names a checkpoint, adapters, or neither.
        model: the base; a checkpoint's own base replaces a default `model.model`.
        template: a checkpoint's own family and system prompt fill what is not given.

    Raises:
        InvalidInferArgs: two adapters of one name.
        SwiftTunersError: a folder is not a checkpoint.
    """
    adapters: dict[str, Path] = {}
    if engine.ckpt_dir is not None:
        folder = find_checkpoint(Path(engine.ckpt_dir))
        record = read_record(folder)
        template = _fill(template, record)
        if record.tuners:
            model = choose_base(model, record)
            adapters["default"] = folder
        else:
            model = replace(model, model=str(folder))
    for spec in engine.adapters:
        name, path = _split_adapter(spec)
        if name in adapters:
            raise InvalidInferArgs(
                f"two adapters are named {name!r}; name them apart, as --adapters first=DIR second=DIR"
            )
        adapters[name] = find_checkpoint(Path(path))
        record = read_record(adapters[name])
        template = _fill(template, record)
        model = choose_base(model, record)
    return ServedModel(model=model, adapters=adapters, template=template)


def _split_adapter(spec: str) -> tuple[str, str]:
    name, equals, path = spec.partition("=")
    return (name, path) if equals else (Path(spec).name, spec)


def _fill(template: TemplateArgs, record: SwiftConfig) -> TemplateArgs:
    return replace(template, template=template.template or record.template, system=template.system or record.system)
