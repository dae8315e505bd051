"""Finds the words of the console in Python files, for Babel (locale/babel.cfg)."""

import ast
import re
from collections.abc import Collection, Iterator
from typing import IO, Any

# Chinese characters, or nothing but the signs that join Chinese texts.
CHINESE = re.compile(r"[\u3400-\u9fff]|^(?=.*[，；：、])(?:[，；：、]|\{\w+\})+$")

Message = tuple[int, str, str, list[str]]


def chinese(
    file: IO[bytes],
    keywords: Collection[str],
    comment_tags: Collection[str],
    options: dict[str, Any],
) -> Iterator[Message]:
    """Every Chinese text of a file is a message, except what people have to type.

    The option `skip` names top-level constants and functions that hold such texts.
    An f-string is given as it stands in the source: it can't be translated, which the
    tests refuse.
    """
    skip = frozenset(str(options.get("skip", "")).split())
    tree = ast.parse(file.read())
    for statement in tree.body:
        if not skip & set(_names(statement)):
            yield from _messages(statement)


def _names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Assign() | ast.AnnAssign():
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def _messages(node: ast.AST) -> Iterator[Message]:
    match node:
        case ast.Expr(value=ast.Constant()):
            return  # a docstring
        case ast.JoinedStr() if CHINESE.search(ast.unparse(node)):
            yield node.lineno, "", ast.unparse(node), []
        case ast.Constant(value=str(text)) if CHINESE.search(text):
            yield node.lineno, "", text, []
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _messages(child)
