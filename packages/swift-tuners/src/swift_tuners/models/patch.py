"""Repairs of single models for what breaks in training, each until it is mended where it comes from.

A patch changes one instance, never a class or a module, and says what it is for: the symptom, where it is reported, and
what ends the need for it. One file in `patches/` is one patch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from ..registry import Registry


class Patch(ABC):
    """One repair.

    Attributes:
        symptom: what a user sees without it.
        link: where it is reported or explained.
        remove_when: what makes it needless; a test fails then.
    """

    symptom: ClassVar[str]
    link: ClassVar[str]
    remove_when: ClassVar[str]

    @abstractmethod
    def concerns(self, model: nn.Module) -> bool:
        """Say whether this model needs it."""

    @abstractmethod
    def apply(self, model: nn.Module) -> None:
        """Change this model."""


PATCHES: Registry[Patch] = Registry(kind="patch", package="swift_tuners.models.patches", base=Patch)
_APPLIED = "_swift_patches"


def apply_patches(model: nn.Module) -> list[str]:
    """Apply every patch that a model needs and has not had yet; return their names.

    Args:
        model: as it was loaded, before tuners are attached.
    """
    before: tuple[str, ...] = getattr(model, _APPLIED, ())
    applied: list[str] = []
    for name in PATCHES.names():
        patch = PATCHES.load_class(name)()
        if name not in before and patch.concerns(model):
            patch.apply(model)
            applied.append(name)
    if applied:
        setattr(model, _APPLIED, (*before, *applied))
    return applied


def model_types(model: nn.Module) -> set[str]:
    """Return the model types in a model's config and its sub-configs; none for a module that is not transformers'."""
    config = getattr(model, "config", None)
    parts = [config, *getattr(config, "sub_configs", {})]
    found = (
        getattr(getattr(config, part, None) if isinstance(part, str) else part, "model_type", None) for part in parts
    )
    return {each for each in found if isinstance(each, str)}
