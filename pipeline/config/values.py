"""The types of the jobs' fields: loose at the edge, strict inside."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

Kind = Literal["labels", "probabilities", "logits"]
Precision = Literal["auto", "float32", "bfloat16", "float64"]
Device = Literal["auto", "cpu", "cuda"]
Mode = Literal["auto", "exact", "blend"]
Turns = Literal["none", "flips", "all"]
Holes = Literal["error", "background"]


def _voxels(value: Any) -> Any:
    """Accept ``"2048,2048"`` for a list of whole numbers."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return (value,) if isinstance(value, int) else value


def _numbers(value: Any) -> Any:
    """Accept ``"0.5,0.5"`` or one number for a list of numbers."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return (value,) if isinstance(value, int | float) else value


def _names(value: Any) -> Any:
    """Accept ``"background,nucleus"`` for a list of names."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _ranges(value: Any) -> Any:
    """Accept ``"0:1000,500:2500"`` for a list of start and stop; either may be left out."""
    if not isinstance(value, str):
        return value
    pairs = []
    for part in value.split(","):
        found = re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*", part)
        if found is None:
            raise ValueError(f"{part.strip()!r} is not start:stop, for example 0:1000")
        pairs.append(tuple(None if number is None else int(number) for number in found.groups()))
    return pairs


def _bytes(value: Any) -> Any:
    """Accept ``"4GiB"`` for a number of bytes."""
    if not isinstance(value, str):
        return value
    try:
        return int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        raise ValueError(f"{value!r} is not a number of bytes, for example 4GiB or 500MB") from None


Positive = Annotated[int, Field(ge=1)]
SeamLimit = Annotated[float, Field(ge=0.5, le=1)]
Whole = Annotated[int, Field(ge=0)]
Range = tuple[int | None, int | None]
# Forms offer a text first, since it is the shortest way to say it: 2048,2048.
Overlap = Annotated[tuple[Whole, ...], BeforeValidator(_voxels, json_schema_input_type=str | tuple[Whole, ...])]
Seeds = Annotated[tuple[Whole, ...], BeforeValidator(_voxels, json_schema_input_type=str | tuple[Whole, ...])]
Voxels = Annotated[
    tuple[Positive, ...], BeforeValidator(_voxels, json_schema_input_type=str | tuple[Positive, ...])
]
Ranges = Annotated[tuple[Range, ...], BeforeValidator(_ranges, json_schema_input_type=str | tuple[Range, ...])]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_numbers, json_schema_input_type=str | tuple[float, ...])]
Names = Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str | tuple[str, ...])]
Bytes = Annotated[int, Field(ge=1), BeforeValidator(_bytes, json_schema_input_type=str | Positive)]
Size = Annotated[tuple[float, ...], BeforeValidator(_voxels, json_schema_input_type=str | tuple[float, ...])]

ACRONYMS = ("ca", "crs", "iou", "isbi", "tls", "tta")
"""Words of fields' names that forms write in capitals."""

NO_CREDENTIALS = r"^(?![\s\S]*://[^/\s]*@)"
"""What texts of a job must match on a server: ``s3://key:secret@host`` would stay in its database for all to see."""


def _describe(schema: dict[str, Any], model: type[Any]) -> None:
    """Make a form of a job that people can read, and whose server refuses credentials before it stores them.

    Fields are in the job's order, and each says its position too, as a database may forget the order.
    """
    properties = schema.get("properties", {})
    schema["properties"] = {name: properties[name] for name in model.ordered() if name in properties}
    for position, (name, described) in enumerate(schema["properties"].items()):
        described |= {"title": _title(name), "position": position}
        if "description" in described:
            described["description"] = _OPTION.sub(_as_field, described["description"])
        kinds = [described, *described.get("anyOf", ())]
        for each in (*kinds, *(kind["items"] for kind in kinds if isinstance(kind.get("items"), dict))):
            if each.get("type") == "string" and not {"pattern", "enum", "const"} & set(each):
                each["pattern"] = NO_CREDENTIALS


_OPTION = re.compile(r"--([a-z][a-z-]*)")


def _as_field(option: re.Match[str]) -> str:
    """Return what an option of the command line is called in a form."""
    return _title(option[1].replace("-", "_"))


def _title(name: str) -> str:
    """Return a field's name as forms show it: ``Pixel size``, ``TLS key``."""
    words = [word.upper() if word in ACRONYMS else word for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


class Job(BaseModel):
    """What all jobs have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=_describe)

    @classmethod
    def ordered(cls) -> list[str]:
        """Return the names of the fields as people should meet them: a job's own before those that it shares."""
        names = [name for each in cls.__mro__ for name in getattr(each, "__annotations__", ())]
        return [name for name in dict.fromkeys(names) if name in cls.model_fields]
