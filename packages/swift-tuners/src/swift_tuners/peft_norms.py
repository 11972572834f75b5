"""LN tuning without named targets: the norms are found by looking, where PEFT knows some architectures by name."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from .errors import TargetNotFound
from .module_map import map_modules
from .peft_tuner import PeftTuner


class NormTuner(PeftTuner):
    """Copies of the host's norms that train."""

    def check_supported(self, model: nn.Module) -> None:
        """Fill in every norm of the language side where no target is named; see `PeftTuner.check_supported`.

        Raises:
            TargetNotFound: the model has no norm.
        """
        super().check_supported(model)
        config = cast("Any", self.config)
        if config.target_modules:
            return
        norms = map_modules(model).norms
        if not norms:
            kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
            raise TargetNotFound(f"the model has no norm to train; it is made of {kinds}: name target_modules")
        config.target_modules = set(norms)
