"""Strategies that damage what is good: bytes, and trees of JSON."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

Draw = st.DrawFn
WORDS = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates and control codes too
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 10**13, 2**63, -(2**63), 10**400, 1e308, -0.0])
PLAIN = st.none() | st.booleans() | NUMBERS | WORDS
ANYTHING = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3))


@st.composite
def damaged_bytes(draw: Draw, good: bytes) -> bytes:
    """`good` with some bytes changed, put in or cut out, or its end missing."""
    data = bytearray(good)
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, len(data)))
        count = draw(st.integers(0, 9))
        data[place : place + count] = draw(st.binary(min_size=count, max_size=count) | st.binary(max_size=12))
    end = draw(st.none() | st.integers(0, len(data)))
    return bytes(data[:end])


@st.composite
def damaged_tree(draw: Draw, good: Any) -> Any:
    """`good` with one place, near the top or deep down, replaced, deleted or doubled."""
    tree = deepcopy(good)
    holder, key = _place(draw, tree)
    if holder is None:
        return draw(ANYTHING)
    match draw(st.sampled_from(["replace", "swap", "delete", "double"])):
        case "delete":
            del holder[key]
        case "double" if isinstance(holder, list):
            holder.append(holder[key])
        case "swap":
            other, name = _place(draw, tree)
            holder[key] = deepcopy(other[name]) if other is not None else None
        case _:
            holder[key] = draw(ANYTHING)
    return tree


def _place(draw: Draw, tree: Any) -> tuple[Any, Any]:
    """A container in the tree and a key in it; none where the tree is no container."""
    holder, key = None, None
    while isinstance(tree, dict | list) and tree and (holder is None or draw(st.integers(0, 3))):
        holder = tree
        key = draw(st.sampled_from(sorted(tree) if isinstance(tree, dict) else range(len(tree))))
        tree = tree[key]
    return holder, key


@st.composite
def damaged_json(draw: Draw, good: Any) -> bytes:
    """The text of a damaged tree, in which the bytes are damaged too now and then."""
    text = json.dumps(draw(damaged_tree(good))).encode()
    return draw(damaged_bytes(text)) if draw(st.integers(0, 4)) == 0 else text
