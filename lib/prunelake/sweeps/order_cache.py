"""Removal orders of calibration text, kept in the cache: exports and profiles share them."""

from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import Field, ValidationError

from prunelake.identity import content_hash
from prunelake.models.loading import ModelSource
from prunelake.schema.table import FORMAT_VERSION
from prunelake.spec import Dtype, FrozenValue, Strategy

FOLDER = "orders"
"""The folder of the orders within the cache of the settings."""


class CachedOrder(FrozenValue):
    """A removal order, first removed first, and the number of removals that were measured."""

    layers: tuple[int, ...]
    depth: int = Field(ge=0)


class OrderCache:
    """The order of one model by one strategy on one text, in a file named by their hash.

    Args:
        cache: the folder of the settings.
        windows: the token ids of the calibration text.
    """

    def __init__(
        self,
        cache: Path,
        source: ModelSource,
        strategy: Strategy,
        dtype: Dtype,
        windows: tuple[tuple[int, ...], ...],
    ) -> None:
        key = {
            "format_version": FORMAT_VERSION,
            "revision": source.revision,
            "remote_code": source.remote_code,
            "strategy": strategy.model_dump(mode="json"),
            "dtype": dtype,
            "calibration_hash": content_hash(windows),
        }
        self._file = cache / FOLDER / f"{content_hash(key)[:32]}.json"

    def read(self, depth: int) -> tuple[int, ...] | None:
        """The order, if it was measured for at least `depth` removals."""
        try:
            found = CachedOrder.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return None
        return found.layers if found.depth >= depth else None

    def write(self, layers: tuple[int, ...], depth: int) -> None:
        """Keep an order; another process sees the old file or the whole new one."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=self._file.parent, delete=False) as file:
            file.write(CachedOrder(layers=layers, depth=depth).model_dump_json())
        Path(file.name).replace(self._file)
