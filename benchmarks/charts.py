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
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from benchmarks.report import head, table, write
from benchmarks.serving import served
from prunelake.lake.recorded import unpack_lake

CODE = Path(__file__).parents[1]

RECORDED = "lib/prunelake/lake/recorded.zip"

FORMER = "19aef12"
"""The last commit that built charts with altair."""

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

# Resolves with the milliseconds until the change is shown: the status line names it, and no visible
# chart is busy. The first screen is a change of nothing. It scrolls to the charts, since a map of
# the runs may come first.
SHOWN = """async ([name, value]) => {
  const status = document.querySelector("#status");
  const former = name ? status.textContent : "";
  const isShown = () => {
    const cards = [...document.querySelectorAll("[data-chart]")];
    cards[0]?.scrollIntoView();
    const seen = cards.filter((card) => card.getBoundingClientRect().top < innerHeight);
    const text = status.textContent;
    return text !== former && text.startsWith("Shown") && seen.length > 0 &&
      !seen.some((card) => card.hasAttribute("aria-busy"));
  };
  const began = performance.now();
  if (name) {
    const control = document.querySelector(`#${name}`);
    control.value = value;
    control.dispatchEvent(new Event("change", { bubbles: true }));
  }
  while (!isShown()) await new Promise((done) => setTimeout(done, 5));
  return name ? performance.now() - began : performance.now();
}"""

SELECTORS = ("level", "metric", "model")


def checked_out(commit: str, folder: Path) -> Path:
    """The files of a commit of this repository."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(CODE), "archive", commit], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def environment(code: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{code / 'lib'}:{code}", "OMP_NUM_THREADS": "1"}


def published(code: Path, lake: Path, folder: Path) -> Path:
    """A copy of a lake with a snapshot of this version of the code."""
    shutil.copytree(lake, folder)
    command = [sys.executable, "-c", "from prunelake.cli.app import main; main()", "publish"]
    subprocess.run([*command, "--lake", str(folder)], env=environment(code), check=True)
    return folder


def measured(code: Path, lake: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each task in a new process with this version of the code."""
    script = folder / "measure.py"
    script.write_text(MEASURE, encoding="utf-8")
    command = [sys.executable, str(script), str(lake), str(folder / "report.html")]
    output = subprocess.run(
        command, env=environment(code), check=True, capture_output=True, text=True
    ).stdout
    took: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return took


def page_costs(code: Path, lake: Path, log: Path) -> dict[str, float]:
    """Costs of the first screen of a new server, and of each selector's first other value.

    Elapsed seconds since the navigation or the change, and CPU seconds of server and browser.
    """
    with (
        served(lake, log, PYTHONPATH=environment(code)["PYTHONPATH"]) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(300_000)
        time.sleep(5)  # a server that waits for its first reader
        costs: dict[str, float] = {}

        def take(task: str, change: list[str]) -> None:
            before = _cpu_seconds(server.pid)
            if not change:
                page.goto(server.url)
            took = page.evaluate(SHOWN, change) / 1e3
            costs[f"page, {task}: elapsed"] = took
            costs[f"page, {task}: CPU"] = _cpu_seconds(server.pid) - before

        take("first screen of a new server", [])
        for name in SELECTORS:
            others = page.locator(f"#{name} option:not(:checked)")
            if others.count():
                take(f"another {name}", [name, others.first.get_attribute("value") or ""])
        browser.close()
    return costs


def _cpu_seconds(server: int) -> float:
    """CPU seconds of the server, and of the browser below this process, up to now."""
    family = [
        p
        for root in (psutil.Process(server), psutil.Process())
        for p in (root, *root.children(recursive=True))
    ]
    return sum(sum(p.cpu_times()[:2]) for p in set(family))


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
