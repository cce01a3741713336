"""Refuse a sweep that cannot run, before torch is loaded or a server starts."""

from prunelake.errors import PrefectUnavailable
from prunelake.extras import require_extra
from prunelake.models.gpu.device_names import check_device_name
from prunelake.models.levels import check_levels
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.tasks.catalogue import find_task
from prunelake.tasks.rows import read_records, select_examples


def check_sweep(spec: SweepSpec, settings: Settings) -> None:
    """Refuse a wrong task, row, model reference, level or device.

    `plan.plan_sweep` later checks everything that needs a download or the weights.

    Raises:
        PruneLakeError: the sweep cannot run.
    """
    require_extra("models")
    task = find_task(spec.task)
    if settings.task_runner == "local":  # Ray computes on other machines
        check_device_name(settings.device)
    check_levels(spec.reference, spec.levels, spec.strategy.unit, spec.trust_remote_code)
    if task.bundled is not None or settings.data is not None:
        select_examples(task, spec.rows, *read_records(task, settings.data))


def no_server_for_ray() -> PrefectUnavailable:
    """The error of a sweep on Ray that has no Prefect server to report to."""
    return PrefectUnavailable(
        "the workers of Ray report to a Prefect server: set PREFECT_API_URL to a server that all "
        "of them reach, for example http://10.0.0.1:4200/api (docs/operations.md), or "
        "PRUNELAKE_TASK_RUNNER=local"
    )
