"""The base of the values that a user asks for, and the types that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Levels = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
LevelRows = tuple[tuple[int, Annotated[int, Field(ge=0)]], ...]
"""Pairs of a level and its number of explained rows."""

Seed = Annotated[int, Field(ge=0, lt=2**31)]  # the columns of the lake have 32 bits


class FrozenValue(BaseModel):
    """The base of all values here: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
