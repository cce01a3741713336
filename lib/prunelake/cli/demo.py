"""`prunelake demo`: the main job on the bundled tasks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.cli.evaluate import evaluate
from prunelake.cli.read import write_report
from prunelake.spec import SweepSpec

DEMO_SPECS: list[dict[str, Any]] = [
    {
        "task": "opinions",
        "rows": {"first": 500},
        "levels": [0, 2, 4, 6, 8, 10],
        # Explaining is dear: fewer rows, levels and masks than the defaults keep the demo short.
        "explain": {
            "methods": ["difference_shap"],
            "rows": 48,
            "levels": [0, 2, 8],
            "operators": ["delete_text"],
            "unpruned_samples": 4,
            "difference_samples": [0.5, 1.5],
        },
    },
    {
        "task": "everyday_knowledge",
        "rows": {"first": 360},
        "levels": [0, 2, 4, 8],
        "explain": None,
    },
]
"""All rows of both bundled tasks; the margins are those of `schema/metrics.py`."""


def demo(
    lake: LakeOption = None,
    report: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
) -> None:
    """Sweep SmolLM2-135M over the two bundled tasks and write a report."""
    from prunelake.cli.terminal import print_summary

    folder = load_settings(lake)
    run_ids = [evaluate(SweepSpec.model_validate(fields), folder) for fields in DEMO_SPECS]
    print_summary(folder.lake, run_ids)
    write_report(folder.lake, report)
    typer.echo(f'\nReport: {report}    Ask the lake: prunelake sql "select * from correlations"')
