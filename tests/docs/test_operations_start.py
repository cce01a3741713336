"""The beginning of docs/operations.md: a real server, a real worker, and one sweep."""

from pathlib import Path

from prunelake.lake import read as lake_read
from prunelake.watch.decision import EvaluationState
from tests.support.operations_guide import (
    finished,
    guide_run,
    published_after,
    round_of,
    wait_for,
)


def test_a_worker_runs_a_sweep_a_publication_follows_and_a_round_starts_the_rest(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with guide_run(tmp_path, tiny_folder) as place:
        place.exports()
        place.start("prefect server start")
        wait_for(place.is_healthy, "the server")
        place.run("prefect work-pool create gpu")
        place.run("prefect work-pool create cpu")
        place.run("prefect deploy --all")
        place.start("CUDA_VISIBLE_DEVICES=0 prefect worker start --pool gpu")
        place.skip("prefect worker start --pool cpu")
        place.run("prefect deployment run sweep/sweep")
        (sweep,) = place.flow_runs("sweep")
        sweep = finished(place, sweep)
        assert sweep.state is not None
        assert sweep.state.is_completed()
        assert len(lake_read.run_ids(place.lake)) == 1
        assert "no GPU here: computing on the CPU" in place.log(1)

        publication = published_after(place, sweep)
        assert publication.state is not None
        assert publication.state.is_scheduled()  # no worker serves its pool
        dry_run = place.run("prunelake watch watchlist.yaml --dry-run")
        assert dry_run.splitlines()[-1] == "1 missing"
        place.kill(1)
        (line,) = round_of(place)
        assert line.state is EvaluationState.started
        *_, second = place.flow_runs("sweep")
        assert second.state is not None
        assert second.state.is_scheduled()
