"""The cost of charts, of the page and of a report, beside the same work by former code.

    git worktree add /tmp/former 19aef12
    python -m benchmarks.charts --lake LAKE --former /tmp/former [--rounds 2] [--page]

Each version publishes a copy of LAKE. Both run in turns, each time in a new process: CPU time (of
the process and its children) of the import, of each chart of the latest run in three formats, none
of them cached, and of the report. With --page, also the time until Chromium shows every chart of
the first screen, of a new server, and then after another level is chosen. The ratios compare equal
loads of the machine; the times do not. Writes docs/measurements/charts.md.
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

from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.paths import RESULTS
from benchmarks.report import head, table
from benchmarks.serving import served

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
    from prunelake.api.report.document import write_report
    began = cpu()
    write_report(lake, out)
    took["report"] = cpu() - began
    took["report, bytes"] = out.stat().st_size
    print(json.dumps(took))
"""

FIRST_SCREEN = """() => {
  const cards = [...document.querySelectorAll("[data-chart]")];
  const seen = cards.filter((card) => card.getBoundingClientRect().top < innerHeight);
  return seen.length > 0 && seen.every((card) => card.querySelector("img[src]") &&
    !card.hasAttribute("aria-busy"));
}"""


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


def page_times(code: Path, lake: Path, log: Path) -> dict[str, float]:
    """Seconds until the first screen of a new server is shown, and after another level."""
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
        began = time.perf_counter()
        page.goto(server.url)
        _until_drawn(page)
        first = time.perf_counter() - began
        level = page.locator("#level")
        other = level.locator("option:not(:checked)").first.get_attribute("value")
        began = time.perf_counter()
        level.select_option(other)
        expect(page.locator("#status")).to_contain_text("Shown")
        _until_drawn(page)
        changed = time.perf_counter() - began
        browser.close()
    return {"page, first screen of a new server": first, "page, another level": changed}


def _until_drawn(page: Page) -> None:
    while not page.evaluate(FIRST_SCREEN):
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--former", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="also measure the page in Chromium")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    versions = {"former": asked.former.resolve(), "now": Path(__file__).parents[1]}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    RESULTS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    lakes = {name: published(code, asked.lake, folder / name) for name, code in versions.items()}
    for _ in range(asked.rounds):
        for name, code in versions.items():
            took = measured(code, lakes[name], folder)
            if asked.page:
                took |= page_times(code, lakes[name], folder / "server.log")
            found[name].append(took)
    rows = []
    for task in found["now"][0]:
        before, now = (statistics.median(one[task] for one in found[name]) for name in versions)
        is_size = task.endswith("bytes")
        texts = [f"{value:,.0f}" if is_size else f"{value:.3f} s" for value in (before, now)]
        rows.append([task, *texts, f"{before / now:.1f} x"])
    command = (
        f"python -m benchmarks.charts --lake LAKE --former FORMER --rounds {asked.rounds}"
        + " --page" * asked.page
    )
    lines = [
        head(command, "cpu", ["vl-convert-python", "duckdb", "playwright"], load),
        "",
        *table(["CPU time (page: elapsed time)", "former", "now", "former / now"], rows),
    ]
    (RESULTS / "charts.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
