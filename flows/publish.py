"""Publish the lake as one DuckDB file, for readers."""

from prunelake.flows.serverless import run_logger, serverless_flow
from prunelake.lake import publish as snapshot
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.settings import Settings


@serverless_flow("publish", lambda: f"publish {Settings().lake}", is_periodic=True)
def publish(settings: Settings | None = None) -> str:
    """Bring `<lake>/prunelake.duckdb` up to date with the lake's complete runs; returns its path.

    Runs without an analysis of this version are analysed first. A current snapshot is not written
    again. Readers see the old file or the new file, never a partial file.
    """
    settings = settings or Settings()
    logger = run_logger()
    if snapshot.is_current(settings.lake):
        path = settings.lake / SNAPSHOT_FILE
        logger.info("%s is current already; nothing to publish", path)
    else:
        from prunelake.analysis.analyse import analyse  # most rounds find nothing to publish

        path = snapshot.publish(settings.lake, analyse)
        logger.info("%s is published: %d bytes", path, path.stat().st_size)
    return str(path)
