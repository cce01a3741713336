"""The settings of the server; the README's table describes each variable."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ApiSettings(BaseSettings):
    """The environment variables of the server: PRUNELAKE_API_TOKEN and so on.

    Sizes are in bytes and times in seconds.
    """

    model_config = SettingsConfigDict(
        env_prefix="PRUNELAKE_API_", env_ignore_empty=True, frozen=True
    )

    token: SecretStr | None = None
    sql: bool = True
    max_rows: Positive = 100_000
    max_bytes: Positive = 100_000_000
    max_seconds: Seconds = 10.0
    cache_bytes: Annotated[int, Field(ge=0)] = 64_000_000
    sql_max_rows: Positive = 10_000
    sql_max_bytes: Positive = 10_000_000
    sql_max_seconds: Seconds = 5.0
    sql_memory_bytes: Positive = 1_000_000_000
    sql_processes: Positive = 2
