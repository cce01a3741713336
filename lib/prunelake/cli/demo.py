"""`prunelake demo`: the main job on the bundled tasks, or its recorded results."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.cli.evaluate import evaluate
from prunelake.cli.read import write_report
from prunelake.errors import InvalidSpec
from prunelake.spec import SweepSpec

if TYPE_CHECKING:
    from prunelake.settings import Settings

DEMO_SPECS: list[dict[str, Any]] = [
    {
        "task": "opinions",
        "rows": {"first": 500},
        "levels": [0, 2, 4, 6, 8, 10],
        # Explaining costs most: fewer rows, levels and masks than by default keep the demo short.
        "explain": {
            "rows": 40,
            "levels": [0, 2, 4, 8],
            "operators": ["delete_text"],
            "unpruned_samples": 4,
        },
    },
    {
        "task": "everyday_knowledge",
        "rows": {"first": 360},
        "levels": [0, 2, 4, 8],
        "explain": None,
    },
]
"""All rows of both bundled tasks. Every metric has the margin that `schema/metrics.py` declares."""

VERDICTS_QUERY = (
    "select task, level, metric, verdict, delta from verdicts "
    "where verdict <> 'inconclusive' order by all"
)


def demo(
    lake: LakeOption = None,
    report: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Show recorded results; compute nothing.")
    ] = False,
) -> None:
    """Evaluate SmolLM2-135M on two small tasks, and write a report."""
    from prunelake.cli.text.terminal import print_summary

    settings = load_settings(lake)
    if recorded:
        if lake is not None:
            raise InvalidSpec("--recorded brings its own lake; leave out --lake")
        settings, run_ids = _open_recorded_lake(settings)
        lake = str(settings.lake)  # for the printed commands
    else:
        run_ids = run_demo(settings)
    print_summary(settings.lake, run_ids, lake_option=lake)
    write_report(settings.lake, report)
    option = "" if lake is None else f" --lake {shlex.quote(lake)}"
    typer.echo(
        f"\nReport: {report}\nPage:   prunelake serve{option}\n"
        f'SQL:    prunelake sql{option} "{VERDICTS_QUERY}"\n'
        "Next:   prunelake sweep --model hub:ORG/NAME --task everyday_knowledge"
    )


def run_demo(settings: "Settings") -> list[str]:
    """Run the demo's sweeps; return the ids of their runs.

    Raises:
        PruneLakeError: as `sweeps.run.run_sweep`.
    """
    return [evaluate(SweepSpec.model_validate(fields), settings) for fields in DEMO_SPECS]


def _open_recorded_lake(settings: "Settings") -> "tuple[Settings, list[str]]":
    """Unpack the recorded lake into the cache; return settings for it, and its run ids."""
    from prunelake.lake.read import run_ids
    from prunelake.lake.recorded import RECORDED_LAKE, unpack_lake

    folder = unpack_lake(RECORDED_LAKE, settings.cache.expanduser() / "recorded")
    return settings.model_copy(update={"lake": folder}), run_ids(folder)
