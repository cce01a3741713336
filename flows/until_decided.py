"""A sweep until decided, as a Prefect flow. Each round is a flow run of its own."""

from prefect.artifacts import create_table_artifact

from prunelake.flows.serverless import is_in_run, run_logger, serverless_flow
from prunelake.flows.sweep import sweep
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweeps.until_decided.run import Limits, Round, run_until_decided


@serverless_flow(
    "sweep until decided",
    "{spec.model} {spec.task_name} {spec.strategy.label} until decided",
)
def until_decided(
    spec: SweepSpec, limits: Limits | None = None, settings: Settings | None = None
) -> list[Round]:
    """Sweep in rounds until every verdict is decided; returns the rounds, the pilot first.

    This is `prunelake.sweeps.until_decided.run.run_until_decided`. Each round is a run of the flow
    `sweep`. The artifact `rounds` shows the rounds with their sizes and open verdicts.
    """
    settings = settings or Settings()
    rounds: list[Round] = []

    def evaluate(round_spec: SweepSpec) -> str:
        if not is_in_run():
            return sweep(round_spec, settings)
        name = f"round {len(rounds)}: {round_spec.rows.sample or round_spec.rows.first} rows"
        return sweep.with_options(flow_run_name=name)(round_spec, settings)

    def report(finished: Round) -> None:
        rounds.append(finished)
        run_logger().info(str(finished))
        if not is_in_run():
            return
        create_table_artifact(
            key="rounds",
            table=[_row(item) for item in rounds],
            description=f"{spec.task_name}: {finished}",
        )

    return run_until_decided(spec, limits or Limits(), settings, evaluate, report)


def _row(finished: Round) -> dict[str, object]:
    explained = finished.size.explained
    return {
        "round": finished.number,
        "run_id": finished.run_id,
        "rows": finished.size.rows,
        "explained rows": ", ".join(f"level {level}: {n}" for level, n in explained.items()),
        "decided": finished.cell_count - len(finished.open_cells),
        "open": ", ".join(f"{metric} at {level}" for level, metric in finished.open_cells),
    }
