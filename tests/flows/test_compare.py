"""The flow `compare`: each model is a run of the flow `sweep`."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from prunelake.comparison_spec import ComparisonSpec
from prunelake.flows.compare import compare
from prunelake.lake import read
from prunelake.settings import Settings


@pytest.mark.usefixtures("prefect")
def test_the_sweeps_of_a_comparison_are_runs_of_their_own(
    tiny_folder: Path, tmp_path: Path
) -> None:
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")
    spec = ComparisonSpec.model_validate(
        {
            "baseline": f"flow base={tiny_folder}",
            "candidates": [f"{tiny_folder},dtype=bfloat16"],
            "task": "everyday_knowledge",
            "rows": 3,
            "explain": None,
        }
    )
    run_id = compare(spec, settings)
    assert run_id in read.run_ids(settings.lake)
    name = FlowRunFilter(name=FlowRunFilterName(any_=["flow base everyday_knowledge comparison"]))
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=name)
        assert run.state is not None
        assert run.state.is_completed()
    assert len(read.run_ids(settings.lake)) == 3
