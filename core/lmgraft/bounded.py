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
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import jinja2
from jinja2 import filters, nodes, pass_context, pass_environment, pass_eval_context
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import generate_lorem_ipsum
from jinja2.visitor import NodeTransformer

from lmgraft import steps
from lmgraft.steps import TooMuchWork, allowance, work

__all__ = ["TooMuchWork", "allowance", "compiled", "work"]

#: Steps of a call, and of a macro's.
_CALL, _MACRO = 4, 16
_TICK, _SIZE, _DEEP, _WIDTH = "lmgraft tick", "lmgraft size", "lmgraft deep", "lmgraft width"
#: Filters that go through a list and not through what its entries hold.
_SHALLOW = frozenset({
    "batch", "count", "d", "default", "first", "items", "last", "length", "list", "reject", "rejectattr", "reverse",
    "select", "selectattr", "slice",
})  # fmt: skip
#: Filters whose numbers are values; those of others are widths and counts, and decide how long the result is.
_VALUES = frozenset({"d", "default", "float", "format", "int", "sum"})
#: Filters that look at every character in Python.
_SLOW = frozenset({"pprint", "title", "urlencode", "urlize", "wordcount"})
#: Tests that go through both of what they compare, and those that go through a text.
_COMPARING = (
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
    ">",
    "gt",
    "greaterthan",
    ">=",
    "ge",
)
_SEARCHING = ("in", "lower", "upper")


@lru_cache(maxsize=32)
def compiled(source: str) -> jinja2.Template:
    """The template of ``source``, to be rendered within :func:`work`. Raises whatever Jinja and Python say of it."""
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    tree = _Counting().visit(environment.parse(source))
    tree.set_environment(environment)
    return environment.template_class.from_code(environment, environment.compile(tree), environment.make_globals(None))


def _charged(function: Callable[..., Any], charge: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` after ``charge`` of its arguments, without Jinja's own context where it takes that."""
    own = int(hasattr(function, "jinja_pass_arg"))

    @wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        charge(*args[own:], **kwargs)
        return function(*args, **kwargs)

    return charged


def _grown(text: Any, method: str, args: Any) -> None:
    """What takes longer, or becomes longer, than the text and the arguments are."""
    if method == "replace" and len(args) > 1:
        steps.of_length(text.count(args[0]) * len(args[1]), steps.CHARACTERS)
    elif method == "expandtabs" and args:
        steps.of_length(text.count("\t") * int(args[0]), steps.CHARACTERS)
    elif method == "translate" and args:
        table = args[0].values() if isinstance(args[0], dict) else args[0]
        longest = max((len(each) for each in table if isinstance(each, str)), default=1)
        steps.of_length(len(text) * longest, 1)
    elif method in ("strip", "lstrip", "rstrip") and args and args[0]:
        steps.spend(len(text) * len(args[0]) // steps.CHARACTERS)
    elif method == "striptags":  # a copy of all for each
        steps.spend(text.count("<") * len(text) // steps.CHARACTERS)


def _of_replace(s: Any, old: Any, new: Any, count: Any = None) -> None:
    _grown(str(s), "replace", [str(old), str(new)])


def _of_indent(s: Any, width: Any = 4, first: Any = False, blank: Any = False) -> None:
    steps.of_length(str(s).count("\n") * (width if isinstance(width, int) else len(width)), steps.CHARACTERS)


def _of_trim(value: Any, chars: Any = None) -> None:
    _grown(str(value), "strip", [chars])


def _of_striptags(value: Any) -> None:
    _grown(str(value), "striptags", [])


def _of_wordwrap(s: Any, width: Any = 79, break_long_words: Any = True, wrapstring: Any = None, *_: Any) -> None:
    """A line for each ``width`` characters at least, and of a long word a copy for each."""
    length = len(steps.slowly(str(s)))
    steps.of_length((length // max(1, width)) * (length // steps.CHARACTERS + len(wrapstring or "")), steps.CHARACTERS)
    steps.of_length(length * len(wrapstring or ""), steps.CHARACTERS)


def _of_format(value: Any, *args: Any, **kwargs: Any) -> None:
    steps.written([args, kwargs], str(steps.spreads(str(value))).count("%"))


@pass_eval_context
def _join(context: Any, value: Any, d: Any = "", attribute: Any = None) -> Any:
    entries = steps.deep(list(value))
    steps.of_length(len(str(d)) * len(entries), steps.CHARACTERS)
    return filters.do_join(context, entries, d, attribute)


@pass_environment
def _sum(environment: Any, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    """A sum of lists copies for each what it has."""
    entries = list(iterable)
    if not isinstance(start, int | float):
        steps.of_length(len(entries) ** 2, steps.ENTRIES)
    return filters.sync_do_sum(environment, entries, attribute, start)


@pass_context
def _map(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """What one filter makes of each entry, its widths counted for each."""
    for each in filters.do_map(context, value, *args, **kwargs):
        for argument in (*args, *kwargs.values()):
            steps.width(argument)
        yield steps.size(each)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    if not options:
        return json.dumps(value, ensure_ascii=ensure_ascii)
    chunks = json.JSONEncoder(ensure_ascii=ensure_ascii, **_plain(**options)).iterencode(value)
    return "".join(steps.size(chunk) for chunk in chunks)


def _plain(cls: Any = None, **options: Any) -> dict[str, Any]:
    """Options of an encoder; another class of encoders no template has."""
    return options


def _of_lipsum(n: int = 5, html: Any = True, *words: int, **named: int) -> None:
    steps.of_length(n * max([100, *words, *named.values()]), 1)


@pass_context  # Jinja computes no filter beforehand that takes the context
def _tick(context: Any, value: Any) -> bool:
    steps.spend(1)
    return True


def _filter(look: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    @pass_context
    def through(context: Any, value: Any) -> Any:
        return value if isinstance(value, str) and len(value) <= steps.CHARACTERS else look(value)

    return through


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with the filters that count."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **switches: Any) -> None:
        super().__init__(**switches)
        self.globals |= {"raise_exception": _raise, "lipsum": _charged(generate_lorem_ipsum, _of_lipsum)}
        self.filters |= {"join": _join, "map": _map, "sum": _sum, "tojson": _tojson, _TICK: _tick}
        charges: dict[str, Callable[..., Any]] = {
            "format": _of_format, "indent": _of_indent, "replace": _of_replace, "striptags": _of_striptags,
            "trim": _of_trim, "wordwrap": _of_wordwrap,
        }  # fmt: skip
        charges |= dict.fromkeys(_SLOW, lambda value, *args, **kwargs: steps.slowly(value))
        own: dict[str, Any] = self.filters
        tests: dict[str, Any] = self.tests
        own |= {name: _charged(own[name], charge) for name, charge in charges.items()}
        tests |= {name: _charged(tests[name], steps.alike) for name in _COMPARING}
        tests |= {name: _charged(tests[name], lambda *args: steps.deep(args)) for name in _SEARCHING}
        looks = {_SIZE: steps.size, _DEEP: steps.deep, _WIDTH: steps.width}
        self.filters |= {name: _filter(look) for name, look in looks.items()}

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call of a template: of a macro, a function or a method."""
        steps.spend(len(args) + len(kwargs))
        if isinstance(obj, Macro | LoopContext):
            steps.spend(_MACRO)
            return super().call(context, obj, *args, **kwargs)
        steps.spend(_CALL)
        method = getattr(obj, "__wrapped__", obj)  # Jinja wraps those that format
        owner = steps.size(getattr(method, "__self__", None))
        name = getattr(method, "__name__", "")
        if name == "join" and isinstance(owner, str | bytes):
            args = tuple(list(steps.deep(value)) for value in args)
        args, kwargs = tuple(steps.deep(value) for value in args), {key: steps.deep(kwargs[key]) for key in kwargs}
        if isinstance(owner, str | bytes | int):
            _of_text(owner, name, args, kwargs)
        elif name in ("index", "count"):
            steps.deep(owner)
        return steps.size(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _multiplied(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            steps.of_bits(left.bit_length() * right)
        elif operator == "%" and isinstance(left, str | bytes):
            _of_format(left if isinstance(left, str) else left.decode("latin-1"), right)
        result = super().call_binop(context, operator, left, right)
        return steps.size(result)


def _of_text(owner: Any, name: str, args: Any, kwargs: Any) -> None:
    """A method of a text, or of a number: its numbers are widths."""
    if name in ("format", "format_map"):
        steps.written([args, kwargs], str(steps.spreads(owner)).count("{"))
        return
    for value in (*args, *kwargs.values()):
        steps.width(value)
    if name == "join":
        steps.of_length(len(owner) * len(args[0]) if args else 0, steps.CHARACTERS)
    elif not isinstance(owner, int):
        _grown(owner, name, args)


def _multiplied(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        steps.of_bits(left.bit_length() + right.bit_length())
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | bytes | list | tuple) and isinstance(times, int):
            share = steps.ENTRIES if isinstance(value, list | tuple) else steps.CHARACTERS
            steps.of_length(len(value) * max(0, times), share)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


class _Counting(NodeTransformer):
    """Puts the counting into a template's syntax tree."""

    def get_visitor(self, node: nodes.Node) -> Callable[..., nodes.Node] | None:
        mine: dict[type[nodes.Node], Callable[..., nodes.Node]] = {
            nodes.For: self._for, nodes.Filter: self._filter, nodes.Concat: self._concat, nodes.Add: self._add,
            nodes.Output: self._output, nodes.Getitem: self._getitem, nodes.Compare: self._compare,
            nodes.Pair: self._pair,
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
            node.node = _through(_SIZE if node.name in _SHALLOW else _DEEP, node.node)
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
        """Looks at the terms of a chain of sums and at its end: looks at each sum would nest what Python reads."""
        link = node
        while isinstance(link.left, nodes.Add):
            link.right = self._term(link.right)
            link = link.left
        link.left, link.right = self._term(link.left), self._term(link.right)
        return _through(_SIZE, node)

    def _term(self, node: nodes.Expr) -> nodes.Expr:
        term = self.visit(node)
        return term if isinstance(term, nodes.Const) else _through(_SIZE, term)

    def _output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        plain = nodes.TemplateData | nodes.Const
        node.nodes = [part if isinstance(part, plain) else _through(_DEEP, part) for part in node.nodes]
        return node

    def _getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _through(_SIZE, node)
        if not isinstance(node.arg, nodes.Const):
            node.arg = _through(_DEEP, node.arg)  # a key, which is hashed
        return node

    def _pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _through(_DEEP, node.key)
        return node

    def _compare(self, node: nodes.Compare) -> nodes.Node:
        """What is compared with a constant takes no longer than the constant, unless it is searched for it."""
        self.generic_visit(node)
        searched = any(operand.op in ("in", "notin") for operand in node.ops)
        constant = isinstance(node.expr, nodes.Const)
        for operand in node.ops:
            if not isinstance(operand.expr, nodes.Const) and (searched or not constant):
                operand.expr = _through(_DEEP, operand.expr)
        if searched and not constant:
            node.expr = _through(_DEEP, node.expr)
        return node
