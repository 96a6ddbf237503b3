"""Config sections that forgive nothing: every mistake is one line that names its key."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from jaxmerge.errors import InputError, unknown


class Strict(BaseModel):
    """A frozen section of a config. An unknown key is an error that names the nearest known one; no value is
    converted from another type (an integer does for a float)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = [field.alias or name for name, field in cls.model_fields.items()]
        strange = [key for key in data if key not in known]
        if not strange:
            return data
        # What is wrong besides is told in the same breath.
        errors = [_unknown(str(key), known) for key in strange]
        try:
            cls.model_validate({key: value for key, value in data.items() if key in known})
        except ValidationError as failed:
            errors += [_again(error) for error in failed.errors(include_url=False) if not _follows(error)]
        raise ValidationError.from_exception_data(cls.__name__, errors)


def _unknown(key: str, known: list[str]) -> InitErrorDetails:
    message = str(unknown("key", key, known))
    kind = PydanticCustomError("unknown_key", "{message}", {"message": message, "key": key})
    return InitErrorDetails(type=kind, loc=(), input=None)


def _follows(error: ErrorDetails) -> bool:
    """Whether an error may come of a misspelt key of its section: another is missing, or the section is incomplete."""
    return not error["loc"] or (error["type"] == "missing" and len(error["loc"]) == 1)


def _again(error: ErrorDetails) -> InitErrorDetails:
    context = error.get("ctx", {})
    kind: str | PydanticCustomError = error["type"]
    if kind in ("unknown_key", "misfit"):
        kind, context = PydanticCustomError(kind, "{message}", {"message": error["msg"], **context}), {}
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"], ctx=context)


def misfit(message: str, *keys: str) -> PydanticCustomError:
    """The error of a validator about a key further in: `keys` lead there from where the validator stands."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "keys": keys})


Section = TypeVar("Section", bound=BaseModel)


def read_section(section: type[Section], data: Any, where: str) -> Section:
    """Validate plain data. where: the file or key it stands in. Raises InputError with the first mistake."""
    try:
        return section.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(
            "."
        )
        message = first["msg"].removeprefix("Value error, ")
        given = first["input"]
        if first["type"] not in ("value_error", "missing", "unknown_key", "misfit") and isinstance(
            given, str | int | float | None
        ):
            message = f"{message}, not {given!r}"
        raise InputError(": ".join(part for part in (where, path, message) if part)) from None
