"""What the parts of a model are and what they are called: found by looking, not by a list of model names.

A language model is a list of like blocks beside an embedding of tokens. Everything else of a multi-modal model is a
tower (it reads pictures or sound) or a projector (it brings the tower's output to the language model).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from .errors import UnsupportedConfig
from .host_modules import host_modules, is_linear, is_under, unwrap

Modules = dict[str, nn.Module]
# The package whose files, named as model types, know what looking cannot see.
FAMILIES = "swift_tuners.models.families"

# By the last part of a module's name. A projector's name often holds "vision" too, so these are asked first.
PROJECTOR_NAMES = re.compile(
    r"projector|^projection$|^(?:vision|visual|image|audio|language|text|modality|mm)_proj|connector|aligner|merger"
    r"|adapter|abstractor|resampler|q_?former|perceiver|^embed_(?:vision|audio)|^mm_|^deepstack|^visual_projection"
)
# Inside of a tower, the names of its own input layers look alike.
INNER_PROJECTOR_NAMES = re.compile(r"projector|connector|aligner|merger|adapter|resampler|perceiver")
TOWER_NAMES = re.compile(r"vision|visual|image|video|pixel|audio|speech|tower|protein|^vit$|vqmodel|vqgan|^sam")
TEXT_NAMES = re.compile(r"text|language|llm|^lm$|^lm_|decoder")
# What transformers calls the main input of a model that reads no text.
TOWER_INPUTS = re.compile(r"pixel|image|patches|features|audio|input_values")
HEAD_NAMES = frozenset({"lm_head", "embed_out"})
EMBEDDING_NAMES = re.compile(r"embed_tokens|^wte$|word_embed|tok_embed|token_embed|^shared$|^embed_in$|^w$")
# A block's attention to itself. What attends to a picture, is a recurrence called attention, or stands before or after
# attention, is something else.
ATTENTION_NAMES = re.compile(r"attn|attention", re.IGNORECASE)
OTHER_ATTENTION = re.compile(
    r"cross|encoder_attn|enc_?dec|encoder_decoder|inter_attention|linear_attn|deltanet|hyper_?connection|_hc$|conv|norm$",
    re.IGNORECASE,
)
MIXER_NAMES = re.compile(r"mamba|ssm|mixer|deltanet|linear_attn|recurrent|rglru|^conv$|shortconv", re.IGNORECASE)
MLP_NAMES = re.compile(r"mlp|ffn|feed_?forward|moe|expert|^ff$|^ff_layer$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ModuleMap:
    """The names of a model's parts, as in the host without the wrappers of tuners.

    Attributes:
        language: root of the language model; '' where it is the whole model.
        layers: the language model's blocks in order.
        attention: the self-attention modules in those blocks; none for Mamba.
        mlp: the feed-forward modules in those blocks; their linear layers where the block holds them itself.
        embedding: the embedding of tokens.
        head: the layer that makes logits.
        norms: the norm layers of the language side.
        vision: roots of the towers for pictures, video and sound.
        projector: roots of what brings a tower's output to the language model; may lie inside a tower.
    """

    language: str
    layers: tuple[str, ...]
    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    embedding: str | None
    head: str | None
    norms: tuple[str, ...]
    vision: tuple[str, ...]
    projector: tuple[str, ...]

    def part_of(self, name: str) -> str | None:
        """Return 'language', 'vision' or 'projector' for a module's name; None for what contains several of them."""
        if any(is_under(name, root) for root in self.projector):
            return "projector"
        if any(is_under(name, root) for root in self.vision):
            return "vision"
        if name == self.head or is_under(name, self.language):
            return "language"
        return None


def map_modules(model: nn.Module) -> ModuleMap:
    """Find the parts of any module; a part that the model lacks is None or empty."""
    modules = dict(host_modules(model))
    vision, projector = _find_towers(model, modules)
    text = {name: module for name, module in modules.items() if not _under_any(name, (*vision, *projector))}
    embedding = _find_embedding(model, text)
    head = find_head(model)
    blocks = _find_blocks(text)
    language = _find_language(embedding, blocks, head, (*vision, *projector))
    side = {name: module for name, module in text.items() if is_under(name, language)}
    for name in _outermost(_rest(text, language, head)):
        # What lies beside the language model reads pictures if it has blocks of its own; else it is between the two.
        inside = {inner: module for inner, module in text.items() if is_under(inner, name)}
        if _find_blocks(inside) is None:
            projector = (*projector, name)
        else:
            vision = (*_not_under(vision, name), name)
    layers = (
        tuple(f"{blocks}.{index}" for index in range(len(_children(modules[blocks])))) if blocks is not None else ()
    )
    attention, mlp = _parts_of_layers(side, layers)
    found = ModuleMap(
        language=language,
        layers=layers,
        attention=attention,
        mlp=mlp,
        embedding=embedding,
        head=head,
        norms=tuple(name for name, module in side.items() if is_norm(module)),
        vision=vision,
        projector=projector,
    )
    return _ask_family(model, found)


def find_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the language side's list of blocks and its name.

    Raises:
        UnsupportedConfig: the model holds no list of blocks.
    """
    layers = map_modules(model).layers
    name = layers[0].rpartition(".")[0] if layers else None
    found = dict(host_modules(model)).get(name) if name is not None else None
    if name is None or not isinstance(found, nn.ModuleList):
        raise UnsupportedConfig(
            f"{type(model).__name__} holds no list of blocks (a torch.nn.ModuleList of modules with parameters), which "
            "this method changes; use a method that changes single layers, such as LoRA"
        )
    return name, found


def find_head(model: nn.Module) -> str | None:
    """Return the layer that makes logits: the one the model says, one tied to an embedding, or one of a usual name."""
    modules = dict(host_modules(model))
    said = _ask(model, "get_output_embeddings")
    if said is not None:
        return next((name for name, module in modules.items() if module is said), None)
    embeddings = {id(module.weight) for module in modules.values() if isinstance(module, nn.Embedding)}
    for name, module in modules.items():
        tied = id(getattr(module, "weight", None)) in embeddings
        if is_linear(module) and (tied or name.rpartition(".")[2] in HEAD_NAMES):
            return name
    return None


def is_norm(module: nn.Module) -> bool:
    """Say whether this is a norm layer, by torch's classes or by the name of its own."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm):
        return True
    return "Norm" in type(module).__name__ and not any(True for _ in module.children())


def _ask_family(model: nn.Module, found: ModuleMap) -> ModuleMap:
    """Let the architecture's own file, where it needs one, put right what looking found."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    name = f"{FAMILIES}.{str(model_type).replace('-', '_')}"
    if not isinstance(model_type, str) or not name.rpartition(".")[2].isidentifier():
        return found
    try:
        available = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return found
    if available is None:
        return found
    corrected: ModuleMap = importlib.import_module(name).map_modules(model, found)
    return corrected


def _ask(model: nn.Module, method: str) -> nn.Module | None:
    """Ask a model of transformers' kind for one of its modules."""
    ask = getattr(model, method, None)
    if ask is None:
        return None
    try:
        answer = ask()
    except (NotImplementedError, AttributeError):
        # transformers' defaults for models that lack it.
        return None
    return unwrap(answer) if isinstance(answer, nn.Module) else None


def _find_towers(model: nn.Module, modules: Modules) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the outermost modules that are towers and those that are projectors, by their names."""
    # Neither holds what the language model is known by, nor lies inside one of its blocks.
    text = {id(_ask(model, "get_input_embeddings")), id(_ask(model, "get_output_embeddings"))}
    text_names = [name for name, module in modules.items() if id(module) in text]
    vision: list[str] = []
    projector: list[str] = []
    for name, module in modules.items():
        if not name or not _has_parameters(module) or any(is_under(held, name) for held in text_names):
            continue
        parent, _, last = name.rpartition(".")
        in_tower = _under_any(name, vision)
        if _under_any(name, projector) or _inside_block(modules, parent):
            continue
        if (INNER_PROJECTOR_NAMES if in_tower else PROJECTOR_NAMES).search(last):
            projector.append(name)
        elif not in_tower and _is_tower(last, module):
            vision.append(name)
    return tuple(vision), tuple(projector)


def _is_tower(last: str, module: nn.Module) -> bool:
    if TEXT_NAMES.search(last):
        return False
    if TOWER_NAMES.search(last):
        return True
    # transformers' models say what they read; so does a model of pictures and text, which holds an embedding.
    reads = TOWER_INPUTS.search(str(getattr(module, "main_input_name", "")))
    return bool(reads) and not any(
        EMBEDDING_NAMES.search(name.rpartition(".")[2]) for name, _ in module.named_modules()
    )


def _inside_block(modules: Modules, name: str) -> bool:
    """Say whether `name` is or lies in an item of a list: blocks hold no towers and no projectors."""
    while name:
        parent, _, _ = name.rpartition(".")
        if isinstance(modules.get(parent), nn.ModuleList):
            return True
        name = parent
    return False


def _find_embedding(model: nn.Module, text: Modules) -> str | None:
    said = _ask(model, "get_input_embeddings")
    for name, module in text.items():
        if module is said:
            return name
    found = {name: module for name, module in text.items() if isinstance(module, nn.Embedding)}
    usual = [name for name in found if EMBEDDING_NAMES.search(name.rpartition(".")[2])]
    # Positions and types are fewer than words.
    return max(usual or found, key=lambda name: found[name].num_embeddings, default=None)


def _find_blocks(text: Modules) -> str | None:
    """Return the name of the list of blocks: the largest of the outermost ones, a decoder's before an encoder's."""
    lists = [
        name
        for name, module in text.items()
        if isinstance(module, nn.ModuleList) and len(module) and all(_is_block(unwrap(child)) for child in module)
    ]
    outermost = [name for name in lists if not any(name != other and is_under(name, other) for other in lists)]

    def rank(name: str) -> tuple[bool, bool, int]:
        # Blocks that attend to pictures may lie in a list of their own.
        return not OTHER_ATTENTION.search(name), "decoder" in name, _size(text[name])

    return max(outermost, key=rank, default=None)


def _is_block(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and _has_parameters(module)


def _find_language(embedding: str | None, blocks: str | None, head: str | None, others: Sequence[str]) -> str:
    """Return the innermost module that holds embedding and blocks, and the head where no tower comes with it."""
    if not others:
        return ""
    root = _common_root([embedding, blocks])
    wider = _common_root([embedding, blocks, head])
    return root if any(is_under(other, wider) for other in others) else wider


def _common_root(names: Sequence[str | None]) -> str:
    paths = [name.split(".")[:-1] for name in names if name is not None]
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def _rest(text: Modules, language: str, head: str | None) -> Iterator[str]:
    """Yield what holds parameters and is neither the language model, nor its head, nor around them."""
    if not language:
        return
    for name, module in text.items():
        holds_language = is_under(language, name) or (head is not None and is_under(head, name))
        if not holds_language and not is_under(name, language) and name != head and _has_parameters(module):
            yield name


def _parts_of_layers(side: Modules, layers: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    attention: list[str] = []
    mlp: list[str] = []
    for layer in layers:
        inside = {name: module for name, module in side.items() if name != layer and is_under(name, layer)}
        others = [name for name, module in inside.items() if _is_called(OTHER_ATTENTION, name, module)]
        # Hybrid models call any of attention, recurrence and MLP a block's "mixer": then the class says which it is.
        mixers = [
            name
            for name, module in inside.items()
            if _is_called(MIXER_NAMES, name, module) and not MLP_NAMES.search(type(module).__name__)
        ]
        here = _outermost(
            name
            for name, module in inside.items()
            if _is_called(ATTENTION_NAMES, name, module)
            # A block with several keeps them in a list, which is passed over for its items.
            and not isinstance(module, nn.ModuleList)
            and not _under_any(name, others)
            and _holds_matrix(module)
        )
        free = {
            name: module
            for name, module in inside.items()
            if not _under_any(name, (*here, *others, *mixers)) and not any(is_under(inner, name) for inner in here)
        }
        named = _outermost(
            name
            for name, module in free.items()
            if _is_called(MLP_NAMES, name, module) and _holds_matrix(module) and not isinstance(module, nn.ModuleList)
        )
        attention.extend(here)
        mlp.extend(named or (name for name, module in free.items() if is_linear(module)))
    return tuple(attention), tuple(mlp)


def _is_called(pattern: re.Pattern[str], name: str, module: nn.Module) -> bool:
    # An item of a list is called what the list is.
    label = next((part for part in reversed(name.split(".")) if not part.isdigit()), "")
    return bool(pattern.search(label) or pattern.search(type(module).__name__))


def _holds_matrix(module: nn.Module) -> bool:
    """Say whether there is more in it than a norm's vector."""
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _children(module: nn.Module) -> list[nn.Module]:
    return list(module.children())


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _under_any(name: str, roots: Iterable[str]) -> bool:
    return any(is_under(name, root) for root in roots)


def _not_under(names: Iterable[str], root: str) -> tuple[str, ...]:
    return tuple(name for name in names if not is_under(name, root))


def _outermost(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that lie in none of the others; the names come parents first."""
    kept: list[str] = []
    for name in names:
        if not _under_any(name, kept):
            kept.append(name)
    return tuple(kept)
