"""Rewards from a Python file of the user's own: `load_reward("plugin.py:my_reward")`.

The file is the user's explicit choice and is run as an import would run it. What it defines is a Reward, or anything
that TRL could call: `def my_reward(completions, **kwargs) -> list[float]`, async or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from .errors import SwiftDataError
from .fields import quote
from .reward import Column, Completion, Reward, RewardExample, make_reward, missing_column, run_scorer, to_text

Function = Callable[..., object]


class InvalidPlugin(SwiftDataError, ImportError):
    """A plugin's file cannot be read or run, or does not define the reward that was asked for."""


@dataclass(frozen=True)
class FunctionReward(Reward):
    """A function in TRL's manner as a reward.

    It gets `completions` as they are given, and every column under its name, `prompts` too; of a function without
    `**kwargs`, only those that it names. Where it raises an error, it is called again with single rows, to find the one
    that is to blame.
    """

    function: Function
    """Takes lists by name, returns a list of numbers; None where it does not apply."""
    name: str | None = None
    """What messages call it; by default the function's own name and file."""
    conversational: bool | None = None
    """Hand over completions and prompts as lists of messages, or (false) completions as texts; by default as given."""

    examples: ClassVar[tuple[RewardExample, ...]] = ()

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"the reward function {self.name or getattr(self.function, '__name__', repr(self.function))!r}"

    def __call__(self, completions: Sequence[Completion], **columns: object) -> list[float]:
        """Call the function.

        Raises:
            MissingColumn: the function names a column that is not given.
            RewardFailed: the function raised an error; the message says for which row.
            InvalidRewards: it returned something else than a number for each completion.
        """
        wanted = self._choose(columns)
        rows = {
            name: value
            for name, value in wanted.items()
            if isinstance(value, list | tuple) and len(value) == len(completions)
        }
        rest = {name: value for name, value in wanted.items() if name not in rows}

        def call(some: Sequence[Completion], of: Mapping[str, Column]) -> object:
            return self._run(some, {**of, **rest})

        return run_scorer(self.label, call, completions, rows)

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Call the function with texts."""
        return self(completions, **columns)

    def _run(self, completions: Sequence[Completion], columns: Mapping[str, object]) -> object:
        if self.conversational is not None:
            change = _to_messages if self.conversational else to_text
            completions = [change(each) for each in completions]
        prompts = columns.get("prompts")
        if self.conversational and isinstance(prompts, list | tuple):
            columns = {**columns, "prompts": [_to_messages(each, role="user") for each in prompts]}
        result = self.function(completions=list(completions), **columns)
        return _wait(result) if inspect.isawaitable(result) else result

    def _choose(self, columns: Mapping[str, object]) -> Mapping[str, object]:
        parameters = inspect.signature(self.function).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
            chosen = columns
        else:
            chosen = {name: value for name, value in columns.items() if name in parameters}
        required = [
            name
            for name, each in parameters.items()
            if each.default is inspect.Parameter.empty
            and each.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        ]
        missing = [name for name in required if name != "completions" and name not in chosen]
        if missing:
            raise missing_column(self.label, missing[0], columns)
        return chosen


def is_plugin(name: str) -> bool:
    """Say whether a reward's name is a file of the user's, 'plugin.py:name', and not a registered one."""
    return name.endswith(".py") or name.rpartition(":")[0].endswith(".py")


def load_plugin(spec: str, options: Mapping[str, object]) -> Reward:
    """Run a file and return the reward of a name in it.

    The file's folder goes to the end of `sys.path`, so that it can import its neighbours. A file is run once; several
    rewards of it share its state.

    Args:
        spec: file and name, such as 'rewards/plugin.py:my_reward'.
        options: parameters of a Reward; of a function, `conversational`.

    Raises:
        InvalidPlugin: no such file, it cannot be run, or it has no such reward.
        InvalidArgument: the reward has no such parameter.
    """
    path, _, name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    module = _run_file(Path(path))
    found = getattr(module, name, None) if name else None
    if isinstance(found, type) and issubclass(found, Reward) and not inspect.isabstract(found):
        return make_reward(found, spec, options)
    if isinstance(found, Reward) and not options:
        return found
    if not callable(found) or isinstance(found, type | Reward):
        offered = [key for key, value in vars(module).items() if _is_offered(value, module) and key[0] != "_"]
        raise InvalidPlugin(
            f"the reward {spec!r} {_what_is_wrong(found, options)}; its file defines {quote(offered)}: "
            f"name a function or a subclass of Reward in it, such as '{path}:{(offered or ['my_reward'])[0]}'"
        )
    return make_reward(FunctionReward, spec, {"function": found, "name": spec, **options})


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidPlugin(f"the file of rewards {str(path)!r} does not exist; expected 'file.py:name'")
    resolved = path.resolve()
    # Two files may have one name.
    name = f"swift_data_plugin_{resolved.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    if str(resolved.parent) not in sys.path:
        sys.path.append(str(resolved.parent))
    # Dataclasses look their module up while they are made.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidPlugin(
            f"the file of rewards {str(path)!r} cannot be run: {type(error).__name__}: {error}"
        ) from error
    return module


def _what_is_wrong(found: object, options: Mapping[str, object]) -> str:
    if found is None:
        return "is not in its file"
    if isinstance(found, Reward):
        return f"is made already, and takes no options such as {quote(options)}"
    if not isinstance(found, type):
        return f"is of type {type(found).__name__}, which cannot be called"
    if issubclass(found, Reward):
        return f"is a Reward that lacks {quote(sorted(found.__abstractmethods__))}"
    return "is a class that is no subclass of swift_data.reward.Reward"


def _is_offered(value: object, module: ModuleType) -> bool:
    is_class = isinstance(value, type) and issubclass(value, Reward) and not inspect.isabstract(value)
    is_reward = inspect.isfunction(value) or is_class
    return is_reward and getattr(value, "__module__", None) == module.__name__


def _to_messages(completion: Completion, role: str = "assistant") -> Sequence[Mapping[str, object]]:
    return [{"role": role, "content": completion}] if isinstance(completion, str) else completion


def _wait(result: Awaitable[object]) -> object:
    async def finish() -> object:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(finish())
    # The caller is inside of a loop, which must not start another one in its thread.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, finish()).result()
