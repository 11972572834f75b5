"""What a user points at, resolved: base model, adapters in order, template.

A training checkpoint brings a `swift.json` that names its base; a merged or foreign model is a whole model folder; a
folder of PEFT's own names its base in `adapter_config.json`. All become the same `ServedModel`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from swift_templates.args import PromptArgs
from swift_templates.registry import nearest
from swift_tuners.args import ModelArgs
from swift_tuners.checkpoint import SwiftConfig
from swift_tuners.checkpoint_folder import choose_base, fill_options, find_checkpoint, read_record
from swift_tuners.models.resolve import ResolvedModel
from swift_tuners.quantizer_args import QuantizationArgs

from .args import EngineArgs
from .errors import InvalidInferArgs

_ADAPTER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What an engine loads.

    Attributes:
        model: how the base is loaded.
        quantization: how its weights are quantized on the way.
        adapters: name to folder, in the order of attachment.
        adapter: the one that answers; None is the model as loaded.
        template: how conversations become tokens: as the answering adapter was trained.
        resolved: where the model lies, once that is known.
    """

    model: ModelArgs
    quantization: QuantizationArgs = field(default_factory=QuantizationArgs)
    adapters: dict[str, Path]
    adapter: str | None
    template: PromptArgs
    resolved: ResolvedModel | None = None


def resolve_served(
    engine: EngineArgs, model: ModelArgs, template: PromptArgs, quantization: QuantizationArgs | None = None
) -> ServedModel:
    """Say what is to be loaded.

    Args:
        engine: names a checkpoint, adapters, or neither.
        model: the base; without a name, what the checkpoint stands on.
        quantization: of the base; by default as it was trained, or none where the user names another base.
        template: what is left open is filled from the record of the answering checkpoint.

    Raises:
        InvalidInferArgs: two adapters of one name or of different bases, or none of several is chosen.
        SwiftTunersError: a folder is not a checkpoint.
    """
    quantization = quantization or QuantizationArgs()
    adapters: dict[str, Path] = {}
    if engine.ckpt_dir is not None:
        folder = find_checkpoint(Path(engine.ckpt_dir))
        record = read_record(folder)
        if not record.tuners:
            # A whole model, which adapters may stand on.
            model, template = fill_options(replace(model, model=str(folder)), record), fill_template(template, record)
        else:
            adapters["default"] = folder
    for spec in engine.adapters:
        name, path = _split_adapter(spec)
        if name in adapters:
            raise InvalidInferArgs(
                f"two adapters are named {name!r}; name them apart, as --adapters first=DIR second=DIR"
            )
        adapters[name] = find_checkpoint(path)
    adapter = _choose_adapter(engine.adapter, list(adapters))
    if adapter is not None:
        record = read_record(adapters[adapter])
        _check_bases(model, adapters)
        if model.model is None:
            quantization = fill_options(quantization, record)
        model, template = choose_base(model, record), fill_template(template, record)
    return ServedModel(model=model, quantization=quantization, adapters=adapters, adapter=adapter, template=template)


def fill_template(given: PromptArgs, record: SwiftConfig) -> PromptArgs:
    """Return template options with what is left open filled in as the checkpoint was trained."""
    return replace(
        given,
        template=given.template if given.template is not None else record.template,
        system=given.system if given.system is not None else record.system,
        response_prefix=given.response_prefix or record.response_prefix,
        enable_thinking=given.enable_thinking if given.enable_thinking is not None else record.enable_thinking,
    )


def _choose_adapter(wanted: str | None, names: list[str]) -> str | None:
    if wanted is None and len(names) > 1:
        raise InvalidInferArgs(
            f"several adapters are given: {', '.join(names)}; choose who answers with --adapter NAME"
        )
    if wanted is not None and wanted not in names:
        raise InvalidInferArgs(f"adapter {wanted!r} is not given; {nearest(wanted, names)}")
    return wanted if wanted is not None else next(iter(names), None)


def _check_bases(model: ModelArgs, adapters: dict[str, Path]) -> None:
    bases = {name: read_record(folder).base_model for name, folder in adapters.items()}
    if model.model is None and len(set(bases.values())) > 1:
        named = ", ".join(f"{name} on {base}" for name, base in bases.items())
        raise InvalidInferArgs(f"the adapters stand on different models: {named}; serve them apart, or name a --model")


def _split_adapter(spec: str) -> tuple[str, Path]:
    name, equals, path = spec.partition("=")
    if not equals or Path(spec).exists():
        # A folder may well have an equals sign in its name.
        name, path = Path(spec).resolve().name, spec
    if not _ADAPTER_NAME.fullmatch(name):
        raise InvalidInferArgs(
            f"adapter {spec!r} would be named {name!r}; expected letters, digits, underscores and hyphens: "
            "name it, as --adapters NAME=DIR"
        )
    return name, Path(path)
