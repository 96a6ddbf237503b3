"""Config sections that forgive nothing: every mistake is one line that names its key."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from jaxmerge.errors import InputError, unknown


class Strict(BaseModel):
    """A frozen section of a config. An unknown key is an error that names the nearest known one; no value is
    converted from another type (an integer does for a float)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in known:
                    message = str(unknown("key", str(key), known))
                    raise PydanticCustomError(
                        "unknown_key", "{message}", {"message": message, "key": str(key)}
                    )
        return data


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
