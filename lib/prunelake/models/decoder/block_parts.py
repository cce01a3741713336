"""The parts of a decoder's block: what mixes its tokens, and its MLPs.

A part is found by its structure: the names of its own weights and modules. `KINDS_BY_CLASS` holds
the exceptions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Literal

from torch import nn

Kind = Literal["attention", "linear_attention", "state_space", "convolution", "mlp", "experts"]

MIXER_NAMES: dict[Kind, str] = {
    "attention": "softmax attention",
    "linear_attention": "linear attention",
    "state_space": "a state space",
    "convolution": "a convolution",
}
"""The kinds that mix tokens, as words in a sentence."""

KINDS_BY_CLASS: dict[str, Kind] = {
    "xLSTMLayer": "state_space",
    "RwkvFeedForward": "mlp",
}
"""Exceptions: the kinds of modules whose structure does not show them."""

QUERY_NAMES = re.compile(r"(q|k|v|qk|kv|qkv|wqkv|wq|wk|wv)(_.*)?|query.*|key|value|c_attn", re.I)
ENCODER_NAMES = re.compile(r"cross|encoder_attn", re.I)
MLP_NAMES = re.compile(r"mlp|feed_forward|ffn|\bff\b|moe|expert|mixer", re.I)
OTHER_NAMES = re.compile(r"norm$|norm_|_hc|scale|_input|sconv|convolution", re.I)
"""The names of modules that are no part, though they may hold an MLP or a projection: norms,
scales, and filters behind a part, which add nothing of their own."""

RECURRENT_NAMES = {"rg_lru", "time_decay"}
DECAY_NAMES = {"A_log", "dt_bias", "slope_rate"}

OUTPUT_NAMES = re.compile(
    r"(^|\.)(o_proj|out_proj|dense|c_proj|wo|out_lin|o|proj_out|linear_out|down_proj|fc2|fc_out|w2|"
    r"w_out|out|dense_4h_to_h|output_linear|output|lin2|down|down_proj_bias|o_b_proj|v2t_proj|2|"
    r"proj_down|output_proj)$|^(experts\.)?bias$",
    re.I,
)
"""The names of the modules and weights from which a part's output comes, within the part."""


ROUTER_NAMES = re.compile(r"(^|\.)(gate|router)\.")


@dataclass(frozen=True)
class BlockPart:
    """A module whose output its block adds to the residual stream.

    - `block`: the position of its block.
    - `name`: its name within the block.
    - `adds_residual`: the module itself adds its argument `residual`.
    - `is_read_later`: another layer reads what it computes on the way, such as keys and values.
    """

    block: int
    kind: Kind
    name: str
    module: nn.Module
    adds_residual: bool
    is_read_later: bool

    @property
    def mixes_tokens(self) -> bool:
        """Whether it moves information from one token to another."""
        return self.kind in MIXER_NAMES

    def output_parameters(self) -> list[nn.Parameter]:
        """The weights and biases that make its output; with zeros there, it adds zero."""
        if not [*self.module.children()]:
            return [*self.module.parameters()]
        found: dict[int, nn.Parameter] = {}
        for name, module in self.module.named_modules():
            if name and OUTPUT_NAMES.search(name) and not ROUTER_NAMES.search(name):
                found |= {id(p): p for p in module.parameters()}
        for name, parameter in self.module.named_parameters():
            if OUTPUT_NAMES.search(name) and not ROUTER_NAMES.search(name):
                found[id(parameter)] = parameter
        return [*found.values()]


def block_parts(block: nn.Module, number: int) -> tuple[BlockPart, ...]:
    """The parts of a block, in the order of its modules."""
    return tuple(
        BlockPart(
            number, kind, name, module, _takes(module, "residual"), _hands_on_its_choices(module)
        )
        for name, module, kind in _find_parts(block)
    )


def block_norms(block: nn.Module) -> dict[str, nn.Module]:
    """The norms of a block, by name."""
    return {
        n: child for n, child in block.named_children() if "norm" in type(child).__name__.lower()
    }


def reads_encoder(block: nn.Module) -> bool:
    """Whether a block has an attention to another model's output."""
    return any(ENCODER_NAMES.search(name) for name, _ in block.named_children())


def has_convolution(module: nn.Module) -> bool:
    """Whether a module within this one is a convolution over tokens."""
    return any(
        isinstance(child, nn.Conv1d) or "Convolution" in type(child).__name__
        for child in module.modules()
    )


def _find_parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module, Kind]]:
    for own_name, child in module.named_children():
        name = prefix + own_name
        if ENCODER_NAMES.search(own_name) or OTHER_NAMES.search(own_name):
            continue
        if (kind := _kind(name, child)) is not None:
            yield name, child, kind
        else:
            yield from _find_parts(child, f"{name}.")
    children = dict(module.named_children())
    if isinstance(children.get("fc1"), nn.Linear) and isinstance(children.get("fc2"), nn.Linear):
        yield f"{prefix}fc2", children["fc2"], "mlp"  # an MLP without a module of its own


def _kind(name: str, module: nn.Module) -> Kind | None:
    """The kind of a part by its name in the block and its structure; None if it is no part."""
    special: Kind | None = getattr(module, "part_kind", KINDS_BY_CLASS.get(type(module).__name__))
    if special or isinstance(module, nn.ModuleList):
        return special
    own = {
        own_name
        for named in (module.named_parameters, module.named_buffers)
        for own_name, _ in named(recurse=False)
    }
    own |= {own_name for own_name, _ in module.named_children()}
    if own & RECURRENT_NAMES or {"A_log", "D"} <= own:
        return "state_space"
    has_queries = any(QUERY_NAMES.fullmatch(own_name) for own_name in own)
    inner = {inner_name.rpartition(".")[2] for inner_name, _ in module.named_parameters()}
    if own & DECAY_NAMES or (has_queries and inner & DECAY_NAMES):
        return "linear_attention"
    if has_queries:
        return "attention"
    if any(isinstance(child, nn.Conv1d) for child in module.children()):
        return "convolution"
    if MLP_NAMES.search(name) and any(True for _ in module.parameters()):
        is_routed = any(re.search("expert|router", inner) for inner, _ in module.named_modules())
        return "experts" if is_routed or "expert" in name else "mlp"
    return None


def _takes(module: nn.Module, name: str) -> bool:
    return name in signature(module.forward).parameters


def _hands_on_its_choices(module: nn.Module) -> bool:
    """Whether a later layer reads a module's keys and values, the tokens that it chose, or the
    state of its router; or its block adds a bias that the module hands on.
    """
    taken = ("prev_topk_indices", "prev_router_hidden_states")
    has_bias = isinstance(getattr(module, "dense_bias", None), nn.Parameter)
    stores = getattr(module, "store_full_length_kv", False) or has_bias
    return stores or any(_takes(module, name) for name in taken)
