"""A chart of a run: a picture in a notebook, a file, or an Altair chart."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelake.api.charts.catalog import CHARTS
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.findings.selection import SelectionRequest, select_with_levels
from prunelake.errors import InvalidRequest, NotFound, one_line
from prunelake.lake.sql import views
from prunelake.lake.storage.location import Location

if TYPE_CHECKING:
    from altair import TopLevelMixin

PIXELS_PER_PX = 2
"""The scale of pictures, for screens with high resolution."""


@dataclass(frozen=True)
class RunChart:
    """A drawn chart; `altair` is the Altair chart, for changes of your own."""

    drawn: Part

    @property
    def altair(self) -> "TopLevelMixin":
        """The chart as an Altair chart."""
        # Importing altair takes longer than drawing.
        from altair import Chart

        return Chart.from_dict(house_style.vega_lite(self.drawn))

    @property
    def title(self) -> str:
        """The finding that the chart states, with the numbers of examples."""
        return house_style.title(self.drawn)

    def __repr__(self) -> str:
        return f"RunChart({self.title})"

    def save(self, path: str | Path) -> None:
        """Write the chart to a file: .png, .svg, .html or .json (Vega-Lite).

        Raises:
            InvalidRequest: another suffix, or the file cannot be written.
        """
        path = Path(path)
        suffixes = [f".{format}" for format in formats.ChartFormat]
        if path.suffix not in suffixes:
            raise InvalidRequest(f"{path}: end the name in {', '.join(suffixes)}", suffixes)
        spec = house_style.vega_lite(self.drawn)
        try:
            path.write_bytes(formats.encode_chart(spec, formats.ChartFormat(path.suffix[1:])))
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be written ({one_line(error)})") from error

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        """The picture, and the width at which a notebook shows it."""
        picture = formats.png(house_style.vega_lite(self.drawn), PIXELS_PER_PX)
        width = int.from_bytes(picture[16:20], "big")  # a field of the PNG header
        return picture, {"width": width // PIXELS_PER_PX}


def draw(lake: Location, run_id: str, name: str, level: int | None, metric: str | None) -> RunChart:
    """The chart `name` of a run; see `Run.chart`.

    Raises:
        NotFound, NothingToShow: as `Run.chart`.
    """
    definition = CHARTS.get(name)
    if definition is None:
        raise NotFound(f"no chart {name!r}; choose {', '.join(CHARTS)}", CHARTS)
    request = SelectionRequest(run_id=run_id, level=level, metric=metric)
    with views.connect(lake) as connection:
        try:
            selection, _ = select_with_levels(lambda query: query.rows(connection), request)
        except NotFound as error:
            raise NotFound(f"{error}; choose {', '.join(error.choices)}", error.choices) from None
        rows = definition.query(selection).rows(connection)
    return RunChart(definition.chart(rows, selection))
