"""Validate the text of a YAML file; an error names the line, the field and the remedy."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from prunelake.errors import InvalidSpec, one_line, validation_message

Value = TypeVar("Value", bound=BaseModel)

Place = Sequence[int | str]
"""The path of a field in a nested value: ("explain", "seeds", 0)."""


def validate_yaml(
    text: str, model: type[Value], where: str, example: str, **defaults: object
) -> Value:
    """The value that a YAML text describes.

        validate_yaml("task: boolq", SweepSpec, "spec.yaml", example="task: everyday_knowledge")

    `where` begins the error message; `example` is text that would make an empty file valid.
    `defaults` gives values for fields that the text leaves out.

    Raises:
        InvalidSpec: not YAML, or not a value of this model.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_fields(root, where)
        fields = yaml.safe_load(text)
    except RecursionError as error:
        raise InvalidSpec(f"{where}: its values are nested too deep") from error
    except ValueError as error:  # an impossible date, or a number with thousands of digits
        raise InvalidSpec(f"{where}: a value cannot be read ({one_line(error)})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidSpec(f"{where}{line}: not YAML ({' '.join(problem.split())})") from error
    if fields is None:
        raise InvalidSpec(f"{where} is empty; write at least `{example}`")
    try:
        return model.model_validate(defaults | fields if isinstance(fields, dict) else fields)
    except ValidationError as error:
        problems = [_described(problem, model, root) for problem in error.errors()]
        raise InvalidSpec(f"{where}, {validation_message(problems, whole='file')}") from error


def _refuse_repeated_fields(node: yaml.Node | None, where: str) -> None:
    """Refuse a field that a mapping has twice: YAML would silently take the second value."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise InvalidSpec(
                    f"{where}, line {line}: {key.value} is also in line {seen[key.value]}; leave "
                    "one out"
                )
            seen[str(key.value)] = line
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        for item in node.value:
            for child in item if isinstance(item, tuple) else (item,):
                _refuse_repeated_fields(child, where)


def _described(
    problem: Mapping[str, Any], model: type[BaseModel], root: yaml.Node | None
) -> Mapping[str, Any]:
    """A problem of pydantic with the line in its path, and with a plainer message."""
    place, message = problem["loc"], problem["msg"]
    if problem["type"] == "extra_forbidden":
        names = _field_names(model, place[:-1])
        close = get_close_matches(str(place[-1]), names, 1)
        message = f"no such field; did you mean {close[0]}?" if close else "no such field; "
        message += "" if close else f"choose from {', '.join(names)}"
    elif problem["type"] == "model_type":
        names = _field_names(model, place)
        message = f"{problem['input']!r} has no fields; write at least one of {', '.join(names)}"
    elif problem["type"] == "missing":
        message = "is missing"
    elif problem["type"] == "string_type":
        message = f"{problem['input']!r} is not a text; write it in quotes"
    line = _line(root, place)
    named = ".".join(map(str, place))
    return {"loc": (f"line {line}, {named}" if line and place else named,), "msg": message}


def _field_names(model: type[BaseModel], place: Place) -> list[str]:
    """The names of the fields of the model at a place within another model."""
    for step in place:
        if step in model.model_fields:
            annotation = model.model_fields[str(step)].annotation
            nested = [
                kind
                for kind in (annotation, *get_args(annotation))
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            ]
            if nested:
                model = nested[0]
    return [*model.model_fields]


def _line(node: yaml.Node | None, place: Place) -> int | None:
    """The line of a field, from 1; None if the text lacks the field."""
    line = None
    for step in place:
        if isinstance(node, yaml.MappingNode):
            lines = {key.value: (key, value) for key, value in node.value}
            if step not in lines:
                return None
            key, node = lines[step]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line
