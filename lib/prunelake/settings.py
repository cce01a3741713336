"""The environment variables of PruneLake."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

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
    cache: Path = Path("~/.cache/prunelake")
    device: str = "auto"
    task_runner: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    ray_cpus: Annotated[int, Field(ge=1)] = 1
    ray_gpus: Annotated[float, Field(ge=0)] = 0
    page_url: str | None = None
