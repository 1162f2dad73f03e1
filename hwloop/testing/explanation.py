"""Explanations of conditions: the source of a condition, and the values of its parts.

A lambda has no name, so a message about one shows its text. Its place in the file comes from its code object, whose
positions distinguish several lambdas on one line.
"""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Callable, Iterator
from typing import Any

from hwloop.core.naming import short_name

LONGEST = 200
"""Characters of a value that are shown."""


def explain(check: Callable[[], Any]) -> tuple[str, list[tuple[str, str]]]:
    """Return the text of a condition, and the text and value of each part that its truth depends on."""
    code = getattr(check, "__code__", None)
    if not isinstance(code, types.CodeType) or not isinstance(check, types.FunctionType):
        return f"{short_name(check)}()", []
    expression = _expression(code)
    if expression is None:
        return f"{check.__qualname__}()", []
    names = _names(check)
    values: list[tuple[str, str]] = []
    for part in _parts(expression):
        text = ast.unparse(part)
        if text not in dict(values):
            values.append((text, _value(part, names)))
    return ast.unparse(expression), values


def _expression(code: types.CodeType) -> ast.expr | None:
    """Return the expression that a function returns, if it does nothing else; None if its source is not there."""
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and _covers(node.body, code):
            found.append(node.body)
        elif isinstance(node, ast.FunctionDef) and node.name == code.co_name and node.body:
            statement = node.body[-1]
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if first == code.co_firstlineno and isinstance(statement, ast.Return) and len(node.body) == 1:
                found.extend([statement.value] if statement.value is not None else [])
    return found[0] if len(found) == 1 else None


def _covers(body: ast.expr, code: types.CodeType) -> bool:
    """Return whether the code of a lambda comes from this very expression."""
    places = [place for place in code.co_positions() if None not in place and place[2:] != (0, 0)]
    spans = [((line, column), (end, end_column)) for line, end, column, end_column in places]
    begin, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    return (
        bool(spans)
        and any(span == (begin, end) for span in spans)
        and all(begin <= span[0] and span[1] <= end for span in spans)
    )


def _names(check: types.FunctionType) -> dict[str, Any]:
    names = dict(check.__globals__)
    for name, cell in zip(check.__code__.co_freevars, check.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            pass  # not assigned yet
    defaults = check.__defaults__ or ()
    arguments = check.__code__.co_varnames[: check.__code__.co_argcount]
    names.update(zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True))
    return names


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the operands of an expression, down to those without an operator."""
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _parts(value)
    elif isinstance(node, ast.UnaryOp):
        yield from _parts(node.operand)
    elif isinstance(node, ast.BinOp):
        yield from _parts(node.left)
        yield from _parts(node.right)
    elif isinstance(node, ast.Compare):
        for value in (node.left, *node.comparators):
            yield from _parts(value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        yield node
        for value in node.args:
            if not isinstance(value, ast.Starred | ast.GeneratorExp):
                yield from _parts(value)
    elif not isinstance(node, ast.Constant):
        yield node


def _value(part: ast.expr, names: dict[str, Any]) -> str:
    try:
        text = repr(eval(compile(ast.Expression(part), "<condition>", "eval"), names))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return f"({type(error).__name__} when it was evaluated again)"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
