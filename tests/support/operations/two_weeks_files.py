"""The deployments and the watchlist of a simulation of two weeks."""

from pathlib import Path

import yaml

from tests.support.paths import ROOT

HUB_MODEL = "org/growing"
BROKEN_MODEL = "org/broken"
HUB_TASKS = ("everyday_knowledge", "opinions")
CHECKPOINT_TASKS = ("opinions",)


def write_deployments(folder: Path, day_s: float) -> None:
    """Write the repository's prefect.yaml with a faster clock, for the CPU and with a ledger."""
    site = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    intervals = {"watch": day_s / 2, "publish": day_s, "doctor": day_s}
    replaced = {"sweep": "shard_ledger", "sweeps": "shard_ledger", "watch": "fast_clock"}
    for deployment in site["deployments"]:
        name = deployment["name"]
        if name in intervals:
            deployment["schedules"] = [{"interval": intervals[name], "slug": "simulated"}]
        if name in replaced:
            deployment["entrypoint"] = f"tests.support.operations.{replaced[name]}.{name}"
        for trigger in deployment.get("triggers", ()):
            if "within" in trigger:
                trigger["within"] = 10  # the least that Prefect accepts
            else:
                trigger["schedule_after"] = 5
        environment = deployment["work_pool"].get("job_variables", {}).get("env", {})
        if "PRUNELAKE_DEVICE" in environment:
            environment["PRUNELAKE_DEVICE"] = "cpu"
    (folder / "prefect.yaml").write_text(yaml.safe_dump(site))


def write_watchlist(folder: Path) -> None:
    """Write a watchlist with a model on the hub, checkpoints, and a model that never loads."""
    rows = {"rows": {"first": 24}, "levels": [0, 1, 2], "explain": {"rows": 24}}
    models = [
        {"hub": HUB_MODEL, "tasks": [*HUB_TASKS]},
        {"folder": "checkpoints", "tasks": [*CHECKPOINT_TASKS], "settle_s": 1},
        {"hub": BROKEN_MODEL, "tasks": ["opinions"]},
    ]
    watchlist = {"defaults": rows | {"strategies": ["random:1"]}, "models": models}
    (folder / "watchlist.yaml").write_text(yaml.safe_dump(watchlist))
