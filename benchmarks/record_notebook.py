"""Runs examples/quickstart.ipynb from top to bottom, and stores its outputs in it.

python -m benchmarks.record_notebook
"""

import json
import os
import tempfile
from contextlib import chdir

from tests.support.notebook import execute
from tests.support.paths import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def main() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    os.environ.pop("PRUNELAKE_LAKE", None)  # the notebook uses the folder `lake`
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        execute(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
