"""The environment variables of PruneLake."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from prunelake.cache_folder import DEFAULT_CACHE
from prunelake.errors import InvalidSpec, validation_message
from prunelake.lake.storage.location import Location, parse_location

LakeLocation = Annotated[
    Location,
    PlainValidator(parse_location),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "path"}),
]


class Settings(BaseSettings):
    """The environment variables of PruneLake; the README's table describes each."""

    model_config = SettingsConfigDict(env_prefix="PRUNELAKE_", env_ignore_empty=True, frozen=True)

    lake: LakeLocation = Path("lake")
    data: Path | None = None
    cache: Path = DEFAULT_CACHE
    device: str = "auto"
    locks: Path | None = None
    compile: bool = False
    task_runner: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    ray_cpus: Annotated[int, Field(ge=1)] = 1
    ray_gpus: Annotated[float, Field(ge=0)] = 0
    page_url: str | None = None

    @property
    def lock_folder(self) -> Path:
        """The folder of the locks of GPUs: `locks`, or `devices` in the cache."""
        return (self.locks or self.cache / "devices").expanduser()


OTHER_VARIABLES = (
    "PRUNELAKE_DTYPE",
    *(
        f"PRUNELAKE_API_{name}"
        for name in ("TOKEN", "ORIGINS", "MAX_ROWS", "MAX_BYTES", "MAX_SECONDS", "CACHE_BYTES")
    ),
    *(
        f"PRUNELAKE_API_SQL{name}"
        for name in (
            *("", "_MAX_ROWS", "_MAX_BYTES", "_MAX_SECONDS", "_MEMORY_BYTES", "_PROCESSES"),
            *("_QUEUE", "_QUEUE_SECONDS"),
        )
    ),
)
"""The variables of the sweep command and of the server (`api.settings`)."""


def load_settings(lake: str | Location | None = None) -> Settings:
    """The settings from the environment; `lake` replaces their lake.

    Raises:
        InvalidSpec: an environment variable has an invalid value or a misspelt name.
        LakeError: `lake` cannot be the location of a lake.
    """
    _refuse_misspelt_variables()
    try:
        settings = Settings()
    except ValidationError as error:
        raise InvalidSpec(
            validation_message(
                error.errors(),
                name_of=lambda problem: (
                    f"PRUNELAKE_{problem['loc'][0]}".upper() + f"={problem['input']}"
                ),
            )
        ) from error
    return settings if lake is None else settings.model_copy(update={"lake": parse_location(lake)})


def _refuse_misspelt_variables() -> None:
    """Refuse a variable whose name is nearly that of a setting: it would be ignored."""
    known = [f"PRUNELAKE_{name.upper()}" for name in Settings.model_fields] + [*OTHER_VARIABLES]
    short = {name.removeprefix("PRUNELAKE_"): name for name in known}
    for name in os.environ:
        if name.startswith("PRUNELAKE_") and name not in known:
            close = get_close_matches(name.removeprefix("PRUNELAKE_"), short, 1)
            if close:
                raise InvalidSpec(f"{name} is not a variable of PruneLake; write {short[close[0]]}")
