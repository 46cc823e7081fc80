"""Chat templates of strangers, rendered in Jinja's sandbox and within a bound of work.

The sandbox keeps a template from what it must not touch, and not from working for ever: two nested loops over
``range(99999)`` hold a thread for an hour, a macro that calls itself twice for longer than that, and ``s ~ s`` in a
loop takes all memory. So work is counted while a template runs: a step for each turn of a loop, some for each call, and
more for what one operation does to a long text or list. What exceeds :func:`allowance` is ended by
:class:`TooMuchWork`.

Counting is put into the template's own syntax tree, as filters whose names no template can spell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import filters, nodes, pass_context, pass_eval_context
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

__all__ = ["TooMuchWork", "allowance", "compiled", "work"]

#: Steps of a conversation of no message; for each message; and for each pair, since a conversation is rendered anew for
#: each answer in it. Some five million steps are a second.
_FIRST, _EACH, _PAIR = 2_000_000, 100_000, 100
#: Steps of a call, of a macro's, and of an entry that is looked into.
_CALL, _MACRO, _ENTRY = 4, 16, 4
#: Characters, and entries of a list, that one operation goes through in the time of a step.
_CHARACTERS, _ENTRIES = 64, 8
#: Characters or entries that one value may have, and bits of a number.
_LARGEST, _BITS = 1 << 26, 1 << 16
#: A width of millions in a format, ``{:>9999999}`` and ``%9999999d``, or one that is an argument.
_WIDE = re.compile(r"\d{7}|\{[^{}]*\{|%[^a-zA-Z%]*\*")

_TICK, _SIZE, _DEEP = "lmgraft tick", "lmgraft size", "lmgraft deep"
_WIDTH, _NARROW, _SLOWLY = "lmgraft width", "lmgraft narrow", "lmgraft slowly"
#: Filters that go through a list and not through what its entries hold.
_SHALLOW = frozenset({
    "batch", "count", "d", "default", "first", "items", "last", "length", "list", "reject", "rejectattr", "reverse",
    "select", "selectattr", "slice", "sort",
})  # fmt: skip
#: Filters whose numbers are values; those of others are widths and counts, and decide how long the result is.
_VALUES = frozenset({"d", "default", "float", "format", "int", "sum"})
#: Filters that look at every character in Python.
_SLOW = frozenset({"pprint", "title", "urlize", "wordcount", "wordwrap"})


class TooMuchWork(Exception):
    """A template did more than any conversation of this length asks for."""


class _Left:
    """The steps that are left."""

    __slots__ = ("steps",)

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooMuchWork("it goes on for longer than any conversation of this length asks for")


_left: ContextVar[_Left | None] = ContextVar("left", default=None)


def allowance(messages: Sequence[Any], characters: int) -> int:
    """Steps that all renderings of a conversation may take together: a thousand messages or megabytes of text do not
    come near it, and a template without an end reaches it within seconds where the conversation is short."""
    count = max(1, len(messages))
    return _FIRST + _EACH * count + _PAIR * count**2 + (2 + count // 8) * characters


@contextmanager
def work(messages: Sequence[Any], characters: int) -> Iterator[None]:
    """All that is rendered within shares one allowance, that of the outermost block."""
    if _left.get() is not None:
        yield
        return
    token = _left.set(_Left(allowance(messages, characters)))
    try:
        yield
    finally:
        _left.reset(token)


@lru_cache(maxsize=32)
def compiled(source: str) -> jinja2.Template:
    """The template of ``source``, to be rendered within :func:`work`. Raises whatever Jinja and Python say of it."""
    environment = _Environment(trim_blocks=True, lstrip_blocks=True)
    tree = _Counting().visit(environment.parse(source))
    tree.set_environment(environment)
    return environment.template_class.from_code(environment, environment.compile(tree), environment.make_globals(None))


def _spend(steps: int) -> None:
    left = _left.get()
    if left is not None:
        left.spend(steps)


def _size(value: Any) -> Any:
    """``value``, once the steps of going through it are spent; what has no length yet is counted as it comes."""
    if isinstance(value, str):
        _of_length(len(value), _CHARACTERS)
    elif isinstance(value, list | tuple | dict | range):
        _of_length(len(value), _ENTRIES)
    elif isinstance(value, GeneratorType):
        return _counted(value)
    return value


def _deep(value: Any) -> Any:
    """:func:`_size` with all that the value holds, as often as it holds it: lists of one list are written out whole."""
    if isinstance(value, list | tuple | dict):
        entries = [value]
        while entries:
            inner = entries.pop()
            _size(inner)
            if isinstance(inner, Mapping):
                entries += [each for each in inner.values() if not isinstance(each, int | None)]
            elif isinstance(inner, list | tuple):
                entries += [each for each in inner if not isinstance(each, int | None)]
            _spend(_ENTRY)
        return value
    return _size(value)


def _width(value: Any) -> Any:
    """A number that says how long a result will be."""
    if isinstance(value, int):
        _of_length(abs(value), _ENTRIES)
    return _size(value)


def _narrow(text: Any) -> Any:
    """A text by which something is formatted."""
    if isinstance(text, str) and _WIDE.search(text):
        raise TooMuchWork("it formats with a width of millions, or one that it computes")
    return _size(text)


def _slowly(value: Any) -> Any:
    _of_length(len(value) if isinstance(value, str) else 0, 1)
    return _deep(value)


def _of_length(length: int, share: int) -> None:
    if length > _LARGEST:
        raise TooMuchWork(f"it makes a value of {length:,} characters or entries")
    if length > share:
        _spend(length // share)


def _counted(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        _spend(1)
        yield value


def _written(values: Any, times: int) -> None:
    """Values that a format writes, each as often as that."""
    left = _left.get()
    before = left.steps if left is not None else 0
    _deep(values)
    if left is not None:
        left.spend((before - left.steps) * times)


def _grown(text: str, method: str, args: Sequence[Any]) -> None:
    """What becomes longer than the text and the arguments are."""
    if method == "join" and isinstance(args[0], list | tuple | dict | str):
        _of_length(len(text) * len(args[0]), _CHARACTERS)
    elif method == "replace" and len(args) > 1:
        _of_length(text.count(str(args[0])) * len(str(args[1])), _CHARACTERS)
    elif method == "expandtabs" and args:
        _of_length(text.count("\t") * int(args[0]), _CHARACTERS)


@pass_eval_context
def _join(context: Any, value: Any, d: Any = "", attribute: Any = None) -> Any:
    entries = list(value)
    _grown(str(d), "join", [entries])
    return filters.do_join(context, entries, d, attribute)


@pass_eval_context
def _replace(context: Any, s: Any, old: Any, new: Any, count: Any = None) -> Any:
    _grown(str(s), "replace", [old, new])
    return filters.do_replace(context, s, old, new, count)


def _indent(s: Any, width: Any = 4, first: bool = False, blank: bool = False) -> Any:
    _of_length(str(s).count("\n") * (width if isinstance(width, int) else len(width)), _CHARACTERS)
    return filters.do_indent(s, width, first, blank)


@pass_context  # Jinja computes no filter beforehand that takes the context
def _tick(context: Any, value: Any) -> bool:
    _spend(1)
    return True


def _filter(look: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    @pass_context
    def through(context: Any, value: Any) -> Any:
        return value if isinstance(value, str) and len(value) <= _CHARACTERS and look is not _narrow else look(value)

    return through


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with the filters that count."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **switches: Any) -> None:
        super().__init__(**switches)
        self.filters["tojson"] = lambda value, ensure_ascii=False, **options: json.dumps(
            value, ensure_ascii=ensure_ascii, **options
        )
        self.globals["raise_exception"] = _raise
        self.filters |= {_TICK: _tick}
        self.filters |= {"indent": _indent, "join": _join, "replace": _replace}
        looks = {_SIZE: _size, _DEEP: _deep, _WIDTH: _width, _NARROW: _narrow, _SLOWLY: _slowly}
        self.filters |= {name: _filter(look) for name, look in looks.items()}

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call of a template: of a macro, a function or a method."""
        if isinstance(obj, Macro | LoopContext):
            _spend(_MACRO)
            return super().call(context, obj, *args, **kwargs)
        _spend(_CALL)
        method = getattr(obj, "__wrapped__", obj)  # Jinja wraps those that format
        owner = _size(getattr(method, "__self__", None))
        look = _width if isinstance(owner, str) or obj is self.globals["lipsum"] else _size
        if isinstance(owner, str):
            if method.__name__ in ("format", "format_map"):
                look = _deep
                _narrow(owner)
                _written([args, kwargs], owner.count("{"))
            elif method.__name__ == "join":
                args = tuple(_deep(list(value)) for value in args)
            _grown(owner, method.__name__, args)
        args, kwargs = tuple(look(value) for value in args), {key: look(kwargs[key]) for key in kwargs}
        return _size(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _multiplied(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _of_bits(left.bit_length() * right)
        elif operator == "%" and isinstance(left, str):
            _narrow(left)
            _written([right], left.count("%"))
        result = super().call_binop(context, operator, left, right)
        return _size(result)


def _multiplied(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _of_bits(left.bit_length() + right.bit_length())
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            _of_length(len(value) * max(0, times), _CHARACTERS if isinstance(value, str) else _ENTRIES)


def _of_bits(bits: int) -> None:
    if bits > _BITS:
        raise TooMuchWork(f"it makes a number of {bits:,} bits")


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


class _Counting(NodeTransformer):
    """Puts the counting into a template's syntax tree."""

    def get_visitor(self, node: nodes.Node) -> Callable[..., nodes.Node] | None:
        mine: dict[type[nodes.Node], Callable[..., nodes.Node]] = {
            nodes.For: self._for, nodes.Filter: self._filter, nodes.Concat: self._concat, nodes.Add: self._add,
            nodes.Output: self._output,
            nodes.Getitem: self._getitem, nodes.Compare: self._compare, nodes.Test: self._test,
        }  # fmt: skip
        return mine.get(type(node))

    def _for(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body = [nodes.ExprStmt(_through(_TICK, nodes.Const(None))), *node.body]
        if node.test is not None:
            node.test = nodes.And(_through(_TICK, nodes.Const(None)), node.test)
        return node

    def _filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        if node.node is not None:  # a {% filter %} block has none
            look = _NARROW if node.name == "format" else _SIZE if node.name in _SHALLOW else _DEEP
            node.node = _through(_SLOWLY if node.name in _SLOW else look, node.node)
        look = _DEEP if node.name in _VALUES else _WIDTH
        node.args = [_through(look, argument) for argument in node.args]
        for pair in node.kwargs:
            pair.value = _through(look, pair.value)
        if node.dyn_args is not None:
            node.dyn_args = _through(_DEEP, node.dyn_args)
        return _through(_SIZE, node)

    def _concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [part if isinstance(part, nodes.Const) else _through(_DEEP, part) for part in node.nodes]
        return _through(_SIZE, node)

    def _add(self, node: nodes.Add) -> nodes.Node:
        """Looks at a chain of sums once, at its end."""
        link = node
        while isinstance(link.left, nodes.Add):
            link.right = self.visit(link.right)
            link = link.left
        self.generic_visit(link)
        return _through(_SIZE, node)

    def _output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        plain = nodes.TemplateData | nodes.Const
        node.nodes = [part if isinstance(part, plain) else _through(_DEEP, part) for part in node.nodes]
        return node

    def _getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through(_SIZE, node) if isinstance(node.arg, nodes.Slice) else node

    def _compare(self, node: nodes.Compare) -> nodes.Node:
        """What is compared with a constant takes no longer than the constant, unless it is searched for it."""
        self.generic_visit(node)
        for operand in node.ops:
            if not isinstance(operand.expr, nodes.Const) and (
                operand.op in ("in", "notin") or not isinstance(node.expr, nodes.Const)
            ):
                operand.expr = _through(_DEEP, operand.expr)
        return node

    def _test(self, node: nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        node.args = [_through(_DEEP, argument) for argument in node.args]
        return node
