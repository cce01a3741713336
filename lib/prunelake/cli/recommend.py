"""`prunelake recommend`: how much to remove."""

from enum import StrEnum
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings


class CalibrationMetricOption(StrEnum):
    """The metric of calibration that must not be worse."""

    ece = "ece"
    smooth_ece = "smooth_ece"
    brier = "brier"
    nll = "nll"


class AnswerFormat(StrEnum):
    """How the answer is printed."""

    text = "text"
    json = "json"


def recommend(
    model: Annotated[str, typer.Option(help="Model reference, or its last part.")],
    task: Annotated[
        str | None, typer.Option(help="One, or several by commas [all that were evaluated].")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="What it may cost: speedup>=1.2, kv_share<=0.8.")
    ] = None,
    margin: Annotated[float, typer.Option(help="How much worse each criterion may be.")] = 0.02,
    faithfulness_margin: Annotated[
        float | None, typer.Option(help="Of explanations, instead of --margin.")
    ] = None,
    calibration_margin: Annotated[
        float | None, typer.Option(help="Of calibration, instead of --margin.")
    ] = None,
    calibration: Annotated[
        CalibrationMetricOption, typer.Option(help="What calibration is measured by.")
    ] = CalibrationMetricOption.ece,
    calibrator: Annotated[
        str, typer.Option(help="What the second answer recalibrates confidence by.")
    ] = "temperature",
    device: Annotated[
        str | None, typer.Option(help="Where the budget's costs were measured, if on several.")
    ] = None,
    format: AnswerFormat = AnswerFormat.text,
    lake: LakeOption = None,
) -> None:
    """Say which level and strategy to take, why not more, and what would change that.

    It is the deepest level whose accuracy, calibration and explanations are shown to be no worse
    than the unpruned model's beyond the margins. None is an answer.
    """
    from prunelake.lake import views
    from prunelake.recommend.budget import parse_budget
    from prunelake.recommend.recommendation import Margins, RecommendationRequest
    from prunelake.recommend.recommendation import recommend as decide

    question = RecommendationRequest(
        model=model,
        tasks=tuple(task.split(",")) if task is not None else (),
        budget=parse_budget(budget),
        margins=Margins.with_default(margin, faithfulness_margin, calibration_margin),
        calibration=calibration.value,
        calibrator=calibrator,
        device=device,
    )
    with views.connect(load_settings(lake).lake) as connection:
        found = decide(connection, question)
    if format is AnswerFormat.json:
        from api.findings.recommendation import Advice

        typer.echo(Advice.of(found).model_dump_json(indent=2))
    else:
        from prunelake.cli.terminal import print_recommendation

        print_recommendation(found)
