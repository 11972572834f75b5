"""The examples of CONTRIBUTING.md are whole files that work: registered by another distribution, found, and lawful."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from house import ROOT, run
from swift_cli.command import COMMANDS
from swift_cli.main import main
from swift_cli.testing import check_command
from swift_data.dataset_card import DATASETS, load_card
from swift_data.reward import REWARDS, load_reward
from swift_data.testing import check_dataset_card, check_reward
from swift_export.exporter import EXPORTERS
from swift_export.testing import check_exporter
from swift_infer.checkpoint import ServedModel
from swift_infer.engine import ENGINES, create_engine
from swift_infer.testing import check_engine
from swift_templates import Conversation, Message, Template, TemplateArgs
from swift_templates.family import families
from swift_templates.testing import check_template, write_tiny_folder
from swift_train.algorithm import ALGORITHMS, WeightedTokens
from swift_tuners.args import ModelArgs, TunerArgs
from swift_tuners.testing import check_tuner, tiny_decoder, tiny_decoder_inputs
from swift_tuners.tuners import TUNERS

# A block that begins with the path of the file it shows.
BLOCK = re.compile(
    r"^```python\n# packages/[\w-]+/src/(?P<folder>[\w/]+)/(?P<name>\w+)\.py\n(?P<source>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture(scope="module", autouse=True)
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install a distribution `guest` whose modules are the examples, each with its entry point."""
    root = tmp_path_factory.mktemp("guest")
    package, info = root / "guest", root / "guest-1.dist-info"
    package.mkdir()
    info.mkdir()
    points = defaultdict(list)
    for block in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        (package / f"{block['name']}.py").write_text(block["source"], encoding="utf-8")
        points[block["folder"].replace("/", ".")].append(f"{block['name']} = guest.{block['name']}")
    (package / "__init__.py").write_text('"""Components that others wrote."""\n', encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1\n", encoding="utf-8")
    sections = [f"[{group}]\n" + "\n".join(lines) for group, lines in points.items()]
    (info / "entry_points.txt").write_text("\n".join(sections) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        importlib.invalidate_caches()
        yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "guest"]:
        del sys.modules[name]


def test_every_kind_of_component_has_an_example() -> None:
    registries = (TUNERS, families, DATASETS, REWARDS, ALGORITHMS, ENGINES, EXPORTERS, COMMANDS)
    found = {registry.kind: registry.names() for registry in registries}
    examples = {
        "tuner": "miss",
        "template family": "lighthouse",
        "dataset": "capitals",
        "reward": "brief",
        "algorithm": "dft",
        "engine": "dice",
        "exporter": "half",
        "command": "count",
    }
    assert {kind for kind, name in examples.items() if name not in found[kind]} == set()


def test_the_laws_that_are_named_exist() -> None:
    named = re.findall(r"`(swift_\w+\.testing)\.(check_\w+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) >= 8
    assert [f"{module}.{law}" for module, law in named if not hasattr(importlib.import_module(module), law)] == []


def test_the_examples_pass_the_linter(guest: Path) -> None:
    files = sorted(map(str, guest.glob("*.py")))
    run([sys.executable, "-m", "ruff", "check", f"--config={ROOT / 'pyproject.toml'}", *files])
    run([sys.executable, "-m", "ruff", "format", "--check", f"--config={ROOT / 'pyproject.toml'}", *files])


def test_the_tuner_keeps_the_laws() -> None:
    kind = TUNERS.load_class("miss")
    assert issubclass(kind, TunerArgs)
    check_tuner(lambda: kind(**kind.laws.example).build_config(), tiny_decoder, tiny_decoder_inputs())


def test_the_template_family_keeps_the_laws(tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path, special_tokens=("<unk>", "</s>"), eos_token="</s>")
    template = Template.from_folder(folder, TemplateArgs(template="lighthouse"))
    check_template(template)
    conversation = Conversation(
        messages=(Message(role="user", content="Hello"), Message(role="assistant", content="Hi."))
    )
    (encoded,) = template.encode(conversation)
    # As the example's docstring shows it; a sample ends with the token that ends the last answer.
    shown = "<|user|>\nHello</s>\n<|assistant|>\nHi.</s>"
    assert template.decode(encoded.input_ids.tolist(), skip_special=False) == shown


def test_the_dataset_keeps_the_laws() -> None:
    check_dataset_card(load_card("capitals"))


def test_the_reward_keeps_the_laws() -> None:
    check_reward(load_reward("brief"))


def test_the_algorithm_weights_tokens_by_their_probability() -> None:
    algorithm = ALGORITHMS.load_class("dft")()
    logps = torch.tensor([math.log(0.5), math.log(0.25)], requires_grad=True)
    tokens = WeightedTokens(logps_N=logps, weights_N=torch.tensor([1.0, 2.0]), sequences_N=torch.tensor([0, 0]))
    loss = algorithm.loss(tokens)
    # By hand: 1 x 0.5 x ln 2 + 2 x 0.25 x ln 4, and the gradient is - w p.
    assert loss.item() == pytest.approx(1.5 * math.log(2))
    assert torch.autograd.grad(loss, logps)[0].tolist() == pytest.approx([-0.5, -0.5])


def test_the_engine_keeps_the_laws(tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path)
    template = Template.from_folder(folder, TemplateArgs(template="chatml"))
    served = ServedModel(model=ModelArgs(model=str(folder)), adapters={}, adapter=None, template=template.args)
    questions = [Conversation(messages=(Message(role="user", content=text),)) for text in ("Hello", "What is this?")]
    engine = create_engine("dice", served, template)
    check_engine(engine, [template.encode_prompt(question) for question in questions])


def test_the_exporter_keeps_the_laws(model_folder: Path, adapter_folder: Path, tmp_path: Path) -> None:
    check_exporter("half", model_folder, adapter_folder, tmp_path / "half")
    whole, half = (folder / "adapter_model.safetensors" for folder in (adapter_folder, tmp_path / "half"))
    assert half.stat().st_size < 0.75 * whole.stat().st_size


def test_the_command_keeps_the_laws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_command("count")
    rows = [{"query": f"{number} + 1?", "response": str(number + 1)} for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["count", "--dataset", str(tmp_path / "rows.jsonl")]) == 0
    assert capsys.readouterr().out == "3 rows\n"
