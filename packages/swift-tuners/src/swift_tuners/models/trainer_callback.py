"""A callback for transformers' Trainer, which saves a model around another one as one bare file of all weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from safetensors import safe_open
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from ..errors import UnsupportedConfig
from ..model import SwiftModel, place_of
from ..tuners._host_training import Place, own_modules, statistics_of
from ..weights import write_safetensors

# Whatever the Trainer hands to a callback by name, the model and the optimizer among it.
Given: TypeAlias = Any


class SaveTuners(TrainerCallback):
    """Has the tuners of a SwiftModel in every checkpoint of transformers' Trainer, as `save_pretrained` writes them.

    Of the file that the Trainer wrote itself, only what tuners hold and train is left: that is what its
    `resume_from_checkpoint` reads. It also tells the tuners how many steps there will be, and each step.

    Args:
        model: the model, if the Trainer gets it inside of another one.

    Example:
        >>> trainer = Trainer(model=tuned, args=arguments, train_dataset=rows, callbacks=[SaveTuners()])
        >>> trainer.train()
        >>> tuned.save_pretrained("my_adapter")
    """

    def __init__(self, model: SwiftModel | None = None) -> None:
        self._model = model

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Given
    ) -> None:
        """Tell the tuners how many steps the run will make, and of a resumed one where they were."""
        model = self._find_model(given)
        model.plan_steps(state.max_steps)
        for name, tuner in model.tuners.items() if state.global_step else ():
            tuner.read_training_state(_folder(args, state) / place_of(name))

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Given
    ) -> None:
        """Tell the tuners that a step is done; its gradients are still there."""
        self._find_model(given).on_step(state.global_step + 1, given.get("optimizer"))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Given) -> None:
        """Write the tuners into the checkpoint."""
        folder = _folder(args, state)
        if not args.should_save or not folder.is_dir():
            return
        model = self._find_model(given)
        model.save_pretrained(folder)
        written = folder / SAFE_WEIGHTS_NAME
        if written.is_file():
            resting = _resting_names(model)
            with safe_open(written, framework="pt") as file:
                kept = {name: file.get_tensor(name) for name in file.keys() if name not in resting}  # noqa: SIM118  # no dict
            write_safetensors(kept, written)

    def _find_model(self, given: dict[str, Any]) -> SwiftModel:
        model = self._model or given.get("model")
        if not isinstance(model, SwiftModel):
            raise UnsupportedConfig(
                f"the Trainer has a {type(model).__name__}; expected what Swift.prepare_model returned: give it to "
                "the Trainer, or to SaveTuners"
            )
        return model


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _resting_names(model: SwiftModel) -> set[str]:
    """Return the names, in the model's state dict, of the host's own tensors that no tuner changes."""
    changed = {id(each) for tuner in model.tuners.values() for each in tuner.parameters().values()}
    places: dict[str, Place] = {}
    own: set[int] = set()
    for path, module in own_modules(model.host):
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in changed:
                places[f"{path}.{name}"] = Place(module, name)
        own |= {id(each) for each in (*module._parameters.values(), *module._buffers.values()) if each is not None}
    own -= changed | {id(place.tensor) for place in statistics_of(places).values()}
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name for name, tensor in named if id(tensor) in own}
