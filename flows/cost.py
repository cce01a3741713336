"""Measure the cost of each level on the machine of a worker, and store it in the lake."""

from prefect.artifacts import create_table_artifact

from prunelake.errors import one_line
from prunelake.flows.serverless import is_in_run, run_logger, serverless_flow
from prunelake.lake.sql.run_lookup import profile_costs
from prunelake.profiling.profile import ProfileRequest, profile_model
from prunelake.settings import Settings


@serverless_flow("cost", "{wanted.model} {wanted.strategy.label}")
def cost(wanted: ProfileRequest, settings: Settings | None = None) -> str:
    """Measure weights, KV cache, speed and memory of each level; returns the profile's id.

    The flow has a GPU to itself, like a sweep. It does not reserve a CPU: a worker that profiles a
    CPU needs an idle machine.
    """
    settings = settings or Settings()
    logger = run_logger()
    profile_id = profile_model(wanted, settings, lambda text: logger.info("%s", text))
    logger.info("profile %s is in the lake %s", profile_id, settings.lake)
    if not is_in_run():
        return profile_id
    try:
        rows = profile_costs(settings.lake, profile_id).to_dicts()
        create_table_artifact(
            table=rows, key="costs", description=f"Profile {profile_id}: {wanted.model}"
        )
    except Exception as error:  # from the server or the network; the profile is written
        logger.warning("profile %s is written, but not shown: %s", profile_id, one_line(error))
    return profile_id
