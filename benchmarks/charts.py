"""The cost of charts, of the page and of a report, beside the same work by former code.

    python -m benchmarks.charts [--former 19aef12] [--lake LAKE] [--rounds 1] [--page]

FORMER is a commit of this repository. Each version publishes a copy of LAKE, by default of its own
recorded lake of the demo: the format of lakes has changed. Both run in turns, each time in a new
process: CPU time (of the process and its children) of the import, of each chart of the latest run
in three formats, none of them cached, and of the report. With --page, also the first screen of a
new server in Chromium, and then another level, metric and model. The ratios compare equal loads of
the machine; the times do not. Writes docs/measurements/charts.md.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.page import page_costs
from benchmarks.report import head, table, write
from benchmarks.versions import CODE, FORMER, answer_of, checked_out, environment
from prunelake.lake.recorded import unpack_lake

RECORDED = "lib/prunelake/lake/recorded.zip"

# The same text runs in both versions.
MEASURE = """
import json, sys, time
from pathlib import Path
import psutil

def cpu():
    me = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in [me, *me.children(recursive=True)])

if __name__ == "__main__":
    lake, out = map(Path, sys.argv[1:])
    began = cpu()
    from prunelake.api.app import create_app
    took = {"`import prunelake.api.app`": cpu() - began}
    from starlette.testclient import TestClient
    from prunelake.api.settings import ApiSettings
    app = create_app(lake, ApiSettings(sql=False))
    client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    names = [chart["name"] for chart in client.get("/charts").json()]
    run = client.get("/findings").json()
    level = run["levels"][-1]
    for format in ("svg", "png"):
        client.get(f"/charts/confidence.{format}")  # starts what draws
    for format in ("json", "svg", "png"):
        began, count = cpu(), 0
        for name in names:
            answer = client.get(f"/charts/{name}.{format}", params={"level": level})
            count += answer.status_code == 200
        took[f"chart as {format.upper()}"] = (cpu() - began) / count
    began, count = cpu(), 0
    for metric in run["metrics"][:2]:
        for level in run["levels"]:
            for name in names:
                asked = {"level": level, "metric": metric, "theme": "dark"}
                answer = client.get(f"/charts/{name}.json", params=asked)
                count += answer.status_code == 200
    took["chart as JSON, of every level and two metrics"] = (cpu() - began) / count
    from prunelake.api.report.document import write_report
    began = cpu()
    write_report(lake, out)
    took["report"] = cpu() - began
    took["report, bytes"] = out.stat().st_size
    print(json.dumps(took))
"""


def published(code: Path, lake: Path, folder: Path) -> Path:
    """A copy of a lake with a snapshot of this version of the code."""
    shutil.copytree(lake, folder)
    command = [sys.executable, "-c", "from prunelake.cli.app import main; main()", "publish"]
    subprocess.run([*command, "--lake", str(folder)], env=environment(code), check=True)
    return folder


def measured(code: Path, lake: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each task in a new process with this version of the code."""
    arguments = (str(lake), str(folder / "report.html"))
    took: dict[str, float] = answer_of(code, folder / "measure.py", MEASURE, *arguments)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--former", default=FORMER)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--page", action="store_true", help="also measure the page in Chromium")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, float]]] = {"former": [], "now": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        versions = {"former": checked_out(asked.former, folder / "code"), "now": CODE}
        lakes = {
            name: published(code, asked.lake or unpack_lake(code / RECORDED, folder), folder / name)
            for name, code in versions.items()
        }
        for _ in range(asked.rounds):
            for name, code in versions.items():
                took = measured(code, lakes[name], folder)
                if asked.page:
                    took |= page_costs(code, lakes[name], folder / "server.log")
                found[name].append(took)
                print(name, took, file=sys.stderr, flush=True)
    rows = []
    for task in found["now"][0]:
        if any(task not in one for one in found["former"]):
            continue
        before, now = (statistics.median(one[task] for one in found[name]) for name in found)
        is_size = task.endswith("bytes")
        texts = [f"{value:,.0f}" if is_size else f"{value:.3f} s" for value in (before, now)]
        rows.append([task, *texts, f"{before / now:.1f} x"])
    command = f"python -m benchmarks.charts --former {asked.former} --rounds {asked.rounds}"
    command += f" --lake {asked.lake}" * bool(asked.lake) + " --page" * asked.page
    lines = [
        head(command, "cpu", ["vl-convert-python", "duckdb", "playwright"], load),
        "",
        *table(["CPU seconds", "former", "now", "former / now"], rows),
    ]
    write("charts", lines)


if __name__ == "__main__":
    main()
