"""The command line: each command does one thing and says in one line what went wrong."""

import atexit
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from prunelake.cli_export import export
from prunelake.cli_import import imports
from prunelake.cli_keep import doctor, retire
from prunelake.cli_profile import profile
from prunelake.cli_recommend import recommend
from prunelake.cli_serve import serve
from prunelake.cli_watch import watch
from prunelake.console import (
    Format,
    LakeOption,
    numbers,
    print_frame,
    print_summary,
    settings_for,
)
from prunelake.errors import InvalidSpec, PruneLakeError, one_line
from prunelake.spec import DEFAULT_MODEL, Settings, SweepSpec, task_name
from prunelake.storage import Location, location

app = typer.Typer(
    help="What removing attention layers does to accuracy, confidence and explanations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would read [brackets] and :100: in help texts
)
app.add_typer(imports, name="import")
app.command()(serve)
app.command()(watch)
app.command()(doctor)
app.command()(retire)
app.command()(export)
app.command()(profile)
app.command()(recommend)


@app.command()
def sweep(
    context: typer.Context,
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="A YAML file with a sweep spec.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model reference.")] = DEFAULT_MODEL,
    task: Annotated[
        str | None, typer.Option(help="Task, or the path of a .yaml file that describes one.")
    ] = None,
    rows: Annotated[
        str, typer.Option(help="100, sample:100:SEED, numbers:3,5,8 or a JSON file of row numbers.")
    ] = "100",
    levels: Annotated[
        str | None, typer.Option(help="0,4,8; default: every level up to half of the layers.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="kernel_shap, leverage_shap, lime, input_x_gradient, or none.")
    ] = "kernel_shap",
    seeds: Annotated[str, typer.Option(help="Seeds of the sampling methods.")] = "0",
    operators: Annotated[
        str, typer.Option(help="How deletion curves delete.")
    ] = "delete_text,replace",
    explain_rows: Annotated[
        int | None, typer.Option(help="Explain only the first n examples.")
    ] = None,
    explain_levels: Annotated[
        str | None, typer.Option(help="Explain only at these levels.")
    ] = None,
    bounds_beam: Annotated[
        int | None,
        typer.Option(help="Search for the least and greatest AOPC with a beam of this width."),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="cosine, iterative, loss, divergence, balanced, last, random or random:SEED; of "
            "MLPs or "
            "whole blocks: mlp:cosine, block:cosine, ..."
        ),
    ] = "cosine",
    calibration: Annotated[
        str, typer.Option(help="bundled, c4, or a .txt or .jsonl file.")
    ] = "bundled",
    dtype: Annotated[str, typer.Option(envvar="PRUNELAKE_DTYPE")] = "float32",
    special_tokens: Annotated[str, typer.Option(help="tokenizer, bos or none.")] = "tokenizer",
    lake: LakeOption = None,
) -> None:
    """Evaluate one model on one task at every removal level, in this process."""
    settings = settings_for(lake)
    if spec is not None:
        _refuse_options_beside_a_file(context, spec)
        sweep_spec = _read_spec(spec)
    elif task is None:
        raise InvalidSpec("give a spec file or --task; `prunelake sweep --help` lists the options")
    else:
        from prunelake.tasks import parse_rows

        fields: dict[str, Any] = {
            "model": model,
            "task": task,
            "rows": parse_rows(rows, task_name(task)),
            "levels": numbers(levels),
            "strategy": strategy,
            "calibration": {"source": calibration},
            "dtype": dtype,
            "special_tokens": special_tokens,
            "explain": None
            if methods == "none"
            else {
                "methods": methods.split(","),
                "seeds": numbers(seeds),
                "operators": operators.split(","),
                "rows": explain_rows,
                "levels": numbers(explain_levels),
                "bounds_beam": bounds_beam,
            },
        }
        sweep_spec = _valid_spec(fields, "the options")
    run_id = run_sweep(sweep_spec, settings)
    print_summary(settings.lake, [run_id])


@app.command()
def demo(lake: LakeOption = None, report: Path = Path("report.html")) -> None:
    """Sweep SmolLM2-135M over the two bundled tasks and write a report."""
    settings = settings_for(lake)
    run_ids = [run_sweep(_valid_spec(fields, "the demo"), settings) for fields in DEMO]
    print_summary(settings.lake, run_ids)
    _write_report(settings.lake, report)
    typer.echo(f'\nReport: {report}    Ask the lake: prunelake sql "select * from correlations"')


@app.command()
def report(out: Path = Path("report.html"), lake: LakeOption = None) -> None:
    """Write what the lake shows as one HTML file that needs no network."""
    folder = settings_for(lake).lake
    _write_report(folder, out)
    _warn_of_unanalysed(folder)
    typer.echo(f"Report: {out}")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `prunelake views` lists the views.")],
    format: Format = Format.table,
    out: Annotated[Path | None, typer.Option(help="Write here (needed for parquet).")] = None,
    lake: LakeOption = None,
) -> None:
    """Ask the lake a question in SQL."""
    from prunelake import views

    folder = settings_for(lake).lake
    rows = views.query(folder, query)
    _warn_of_unanalysed(folder)
    print_frame(rows, format, out)


@app.command(name="views")
def list_views(
    format: Format = Format.table,
    out: Annotated[Path | None, typer.Option(help="Write here (needed for parquet).")] = None,
    lake: LakeOption = None,
) -> None:
    """List the views, their columns and what one row of each is."""
    from prunelake import views

    with views.connect(settings_for(lake).lake) as connection:
        described = views.describe(connection)
    if format is not Format.table or out is not None:
        print_frame(described, format, out)
        return
    for view in described.iter_rows(named=True):
        columns = ", ".join(f"{column['name']} {column['type']}" for column in view["columns"])
        typer.echo(f"{view['view']}\n  {view['comment']}\n  columns: {columns}\n")


@app.command()
def publish(lake: LakeOption = None) -> None:
    """Write the lake as one DuckDB file, prunelake.duckdb, that opens without PruneLake."""
    from prunelake import publish as snapshot

    folder = settings_for(lake).lake
    is_current = snapshot.is_current(folder)
    path = snapshot.publish(folder)
    typer.echo(f"{path} is current already" if is_current else f"Published: {path}")


@app.command()
def analyse(lake: LakeOption = None) -> None:
    """Compute the statistics of every run that has none of this version; needs no GPU."""
    from prunelake import lake as store
    from prunelake.analyse import analyse as compute

    folder = settings_for(lake).lake
    missing = store.unanalysed(folder)
    for run_id in missing:
        compute(folder, run_id)
        typer.echo(f"analysed run {run_id}")
    if not missing:
        typer.echo("nothing to analyse")


@app.command()
def compact(lake: LakeOption = None) -> None:
    """Merge the files of many runs into few; no answer changes."""
    from prunelake.compact import compact as merge

    folder = settings_for(lake).lake
    before, after = merge(folder)
    typer.echo(f"{folder}: {before} files before, {after} after")


# Prompts of opinions are twice as long, and explaining costs with the square of the length.
DEMO: list[dict[str, Any]] = [
    {
        "task": task,
        "rows": {"first": 80},
        "levels": [0, 2, 4, 6, 8, 10, 12, 14],
        "explain": {"methods": ["kernel_shap"], "rows": rows, "operators": ["delete_text"]},
    }
    for task, rows in (("everyday_knowledge", 10), ("opinions", 5))
]


def main() -> None:
    """Run the command line; what PruneLake refuses becomes one line and exit code 1."""
    atexit.register(_say_no_more)  # the first one in is the last one out
    try:
        app()
    except PruneLakeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _say_no_more() -> None:
    """Close stderr for what is left of the process.

    Prefect keeps a flow's parameter types beyond the interpreter's end, and through them DuckDB's
    binding, which then prints a page on the objects that it has "leaked".
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def run_sweep(spec: SweepSpec, settings: Settings) -> str:
    """Run a sweep through its flow; a spec that cannot run, or has run, starts no flow."""
    from prunelake import lake
    from prunelake.analyse import analyse as analyse_run
    from prunelake.plan import plan

    run_id = plan(spec, settings).identity.run_id
    if lake.has_run(settings.lake, run_id):
        typer.echo(f"run {run_id} is in the lake already; nothing to compute")
        if run_id in lake.unanalysed(settings.lake):
            # Who wrote it was killed before its analysis, or was of another version.
            analyse_run(settings.lake, run_id)
        return run_id
    lake.check_writable(settings.lake)
    # The flow's server lives in this process: give a busy machine time, and send nothing home.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from flows.sweep import sweep as flow

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_our_traceback)
    return flow(spec, settings)


def _without_our_traceback(record: logging.LogRecord) -> bool:
    """Leave out the traceback of what PruneLake refuses: `main` says it in one line."""
    if record.exc_info and isinstance(record.exc_info[1], PruneLakeError):
        record.exc_info = None
    return True


def _refuse_options_beside_a_file(context: typer.Context, spec: str) -> None:
    given = [
        f"--{name.replace('_', '-')}"
        for name in context.params
        if name not in ("spec", "lake")
        and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise InvalidSpec(f"{', '.join(given)} beside {spec}: write it into the file instead")


def _read_spec(file: str) -> SweepSpec:
    try:
        # `doctor --quarantine` leaves specs beside what it has moved, in the lake.
        fields = yaml.safe_load(location(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSpec(f"{file}: cannot be read as YAML ({one_line(error)})") from error
    return _valid_spec(fields, str(file))


def _valid_spec(fields: Any, where: str) -> SweepSpec:
    try:
        return SweepSpec.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'spec'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise InvalidSpec(f"{where}: {problems}") from error


def _warn_of_unanalysed(lake: Location) -> None:
    from prunelake.lake import unanalysed

    if count := len(unanalysed(lake)):
        typer.echo(
            f"runs without analysis, and so without intervals and verdicts: {count}; "
            "`prunelake analyse` adds it",
            err=True,
        )


def _write_report(lake: Location, out: Path) -> None:
    from api.report import write_report

    write_report(lake, out)
