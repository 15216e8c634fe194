"""A declaration of the catalogue, as a YAML file: read without its traps, with `${VARIABLES}` of the environment."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from app.base.errors import InvalidField

__all__ = ["read_file"]

_VARIABLE = re.compile(r"\$?\$\{(\w+)\}")
_MONEY = frozenset({"prices", "costs", "multiplier"})
_COUNTED = "above_input_tokens"
_BOOLEANS = re.compile(r"true|false", re.IGNORECASE)


class _Decimal(float):
    """A number as it was written: prices are read from the text, never from a float."""

    text: str


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # it comes without types
    """YAML 1.2 where 1.1 surprises: `on` and `no` are texts, and so are dates. A key that is there twice is a fault."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{key}` is there twice", node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made

    def written(self, node: yaml.ScalarNode) -> _Decimal:
        number = _Decimal(self.construct_yaml_float(node))
        number.text = node.value
        return number


_SURPRISING = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _SURPRISING]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEANS, list("tTfF"))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.written)


def read_file(text: str, environ: Mapping[str, str]) -> Any:
    """Raises InvalidField, with the path of a variable that the environment does not have."""
    try:
        read = yaml.load(text, _Loader)  # noqa: S506 (it is a safe loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidField(None, f"the file is not valid YAML: {_briefly(error)}") from None
    return _plain(read, "", environ, is_money=False)


def _plain(value: Any, path: str, environ: Mapping[str, str], *, is_money: bool) -> Any:
    if isinstance(value, dict):
        return {
            str(name): _plain(
                each,
                f"{path}.{name}" if path else str(name),
                environ,
                is_money=(is_money or name in _MONEY) and name != _COUNTED,
            )
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_plain(each, f"{path}[{place}]", environ, is_money=is_money) for place, each in enumerate(value)]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _filled(match, path, environ), value)
    if is_money and isinstance(value, (int, float)) and not isinstance(value, bool):
        return value.text if isinstance(value, _Decimal) else str(value)
    return float(value) if isinstance(value, _Decimal) else value


def _filled(match: re.Match[str], path: str, environ: Mapping[str, str]) -> str:
    """`$${NAME}` is the text `${NAME}` itself."""
    if match[0].startswith("$$"):
        return match[0][1:]
    if match[1] not in environ:
        raise InvalidField(path, f"the environment has no variable {match[1]}")
    return environ[match[1]]


def _briefly(error: Exception) -> str:
    """Where and what, without the lines around it: those may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark = error.problem_mark
    return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}"
