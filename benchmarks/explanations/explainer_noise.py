"""The part of a change of faithfulness that the explainer causes: several methods on the same rows.

    python -m benchmarks.explanations.explainer_noise LAKE [--picture docs/explainer_noise.png]

Reads the runs of a lake that explain the same examples by several methods. The reference is the
`leverage_shap` with the most masks per token; with 24 its Shapley values have a small error
(docs/statistics.md). For each method it prints the area over the deletion curve at level 0, its
change from level 0, and the part of that change that the reference does not show: the mean over the
examples of (change by the method - change by the reference). Intervals are 95 % intervals of paired
means. Prints Markdown and a summary, and draws the changes of comprehensiveness.
"""

import argparse
from pathlib import Path

import polars as pl

from prunelake.api.charts.drawing.formats import png
from prunelake.api.charts.drawing.house_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    WIDTH,
    vega_lite,
    with_house_style,
)
from prunelake.api.charts.drawing.vega_lite import Part, field
from prunelake.lake.sql.views import query

AREAS = """
select
    runs.model_name,
    runs.task,
    aopc.example_id,
    aopc.level,
    aopc.kind,
    aopc.method,
    case aopc.method
        when 'kernel_shap' then 3.0
        when 'leverage_shap' then (spec ->> '$.explain.leverage_samples')::double
    end as masks_per_token,
    avg(aopc.value) as area
from aopc
inner join runs on aopc.run_id = runs.run_id
where aopc.method != 'random' and aopc.operator = 'delete_text' and aopc.variant = 'eraser'
group by all
"""
KEY = ("model_name", "task", "kind", "level", "example_id")
EXPLAINER = ("method", "masks_per_token")
COLOURS = (VERMILION, ORANGE, BLUE, GREEN)


def compared(lake: Path) -> pl.DataFrame:
    """One row for each explainer, level, kind, model and task, with means and half intervals."""
    areas = query(lake, AREAS).with_columns(pl.col("masks_per_token").fill_null(0.0))
    unpruned = areas.filter(level=0).select(*KEY[:3], "example_id", *EXPLAINER, unpruned="area")
    changes = (
        areas.filter(pl.col("level") > 0)
        .join(unpruned, on=(*KEY[:3], "example_id", *EXPLAINER))
        .with_columns(change=pl.col("area") - pl.col("unpruned"))
    )
    most = pl.col("masks_per_token").max().over("model_name", "task")
    reference = changes.filter(
        pl.col("method") == "leverage_shap", pl.col("masks_per_token") == most
    ).select(*KEY, reference_change="change", reference_masks="masks_per_token")
    paired = changes.join(reference, on=KEY).with_columns(
        noise=pl.col("change") - pl.col("reference_change"),
        is_reference=(pl.col("method") == "leverage_shap")
        & (pl.col("masks_per_token") == pl.col("reference_masks")),
    )
    half = {
        f"{name}_half": 1.96 * pl.col(name).std() / pl.len().sqrt() for name in ("change", "noise")
    }
    return (
        paired.group_by(*KEY[:4], *EXPLAINER, "is_reference")
        .agg(pl.len().alias("n"), pl.col("unpruned", "change", "noise").mean(), **half)
        .sort(*KEY[:4], "is_reference", pl.col("method") == "difference_shap", "masks_per_token")
        .with_columns(
            explainer=pl.when("is_reference")
            .then(pl.lit("reference"))
            .when(pl.col("masks_per_token") > 0)
            .then(pl.format("{}, {}", "method", pl.col("masks_per_token").cast(pl.Int64)))
            .otherwise("method"),
            panel=pl.format(
                "{} on {}",
                pl.col("model_name").str.replace(r"[.-](Instruct|Q).*|_q4.*", ""),
                "task",
            ),
        )
    )


def table(rows: pl.DataFrame) -> str:
    """The comparison as Markdown."""
    lines = [
        "| run | metric | level | explainer, masks per token | n | at level 0 | change | "
        "of it by the explainer |",
        "| -- | -- | -: | -- | -: | -: | -: | -: |",
    ]
    for row in rows.iter_rows(named=True):
        masks = f" ({row['method']}, {row['masks_per_token']:.0f})" if row["is_reference"] else ""
        noise = f"{row['noise']:+.3f} ± {row['noise_half']:.3f}"
        lines.append(
            f"| {row['panel']} | {row['kind']} | {row['level']} | {row['explainer']}{masks} | "
            f"{row['n']} | {row['unpruned']:.3f} | "
            f"{row['change']:+.3f} ± {row['change_half']:.3f} | "
            f"{'' if row['is_reference'] else noise} |"
        )
    return "\n".join(lines)


def picture(rows: pl.DataFrame) -> Part:
    """The change of comprehensiveness by level, one point with its interval for each explainer."""
    shown = rows.filter(kind="comprehensiveness").with_columns(
        low=pl.col("change") - pl.col("change_half"), high=pl.col("change") + pl.col("change_half")
    )
    explainers = shown["explainer"].unique(maintain_order=True).to_list()
    base = Part().encode(
        x=field("level:O", title="removed layers", axis={"labelAngle": 0}),
        xOffset=field("explainer:N", sort=explainers),
        color=field(
            "explainer:N",
            title="explainer, masks per token",
            scale={"domain": explainers, "range": list(COLOURS)},
            legend={"orient": "bottom", "labelLimit": 200},
        ),
    )
    zero = Part().mark("rule", color=GREY, strokeDash=[3, 3]).encode(y={"datum": 0})
    bars = base.mark("rule", strokeWidth=2).encode(y="low:Q", y2="high:Q")
    points = base.mark("point", filled=True, size=45, opacity=1).encode(
        y=field("change:Q", title="change of comprehensiveness")
    )
    panels = Part(
        data=shown,
        facet=field("panel:N", title=None, sort="descending"),
        columns=2,
        spec=Part(layer=[zero, bars, points], width=230, height=170),
        resolve={"scale": {"x": "independent", "xOffset": "independent"}},
    )
    return with_house_style(
        panels,
        "On the same rows, explainers agree on the change of comprehensiveness",
        ["mean change from the unpruned model; bar: 95 % interval"],
        plot_width=2 * WIDTH,
    )


def summary(rows: pl.DataFrame) -> str:
    """How many explainers differ from the reference, and the width of KernelSHAP's intervals."""
    others = rows.filter(~pl.col("is_reference"))
    beyond = others.filter(pl.col("noise").abs() > pl.col("noise_half"))
    lines = [
        f"{kind}: {beyond.filter(kind=kind).height} of {others.filter(kind=kind).height} changes "
        "differ from that of the reference by more than their 95 % interval"
        for kind in rows["kind"].unique().sort()
    ]
    halves = [
        rows.filter(method=method).select(*KEY[:4], pl.col("change_half").alias(method))
        for method in ("kernel_shap", "difference_shap")
    ]
    ratio = pl.col("kernel_shap") / pl.col("difference_shap")
    least, median, most = (
        halves[0]
        .join(halves[1], on=KEY[:4])
        .select(least=ratio.min(), median=ratio.median(), most=ratio.max())
        .row(0)
    )
    lines.append(
        f"intervals of kernel_shap, over those of difference_shap: {least:.2f} to {most:.2f} times "
        f"as wide, median {median:.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path)
    parser.add_argument("--picture", type=Path, help="a PNG file")
    asked = parser.parse_args()
    rows = compared(asked.lake)
    print(table(rows))
    print(f"\n{summary(rows)}")
    if asked.picture is not None:
        asked.picture.write_bytes(png(vega_lite(picture(rows), "light")))


if __name__ == "__main__":
    main()
