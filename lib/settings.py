"""What every checked set of values has in common: one class with types, ranges, units and meanings.

`Settings` is a pydantic model that rejects unknown names, and whose mistakes are told in one line each.
"""

import re
import typing
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError

from lib.errors import UserError, did_you_mean

TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a list of names and values",
}
EXPONENT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?[eE][-+]?[0-9]+")  # `float` also takes 010, 1_0 and other digits


def number(default: float, low: float, high: float, meaning: str) -> Any:
    """Make the field of a number from `low` to `high`, both allowed."""
    return pydantic.Field(default, ge=low, le=high, description=meaning)


class Settings(BaseModel):
    """Base of the recipe and of the settings of the preparation; instances cannot be changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _number_from_text(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """Accept 1e-3, which YAML 1.1 reads as text; a whole number may be written 40.0."""
        expected = cls.model_fields[info.field_name].annotation
        if expected is float and isinstance(value, str) and EXPONENT.fullmatch(value):
            return float(value)
        return int(value) if expected is int and isinstance(value, float) and value.is_integer() else value

    @classmethod
    def check(cls, values: dict[str, Any], origins: dict[str, str] | None = None) -> "typing.Self":
        """Make an instance, or name every mistake; `origins` says where each value comes from, such as a file.

        Raises:
            UserError: One line for each mistake: origin, name, allowed values, what was received.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as problems:
            lines = [cls._explain(problem, origins or {}) for problem in problems.errors()]
        raise UserError("\n".join(lines))

    @classmethod
    def _explain(cls, problem: Any, origins: dict[str, str]) -> str:
        if not problem["loc"]:
            return problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0])
        origin = f"{origins[name]}: " if name in origins else ""
        if name not in cls.model_fields:
            return f"{origin}there is no parameter `{name}`. {did_you_mean(name, cls.model_fields)}"
        if problem["type"] == "missing":
            return f"{origin}`{name}` is missing; it must be {cls.allowed(name)}."
        return f"{origin}`{name}` must be {cls.allowed(name)}, not {problem['input']!r}."

    @classmethod
    def allowed(cls, name: str) -> str:
        """Say in words what a parameter may be, such as "a number from 0 to 1"."""
        field = cls.model_fields[name]
        if typing.get_origin(field.annotation) is typing.Literal:
            return f"one of {', '.join(map(str, typing.get_args(field.annotation)))}"
        low, high = cls.limits(name)
        limits = f" from {_spelt(low)} to {_spelt(high)}" if low is not None and high is not None else ""
        example = f" such as {' or '.join(map(repr, field.examples))}" if field.examples else ""
        return TYPE_NAMES.get(field.annotation, field.annotation.__name__) + limits + example

    @classmethod
    def limits(cls, name: str) -> tuple[float | None, float | None]:
        """Give the lowest and the highest allowed value of a number; None where there is no limit."""
        metadata = cls.model_fields[name].metadata
        limits = {end: getattr(limit, end) for limit in metadata for end in ("ge", "le") if hasattr(limit, end)}
        return limits.get("ge"), limits.get("le")

    @classmethod
    def markdown(cls) -> str:
        """Lay out a Markdown table of all parameters: name, allowed values, default and meaning."""
        fields = cls.model_fields.items()
        rows = [(f"`{name}`", cls.allowed(name), _default(field), field.description or "") for name, field in fields]
        return _markdown("parameter", "allowed", "default", "meaning", rows=rows)

    def _repr_markdown_(self) -> str:
        """Show the values in a notebook, in bold where they are not the default."""
        rows = []
        for name, field in type(self).model_fields.items():
            value, default = str(getattr(self, name)), _default(field)
            shown = value if value == default else f"**{value}**"
            rows.append((f"`{name}`", shown, default, field.description or ""))
        return _markdown("parameter", "value", "default", "meaning", rows=rows)


def _default(field: pydantic.fields.FieldInfo) -> str:
    return "required" if field.is_required() else str(field.default)


def _markdown(*columns: str, rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def _spelt(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
