"""The settings of the server; docs/settings.md describes each variable."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def _separated(text: Any) -> Any:
    return [part.strip() for part in text.split(",")] if isinstance(text, str) else text


def _checked_origin(origin: str) -> str:
    # Any other value would never equal a browser's header Origin; `*` would admit every site.
    if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", origin):
        raise ValueError(
            f"{origin!r} is no origin; write https://host or https://host:port in lower case, and "
            "separate several by commas"
        )
    return origin


Origin = Annotated[str, AfterValidator(_checked_origin)]


class ApiSettings(BaseSettings):
    """The environment variables of the server: PRUNELAKE_API_TOKEN and so on.

    Sizes are in bytes and times in seconds.
    """

    model_config = SettingsConfigDict(
        env_prefix="PRUNELAKE_API_", env_ignore_empty=True, frozen=True
    )

    token: SecretStr | None = None
    origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_separated)] = ()
    sql: bool = True
    max_rows: Positive = 100_000
    max_bytes: Positive = 100_000_000
    max_seconds: Seconds = 10.0
    cache_bytes: Annotated[int, Field(ge=0)] = 64_000_000
    sql_max_rows: Positive = 10_000
    sql_max_bytes: Positive = 10_000_000
    sql_max_seconds: Seconds = 5.0
    sql_queue: Positive = 100
    sql_queue_seconds: Seconds = 300.0
    sql_memory_bytes: Positive = 1_000_000_000
    sql_processes: Positive = 2
