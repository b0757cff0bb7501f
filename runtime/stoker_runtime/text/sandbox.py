"""The sandbox of chat templates: jinja's own, plus a bound on what one rendering may cost.

Knows which parts of jinja can take time or memory without end; does not know chats. jinja's sandbox
keeps a template from reading anything. It does not keep it from looping for hours or from making a
text of gigabytes, which a checkpoint from the hub must not be able to do to the server.

A rendering starts with some fuel. A turn of a loop and a call of a macro cost more the longer the
template is; a text costs by its length, wherever it is made, shown, compared or cut; whatever can
make something much larger than its arguments is looked at before it is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from itertools import chain
from types import BuiltinMethodType
from typing import cast

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

FUEL = 2_000_000
"""Of a rendering: about a second when it is all burnt; 4096 messages need half of it."""
QUICK_FUEL = FUEL // 500
"""Of one that others wait for: two milliseconds when it is all burnt; 40 messages need half."""
MAX_SOURCE_CHARS = 512 << 10
MAX_CHARS = 32 << 20
"""Of a text that a template makes."""
MAX_ITEMS = 1 << 20
"""Of a list that a template makes."""
_CHARS_PER_UNIT = 64
_ITEMS_PER_UNIT = 8
_SOURCE_PER_UNIT = 1024
_CALL = 8
_TURN = 16
_MAX_BITS = 4096
_GROWING = frozenset({"translate", "expandtabs", "maketrans", "encode"})
"""Methods of texts that no template needs and whose result can't be foreseen."""
_COMPARING = frozenset(
    {"sort", "dictsort", "unique", "groupby", "min", "max"}
    | {"eq", "equalto", "==", "ne", "!=", "in"}
)
"""Filters and tests that read all of what they are given."""
_DROPPED = ("wordwrap", "urlize", "xmlattr", "pprint", "filesizeformat", "striptags")
_WIDE = re.compile(r"\d{4,}|\*|\{[^{}]*\{")
"""A format that pads to thousands of characters, or whose width comes from elsewhere."""


class TooCostly(SecurityError):
    """The template is out of fuel, or wants to make something huge."""


class _Tank:
    """What is left, and what a turn costs."""

    def __init__(self, fuel: int, source_chars: int) -> None:
        self._left = fuel
        self.turn = _TURN + source_chars // _SOURCE_PER_UNIT

    def burn(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            raise TooCostly("the chat template takes too long")


_tank: ContextVar[_Tank] = ContextVar("tank")


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja's sandbox with fuel; call `refuel` before each rendering."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, extensions: list[type]) -> None:
        """Options as Hugging Face's templates expect them; nothing is folded while compiling."""
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=extensions
        )
        for name in _DROPPED:
            self.filters.pop(name, None)
        self.globals.pop("lipsum", None)
        self.filters = {name: metered(name, call) for name, call in self.filters.items()}
        tests = cast("dict[str, Callable[..., object]]", self.tests)
        self.tests = {name: metered(name, call) for name, call in tests.items()}
        self.filters |= {"_turns": _turns, "_cut": _cut, "_searched": _searched}
        self.filters |= {"_compared": _read, "_shown": _read}

    def refuel(self, fuel: int, source_chars: int) -> None:
        """So much for a rendering of a template of this length, in this context."""
        _tank.set(_Tank(fuel, source_chars))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Meter().visit(super()._parse(source, name, filename))
        return tree

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """What jinja allows, without a few methods of texts and all of numbers."""
        if isinstance(obj, int | float) or (isinstance(obj, str) and attr in _GROWING):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Callable[..., object], *args, **kwargs):  # type: ignore[no-untyped-def] # noqa: ANN002, ANN003, ANN201
        """A call in a template, of a function, a method or a macro."""
        tank = _tank.get()
        tank.burn(tank.turn if isinstance(__obj, Macro | LoopContext) else _CALL)
        owner = getattr(__obj, "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(__obj, LoopContext):
            _turns(__context, *args)
        if isinstance(owner, str | list | tuple | dict):
            args = _settle(name, args)
            _foresee(name, owner, [*args, *kwargs.values()])
        return _weigh(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        """A text's `format`, looked at before it is done."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text = cast(BuiltinMethodType, value).__self__

        def call(*args: object, **kwargs: object) -> str:
            _check_format(cast(str, text), "{", [args, kwargs])
            return wrapped(*args, **kwargs)

        return call

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """An operator whose result may be much larger than its operands."""
        _tank.get().burn(_CALL)
        if operator == "%" and isinstance(left, str):
            _check_format(left, "%", right)
        elif operator == "**":
            _check_power(left, right)
        elif operator == "*":
            _check_product(left, right)
        return _weigh(super().call_binop(context, operator, left, right))


class _Meter(NodeTransformer):
    """Puts a meter where a template loops, writes, compares and cuts."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _meter(node.iter, "_turns")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [
            _meter(nodes.Const(n.data) if isinstance(n, nodes.TemplateData) else n, "_shown")
            for n in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_meter(part, "_shown") for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _meter(node.expr, "_compared")
        for operand in node.ops:
            searched = operand.op in ("in", "notin")
            operand.expr = _meter(operand.expr, "_searched" if searched else "_compared")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _meter(node, "_cut") if isinstance(node.arg, nodes.Slice) else node


def _meter(node: nodes.Node, name: str) -> nodes.Expr:
    expression = cast(nodes.Expr, node)
    if isinstance(node, nodes.Const) and len(str(node.value)) < _SOURCE_PER_UNIT:
        return expression  # what stands in the template is paid for with the turn
    return nodes.Filter(expression, name, [], [], None, None, lineno=node.lineno)


@pass_context
def _turns(context: Context, value: object = ()) -> object:
    """What is looped over: paid for at once if its length is known, else it pays for itself."""
    tank = _tank.get()
    if hasattr(value, "__len__"):
        tank.burn(tank.turn * len(value))
    return value


def _count_turns(values: Iterator[object]) -> Iterator[object]:
    """What a filter makes one by one: each is paid for when it is taken."""
    tank = _tank.get()
    for value in values:
        tank.burn(tank.turn)
        yield value


@pass_context
def _cut(context: Context, value: object) -> object:
    """What is cut out of something."""
    return _weigh(value)


@pass_context
def _searched(context: Context, value: object) -> object:
    """What something is looked for in: of a mapping only the keys, and those are hashed."""
    return _weigh(value) if isinstance(value, Mapping) else _read(context, value)


@pass_context
def _read(context: Context, value: object) -> object:
    """What is compared or becomes text."""
    _measure(value)
    return value


def _weigh(value: object) -> object:
    """Pay for a value by its length."""
    if isinstance(value, str):
        if len(value) > MAX_CHARS:
            raise TooCostly("the chat template makes something huge")
        _tank.get().burn(1 + len(value) // _CHARS_PER_UNIT)
    elif isinstance(value, list | tuple | dict):
        if len(value) > MAX_ITEMS:
            raise TooCostly("the chat template makes something huge")
        _tank.get().burn(1 + len(value) // _ITEMS_PER_UNIT)
    return value


def _measure(value: object) -> int:
    """Characters that a value has as text, nearly; pays for them while it counts."""
    _weigh(value)
    if isinstance(value, str):
        return len(value)
    _tank.get().burn(_CALL)
    if isinstance(value, Mapping):
        return sum(map(_measure, chain(value.keys(), value.values())))
    if isinstance(value, list | tuple):
        return sum(map(_measure, value))
    return 1


def metered(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """A filter or test that is looked at before and paid for afterwards."""

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        _tank.get().burn(_CALL)
        args = _settle(name, args)
        own = [arg for arg in args if not isinstance(arg, Context | Sandbox | nodes.EvalContext)]
        if own:
            _foresee(name, own[0], [*own[1:], *kwargs.values()])
        made = function(*args, **kwargs)
        return _count_turns(made) if isinstance(made, Iterator) else _weigh(made)

    return call


def _settle(name: str, args: tuple[object, ...]) -> tuple[object, ...]:
    """How much is joined has to be known before."""
    if name != "join":
        return args
    return tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)


def _foresee(name: str, value: object, given: Sequence[object]) -> None:
    """Pay for reading a call's values, and refuse one whose result would be huge."""
    pay = _measure if name in _COMPARING else _weigh
    for part in (value, *given):
        pay(part)
    size = len(value) if isinstance(value, str | list | tuple | dict) else 1
    factor = _largest(given)
    match name:
        case "replace" | "indent" | "join":
            size, factor = _foresee_joints(name, value, given)
        case "string" | "tojson" | "e" | "escape" | "forceescape":
            size = _measure(value)
        case "format" if isinstance(value, str):
            _check_format(value, "%", given)
        case "round":
            _check_power(10, factor)
        case "sum" if any(isinstance(part, list | tuple) for part in given):
            raise TooCostly("the chat template joins lists one by one")
    limit = MAX_ITEMS if isinstance(value, list | tuple) and name != "join" else MAX_CHARS
    if factor > 1 and max(size, 1) * factor > limit:
        raise TooCostly("the chat template makes something huge")


def _largest(given: Sequence[object]) -> int:
    return max((abs(arg) for arg in given if isinstance(arg, int)), default=1)


def _foresee_joints(name: str, value: object, given: Sequence[object]) -> tuple[int, int]:
    """How often a text is put in, and how long it is.

    `replace` puts its second in for every first, `indent` its width (or text) before every line,
    `join` itself (as a method) or its first (as a filter) between all items.
    """
    texts = [arg for arg in given if isinstance(arg, str)]
    longest = max(map(len, texts), default=1)
    if name == "replace" and isinstance(value, str) and texts:
        return value.count(texts[0]), longest
    if name == "indent" and isinstance(value, str):
        return value.count("\n") + 1, max(longest, _largest(given))
    items = value
    if isinstance(value, str):
        items, longest = (given or [()])[0], len(value)
    size = _measure(items)
    if size > MAX_CHARS:
        raise TooCostly("the chat template makes something huge")
    return (len(items) if isinstance(items, list | tuple) else size), max(longest, 1)


def _check_format(text: str, sign: str, values: object) -> None:
    """Every `sign` in the text may stand for all of the values."""
    if _WIDE.search(text):
        raise TooCostly("the chat template formats to a great width")
    if text.count(sign) * _measure(values) > MAX_CHARS:
        raise TooCostly("the chat template makes something huge")


def _check_power(left: object, right: object) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MAX_BITS:
        raise TooCostly("the chat template computes a huge number")


def _check_product(left: object, right: object) -> None:
    for one, other in ((left, right), (right, left)):
        if not isinstance(other, int):
            continue
        if isinstance(one, str | list | tuple) and len(one) * other > (
            MAX_CHARS if isinstance(one, str) else MAX_ITEMS
        ):
            raise TooCostly("the chat template makes something huge")
        if isinstance(one, int) and one.bit_length() + other.bit_length() > _MAX_BITS:
            raise TooCostly("the chat template computes a huge number")
