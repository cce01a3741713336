"""`prunelake recommend`: how much to remove."""

from enum import StrEnum
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.recommend.request import DEFAULT_CALIBRATOR, CalibrationMetric
from prunelake.schema.metrics import DEFAULT_MARGIN


class AnswerFormat(StrEnum):
    """The format of the printed answer."""

    text = "text"
    json = "json"


FaithfulnessMarginOption = Annotated[
    float | None, typer.Option(help="The margin for explanations [--margin].")
]
CalibrationMarginOption = Annotated[
    float | None, typer.Option(help="The margin for calibration [--margin].")
]
CalibrationMetricOption = Annotated[
    CalibrationMetric, typer.Option(help="The metric of calibration.")
]


def recommend(
    model: Annotated[str, typer.Option(help="Model reference, or its last part.")],
    task: Annotated[
        str | None, typer.Option(help="One task, or several with commas [all evaluated tasks].")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Limits on its cost: speedup>=1.2, kv_share<=0.8.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="The largest allowed loss for each criterion.")
    ] = DEFAULT_MARGIN,
    faithfulness_margin: FaithfulnessMarginOption = None,
    calibration_margin: CalibrationMarginOption = None,
    criteria: Annotated[
        str | None,
        typer.Option(help="The criteria, with commas: accuracy,calibration [all four]."),
    ] = None,
    calibration: CalibrationMetricOption = CalibrationMetric.ece,
    calibrator: Annotated[
        str, typer.Option(help="The calibrator of the second answer, after recalibration.")
    ] = DEFAULT_CALIBRATOR,
    device: Annotated[
        str | None, typer.Option(help="The device whose costs count, if several were measured.")
    ] = None,
    format: AnswerFormat = AnswerFormat.text,
    lake: LakeOption = None,
) -> None:
    """Recommend how many layers to remove.

    The answer is the best strategy, and its deepest level whose accuracy, calibration and
    explanations are shown to lose less than the margins. It also says what would change the answer.
    With few examples, expect "none".
    """
    from prunelake.lake.sql import views
    from prunelake.recommend.budget import parse_budget
    from prunelake.recommend.recommendation import recommend as recommend_level
    from prunelake.recommend.request import (
        Margins,
        RecommendationRequest,
        parse_criteria,
    )

    request = RecommendationRequest(
        model=model,
        tasks=tuple(task.split(",")) if task is not None else (),
        budget=parse_budget(budget),
        margins=Margins.with_default(margin, faithfulness_margin, calibration_margin),
        criteria=parse_criteria(criteria),
        calibration=calibration,
        calibrator=calibrator,
        device=device,
    )
    with views.connect(load_settings(lake).lake) as connection:
        recommendation = recommend_level(connection, request)
    if format is AnswerFormat.json:
        from prunelake.api.findings.recommendations.advice import Advice

        typer.echo(Advice.of(recommendation).model_dump_json(indent=2))
    else:
        from prunelake.cli.text.recommendation_text import print_recommendation

        print_recommendation(recommendation, lake_option=lake)
