"""Check every file of the lake, and alert if one is damaged."""

from prunelake.errors import CorruptFile
from prunelake.flows.serverless import run_logger, serverless_flow
from prunelake.lake import read
from prunelake.lake.files.findings import FindingKind
from prunelake.settings import Settings
from prunelake.watch.status import record_status


@serverless_flow("doctor", lambda: f"doctor {Settings().lake}", is_periodic=True)
def doctor(settings: Settings | None = None) -> str:
    """Check every file of the lake like `prunelake doctor`; returns a summary.

    Leftovers and missing analyses are warnings.

    Raises:
        CorruptFile: a file is damaged. The flow run fails, and `automations/run_failed.yaml` sends
            a notification.
    """
    from prunelake.lake.maintenance.verify import verify_lake

    lake = (settings or Settings()).lake
    findings = verify_lake(lake)
    for finding in findings:
        run_logger().warning("%s: %s; %s", finding.file, finding.problem, finding.remedy)
    damaged = sorted({str(it.file) for it in findings if it.kind is FindingKind.damaged})
    record_status(lake, "doctor", len(damaged))
    if damaged:
        raise CorruptFile(
            f"{len(damaged)} damaged files in {lake}, for example {damaged[0]}; "
            "`prunelake doctor --quarantine` moves them aside"
        )
    summary = f"{lake}: {len(read.run_ids(lake))} runs, all their files are intact"
    run_logger().info(summary)
    return summary
