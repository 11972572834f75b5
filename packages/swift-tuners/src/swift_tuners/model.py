"""A host model with its tuners: it answers as the host does, with the active tuners' effect.

The host is changed in place and keeps its class; this wrapper adds the tuners' methods and passes everything else on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .checkpoint import DEFAULT_TUNER, SwiftConfig, TunerEntry, package_versions
from .errors import DuplicateName, InvalidCheckpoint, UnknownName, UnsupportedConfig
from .host_weights import check_has_values, check_not_shared
from .offloading import OffloadedTensors
from .registry import nearest
from .rows import read_rows, watch_batches
from .running_statistics import RestingNorms
from .tuner import AnyTuner, Device, ParamGroup, RowChoice, Tuner
from .wrapped_module import ParameterCount as ParameterCount
from .wrapped_module import name_tied_once, take_signature

_MARK = "_swift_is_host"
"""Attribute of a module that stands in a SwiftModel."""


class SwiftModel(nn.Module):
    """A host and its tuners.

    Made by `Swift.prepare_model` and `Swift.from_pretrained`. While it lives, the host's own parameters are frozen, but
    for those that a tuner trains; `unload` and `merge_and_unload` give the host back.

    Args:
        host: any torch module.

    Raises:
        UnsupportedConfig: it is none, or it stands in another SwiftModel.
    """

    host: nn.Module
    # transformers' Trainer refuses quantized models without adapters; this is how it asks for them.
    _hf_peft_config_loaded = True

    def __init__(self, host: nn.Module) -> None:
        if not isinstance(host, nn.Module):
            raise UnsupportedConfig(
                f"the model is {host!r:.80}; expected a torch module, such as load_model(...).model"
            )
        if _MARK in vars(host):
            raise UnsupportedConfig(
                f"this {type(host).__name__} stands in a SwiftModel already, which keeps account of its tuners; "
                "give that one, or unload() it first"
            )
        super().__init__()
        self.host = host
        self.training = host.training
        self._tuners: dict[str, AnyTuner] = {}
        self._offloaded: dict[str, OffloadedTensors] = {}
        self._host_flags = [(parameter, parameter.requires_grad) for parameter in host.parameters()]
        self._resting = RestingNorms()
        self._row_choice: RowChoice | None = None
        self._row_watch: RemovableHandle | None = None
        vars(host)[_MARK] = True
        take_signature(self, host)
        name_tied_once(self)
        self._refresh_gradients()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        take_signature(self, self.host)

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever the host takes and returns
        """Run the host with its active tuners; arguments and result are the host's."""
        return self.host(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the host has
        """Return what the host has under this name: config, device, generate, gradient_checkpointing_enable, ..."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            host = self.__dict__.get("_modules", {}).get("host")
            # Protocols of Python, such as copying, are about this object and not about the host.
            if host is None or name.startswith("__"):
                raise
            return getattr(host, name)

    def train(self, mode: bool = True) -> SwiftModel:
        """Set the mode, but for norms that no tuner trains: their running statistics stay as they are."""
        super().train(mode)
        self._resting.update(self.host)
        return self

    @property
    def tuners(self) -> dict[str, AnyTuner]:
        """The tuners by name, in the order in which they were attached."""
        return dict(self._tuners)

    @property
    def active_tuners(self) -> list[str]:
        """The names of the tuners that are switched on."""
        return [name for name, tuner in self._tuners.items() if tuner.active]

    def attach(self, tuner: AnyTuner) -> None:
        """Attach a tuner to the host, active; on an error the model is as it was.

        Raises:
            DuplicateName: there is a tuner of this name.
            UnsupportedConfig: the tuner belongs below one that is attached already, cannot live with one, or does not
                fit the host.
            TargetNotFound: a target names no module.
        """
        if tuner.name in self._tuners:
            raise DuplicateName(
                f"the model has a tuner {tuner.name!r} already; choose another name, or detach that one first"
            )
        for other in self._tuners.values():
            if other.phase > tuner.phase:
                raise UnsupportedConfig(
                    f"tuner {tuner.name!r} ({tuner.kind}) must be attached before {other.name!r} ({other.kind}); "
                    "give both to one call of Swift.prepare_model, which orders them"
                )
            reason = tuner.conflict_with(other) or other.conflict_with(tuner)
            if reason:
                raise UnsupportedConfig(
                    f"tuners {other.name!r} ({other.kind}) and {tuner.name!r} ({tuner.kind}) cannot be on one model: "
                    f"{reason}; choose one of them"
                )
        try:
            tuner.attach(self.host)
            try:
                check_has_values(tuner, self.host)
                check_not_shared(tuner, self._tuners.values(), self.host)
            except UnsupportedConfig:
                tuner.detach()
                raise
            self._tuners[tuner.name] = tuner
        finally:
            self._refresh_gradients()

    def detach(self, name: str) -> None:
        """Take one tuner off. Raises UnknownName."""
        tuner = self._tuner(name)
        try:
            self._restore(name)
        except InvalidCheckpoint:
            # The temporary file is lost, and with it what goes anyway.
            self._offloaded.pop(name).abandon()
        tuner.detach()
        del self._tuners[name]
        self._refresh_gradients()

    def activate(self, *names: str) -> None:
        """Switch tuners on, besides those that are on. Raises UnknownName; then nothing has changed."""
        self.set_active_tuners({*self.active_tuners, *map(self._known, names)})

    def deactivate(self, *names: str) -> None:
        """Switch tuners off; without names, all of them: then the host answers bit for bit as without tuners."""
        off = {self._known(name) for name in names} if names else set(self._tuners)
        self.set_active_tuners(name for name in self.active_tuners if name not in off)

    def set_active_tuners(self, names: str | Iterable[str]) -> None:
        """Switch exactly these tuners on; those that were offloaded come back. On an error nothing has changed.

        Raises:
            UnknownName: a tuner of such a name is not attached.
            UnsupportedConfig: two of them exclude each other.
        """
        wanted = {self._known(name) for name in ([names] if isinstance(names, str) else names)}
        before = set(self.active_tuners)
        for name in wanted:
            self._restore(name)
        try:
            self._switch(wanted)
        except BaseException:
            self._switch(before)
            raise
        finally:
            self._refresh_gradients()

    @contextmanager
    def rows(self, names: Sequence[str | Sequence[str] | None]) -> Iterator[None]:
        """Choose tuners for each row of a batch, while the block runs; afterwards all is as before, other choices too.

        Args:
            names: for each row a tuner, several, or None for the host alone.

        Raises:
            UnknownName: a tuner of such a name is not attached.
            UnsupportedConfig: a method acts on a whole batch only, or the names are no list.

        Example:
            >>> with model.rows(["poems", None, "code"]):
            ...     model(input_ids=three_rows)
        """
        choice = read_rows(names)
        before, outer = self.active_tuners, self._row_choice
        self.set_active_tuners(sorted(set[str]().union(*choice)))
        try:
            self._choose_rows(choice)
            yield
        finally:
            self._choose_rows(None)
            self.set_active_tuners(before)
            self._choose_rows(outer)

    def offload(self, *names: str, device: Device = "cpu") -> int:
        """Switch tuners off and move their weights out of the way; activating one brings it back.

        Args:
            names: which; without names, all that are off.
            device: 'cpu' is main memory; 'meta' is a temporary file, so that they take no memory.

        Returns:
            The bytes that this frees on the devices where the weights were.

        Raises:
            UnknownName: a tuner of such a name is not attached; then nothing has changed.
        """
        chosen = [self._known(name) for name in names] or [
            each for each in self._tuners if not self._tuners[each].active
        ]
        if chosen:
            self.deactivate(*chosen)
        for name in chosen:
            self._restore(name)
            self._offloaded[name] = OffloadedTensors(self.host, self._tuners[name].tensors(), device)
        return sum(self._offloaded[name].num_bytes for name in chosen)

    def set_trainable(self, name: str, trainable: bool) -> None:
        """Let a tuner train, or only answer. Raises UnknownName."""
        self._tuner(name).trainable = trainable
        self._refresh_gradients()

    def param_groups(self, learning_rate: float) -> list[ParamGroup]:
        """Return what trains, with the learning rates that the tuners want, given the run's."""
        trained = [tuner for tuner in self._tuners.values() if tuner.trainable and tuner.active]
        return [group for tuner in trained for group in tuner.param_groups(learning_rate)]

    def plan_steps(self, num_steps: int) -> None:
        """Tell the tuners how many optimizer steps the run will make.

        Raises:
            UnsupportedConfig: a tuner's schedule does not fit into so few.
        """
        for tuner in self._tuners.values():
            tuner.plan_steps(num_steps)

    def on_batch(self, labels_BT: Tensor | None) -> None:
        """Tell the tuners the labels of the forward passes to come (-100 is not trained); None ends it."""
        for tuner in self._tuners.values():
            tuner.on_batch(labels_BT)

    def on_step(self, step: int, optimizer: Optimizer | None = None) -> None:
        """Tell the tuners that optimizer step number `step`, counted from 1, is done.

        Call it after `optimizer.step()` and before `zero_grad()`: some methods look at the gradients.

        Args:
            step: its number.
            optimizer: what made it; some methods release its state for parameters that rest.
        """
        acting = [tuner for tuner in self._tuners.values() if type(tuner).on_step is not Tuner.on_step]
        for tuner in acting:
            tuner.on_step(step, optimizer)
        # Walking over all parameters takes 15 ms on a model of 135 million.
        if acting:
            self._refresh_gradients()

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the active tuners add to the loss of each step, or None."""
        losses = [tuner.auxiliary_loss() for tuner in self._tuners.values() if tuner.active and tuner.trainable]
        found = [loss for loss in losses if loss is not None]
        return sum(found[1:], start=found[0]) if found else None

    def count_parameters(self) -> ParameterCount:
        """Count the parameters that train, and all of them, tuners included."""
        parameters = list(self.host.parameters())
        trainable = sum(each.numel() for each in parameters if each.requires_grad)
        return ParameterCount(trainable, sum(each.numel() for each in parameters))

    def print_trainable_parameters(self) -> None:
        """Print how much of the model trains."""
        print(self.count_parameters())

    def save_pretrained(self, folder: str | Path, *, swift_config: SwiftConfig | None = None) -> SwiftConfig:
        """Write every tuner, and swift.json.

        The tuner 'default' goes into the folder itself, the others into sub-folders of their names, as PEFT does it.

        Args:
            folder: made if it is missing.
            swift_config: what the model cannot know, such as its template; its tuners and packages are filled in here.

        Returns:
            What was written to swift.json.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for name, tuner in self._tuners.items():
            place = place_of(name)
            with self._at_hand(name):
                tuner.save(folder / place)
            entries.append(TunerEntry(name=name, kind=tuner.kind, folder=place))
        known = swift_config or SwiftConfig(base_model=getattr(self.host, "name_or_path", None) or None)
        config = replace(known, tuners=entries, packages={**package_versions(), **known.packages})
        config.write(folder)
        return config

    def merge_and_unload(self) -> nn.Module:
        """Fold the active tuners into the host's weights, take the others off, and return the host.

        Raises:
            CannotMerge: a tuner cannot be folded in; nothing has changed.
        """
        active = [self._tuners[name] for name in self.active_tuners]
        for tuner in active:
            tuner.check_merge()
        for name in [name for name, tuner in self._tuners.items() if not tuner.active]:
            self.detach(name)
        for tuner in active:
            tuner.merge()
            del self._tuners[tuner.name]
        return self.unload()

    def unload(self) -> nn.Module:
        """Take every tuner off and return the host, as it was before."""
        for name in reversed(list(self._tuners)):
            self.detach(name)
        for parameter, flag in self._host_flags:
            parameter.requires_grad_(flag)
        self._resting.release(self.host)
        vars(self.host).pop(_MARK, None)
        return self.host

    def _known(self, name: str) -> str:
        return self._tuner(name).name

    def _tuner(self, name: str) -> AnyTuner:
        if not isinstance(name, str) or name not in self._tuners:
            raise UnknownName(f"tuner {name!r} is not attached; {nearest(str(name), self._tuners)}")
        return self._tuners[name]

    def _choose_rows(self, choice: RowChoice | None) -> None:
        self._row_choice = choice
        self._row_watch = watch_batches(self.host, choice, instead_of=self._row_watch)
        for tuner in self._tuners.values():
            tuner.choose_rows(None)
        if choice is not None:
            for name in self.active_tuners:
                self._tuners[name].choose_rows(choice)

    def _switch(self, wanted: set[str]) -> None:
        # Off before on, so that two which exclude each other can be exchanged.
        for active in (False, True):
            for name, tuner in self._tuners.items():
                if (name in wanted) is active:
                    tuner.activate(active)

    def _restore(self, name: str) -> None:
        if name in self._offloaded:
            self._offloaded[name].restore()
            del self._offloaded[name]

    @contextmanager
    def _at_hand(self, name: str) -> Iterator[None]:
        """Have a tuner's weights back while the block runs."""
        offloaded = self._offloaded.get(name)
        self._restore(name)
        try:
            yield
        finally:
            if offloaded is not None:
                self.offload(name, device=offloaded.device)

    def _refresh_gradients(self) -> None:
        """Let exactly the parameters of trainable, active tuners require gradients."""
        for parameter in self.host.parameters():
            parameter.requires_grad_(False)
        for tuner in self._tuners.values():
            if tuner.trainable and tuner.active:
                for parameter in tuner.trained_now().values():
                    parameter.requires_grad_(True)
        self._resting.update(self.host)


def place_of(name: str) -> str:
    """Return the folder of a tuner in a checkpoint."""
    return "." if name == DEFAULT_TUNER else name
