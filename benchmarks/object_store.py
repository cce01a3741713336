"""The number of requests to an object store for each operation on a lake.

`python benchmarks/object_store.py` starts moto's S3 on loopback, writes runs of made-up rows there
and counts. The counts hold for any store. Times would be times of moto, so they are not printed.
"""

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from prunelake.analysis.analyse import analyse
from prunelake.identity import content_hash
from prunelake.lake import commit, read
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import is_current, publish
from prunelake.lake.sql import views
from prunelake.lake.storage import stores
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

KINDS = {
    "put": "put",
    "get": "get",
    "head": "head",
    "list": "list",
    "list all": "list",
    "delete": "delete",
}


def run_of(number: int) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A run of 20 examples and two levels, without explanations."""
    identity = {"number": number, "format_version": FORMAT_VERSION}
    run_id = content_hash(identity)[:16]
    row: dict[str, Any] = {
        name: {pl.String(): "", pl.Float64(): 0.0, pl.Int32(): 2, pl.Int64(): 2}.get(dtype, [0, 1])
        for name, dtype in RUN_TABLES["runs"].schema.items()
    }
    row |= {"run_id": run_id, "created_at": datetime.now(UTC), "identity": json.dumps(identity)}
    row |= {
        "model": f"model {number}",
        "strategy": "cosine",
        "task": "made up",
        "spec": "{}",
        "copied": [],
    }
    predictions = [
        {
            "run_id": run_id,
            "level": level,
            "example_id": f"test:{example}",
            "option_log_likelihoods": [-1.0, -2.0 - example],
            "option_bytes": [2, 2],
            "gold": example % 2,
            "prediction": 0,
            "prediction_norm": 0,
            "is_correct": example % 2 == 0,
            "is_correct_norm": example % 2 == 0,
            "confidence": 0.75,
        }
        for level in (0, 1)
        for example in range(20)
    ]
    frames = {name: table.frame([]) for name, table in RUN_TABLES.items() if name != "runs"}
    return row, frames | {"predictions": RUN_TABLES["predictions"].frame(predictions)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        try:
            measure(options.runs)
        finally:
            server.stdin.close()


def measure(runs: int) -> None:
    """Print a line for each operation."""
    request = stores.request
    counts: Counter[str] = Counter()

    def counted(scheme: str, bucket: str, key: str, operation: str, **options: Any) -> Any:
        counts["head" if options.get("head") else KINDS[operation]] += 1
        return request(scheme, bucket, key, operation, **options)

    place = ObjectPath("s3", "lakes", "lake")
    new_bucket = f"{os.environ['AWS_ENDPOINT_URL']}/{place.bucket}"
    urllib.request.urlopen(urllib.request.Request(new_bucket, method="PUT")).close()
    stores.request = counted

    def line(what: str, do: Callable[[], object]) -> None:
        counts.clear()
        do()
        print(f"| {what} | {' | '.join(str(counts[kind]) for kind in kinds)} |")

    kinds = list(dict.fromkeys(KINDS.values()))
    print(f"| {runs} runs | {' | '.join(kinds)} |")
    print("|---|--:|--:|--:|--:|--:|")
    for number in range(runs - 1):
        commit.write_run(place, *run_of(number))
    last = run_of(runs - 1)
    line("write a run", lambda: commit.write_run(place, *last))
    line("analyse a run", lambda: analyse(place, last[0]["run_id"]))
    for run_id in read.unanalysed_run_ids(place):
        analyse(place, run_id)
    ask = "select count(*) from deltas"
    line("`prunelake sql`, not compacted", lambda: views.query(place, ask))
    line("`prunelake doctor`, not compacted", lambda: verify_lake(place))
    line("`prunelake compact`", lambda: compact(place))
    line("`prunelake gc` after it", lambda: collect_garbage(place, timedelta(0)))
    line("`prunelake sql`, compacted", lambda: views.query(place, ask))
    line("`prunelake publish`, compacted", lambda: publish(place, analyse))
    line("see that nothing is to be published", lambda: is_current(place))


if __name__ == "__main__":
    main()
