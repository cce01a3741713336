"""The order in which the processes of `make test` take test files.

A process takes one unit of work after the other. The longest units come first, so that all
processes end at about the same time, and units that wait for servers begin while other units use
the processor.
"""

from typing import NamedTuple

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class Unit(NamedTuple):
    """Test files that one process takes together: all files whose path begins with `path`."""

    path: str
    why_together: str = ""


LONGEST_FIRST = (
    Unit("tests/deploy/test_two_weeks.py"),
    Unit("tests/docs/test_operations_guide.py"),
    Unit("tests/flows/", "they share a Prefect server"),
    Unit("tests/sweeps/test_crash.py"),
    Unit("tests/api/page/", "they share a browser's server"),
    Unit("tests/lake/storage/", "they share an object store"),
    Unit("tests/api/report/", "they share a report"),
    Unit("tests/api/charts/test_catalog.py"),
    Unit("tests/api/sandbox/test_hostile_sql.py"),
    Unit("tests/sweeps/test_run.py"),
    Unit("tests/export/test_export_folder.py"),
    Unit("tests/evaluation/test_paper_golden.py"),
    Unit("tests/tasks/test_harness.py"),
    Unit("tests/recommend/test_recommendation.py"),
    Unit("tests/lake/test_publish.py"),
    Unit("tests/lake/maintenance/test_compact_interrupted.py"),
    Unit("tests/lake/maintenance/test_compact.py"),
    Unit("tests/cli/test_cli.py"),
    Unit("tests/cli/test_serve.py"),
    Unit("tests/inference/test_layouts.py"),
    Unit("tests/export/test_checkpoint.py"),
    Unit("tests/export/test_export_order.py"),
    Unit("tests/api/http/test_cache.py"),
    Unit("tests/docs/test_api_guide.py"),
    Unit("tests/export/test_calibrator.py"),
    Unit("tests/sweeps/test_reuse.py"),
    Unit("tests/docs/test_checkpoints_guide.py"),
    Unit("tests/docs/test_analyst_guide.py"),
    Unit("tests/lake/maintenance/test_compact_under_load.py"),
    Unit("tests/api/http/test_openapi.py"),
    Unit("tests/sql/comparisons/test_criteria.py"),
    Unit("tests/sweeps/test_until_decided.py"),
    Unit("tests/sql/comparisons/test_correlations.py"),
    Unit("tests/cli/test_demo.py"),
    Unit("tests/gate/test_until_decided.py"),
    Unit("tests/strategies/test_balanced.py"),
    Unit("tests/api/routes/test_data.py"),
    Unit("tests/evaluation/test_sampled_attributions.py"),
    Unit("tests/docs/test_analyst_answers.py"),
    Unit("tests/models/test_quantised.py"),
    Unit("tests/profiling/test_measurement.py"),
    Unit("tests/strategies/test_greedy.py"),
)


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each process the longest remaining unit; files without a unit come last, one by one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return next((unit.path for unit in LONGEST_FIRST if file.startswith(unit.path)), file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        ranks = {unit.path: rank for rank, unit in enumerate(LONGEST_FIRST)}
        longest = min(self.workqueue, key=lambda scope: ranks.get(scope, len(ranks)))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)
