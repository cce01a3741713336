"""CPU seconds of `prunelake sweep` until its first forward pass, beside the same work by old code.

    git worktree add /tmp/former 3f1f335
    python -m benchmarks.first_pass --former /tmp/former [--rounds 5]

The model is the default (SmolLM2-135M), converted before. Both versions run in turns, because other
work of the machine makes each slower.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SWEEP = """
import os, sys, threading, time

def stop_at_first_pass():
    while True:
        module = sys.modules.get("transformers.models.llama.modeling_llama")
        if hasattr(module, "LlamaForCausalLM"):  # its last class
            module.LlamaModel.forward = lambda *_, **__: end()
            return
        time.sleep(0.005)

def end():
    times = os.times()
    os.write(1, str(times.user + times.system).encode())
    os._exit(0)

threading.Thread(target=stop_at_first_pass, daemon=True).start()
from prunelake.cli.app import main
sys.argv = ["prunelake", "sweep", "--task", "everyday_knowledge", "--rows", "4"]
main()
"""


def cpu_until_first_pass(root: Path) -> float:
    """CPU seconds of a new process with the code of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", SWEEP],
            cwd=folder,
            env=os.environ
            | {
                "PYTHONPATH": f"{root}/lib",
                "PYTHONDONTWRITEBYTECODE": "",
                "PRUNELAKE_LAKE": folder,
                "PRUNELAKE_DEVICE": "cpu",
                "OMP_NUM_THREADS": "1",
            },
            check=True,
            capture_output=True,
            text=True,
        )
    return float(done.stdout)


def main() -> None:
    """Print a row of each version and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--former", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    roots = {"before": asked.former.resolve(), "now": Path(__file__).parents[1]}
    for root in roots.values():
        cpu_until_first_pass(root)  # compiles modules, and converts the model
    rounds = [
        {name: cpu_until_first_pass(root) for name, root in roots.items()}
        for _ in range(asked.rounds)
    ]
    for name in roots:
        print(f"{name}: {statistics.median(found[name] for found in rounds):.2f} CPU s (median)")
    ratios = [found["before"] / found["now"] for found in rounds]
    print(f"before / now: {statistics.median(ratios):.2f}, rounds {min(ratios):.2f} to ", end="")
    print(f"{max(ratios):.2f}; load of the machine {os.getloadavg()[0]:.0f}")


if __name__ == "__main__":
    main()
