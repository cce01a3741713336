"""Deploy all flows of `prefect.yaml` to the server of PREFECT_API_URL: `python -m prunelake.flows`.

Workers run a flow in the folder where this command ran: with its lake and its watchlist.
"""

import subprocess
import sys
from pathlib import Path

from prunelake.errors import MissingExtra
from prunelake.extras import require_extra

DEPLOYMENTS = Path(__file__).with_name("prefect.yaml")


def main() -> int:
    """Run `prefect deploy`; return its exit code."""
    try:
        for extra in ("flows", "models"):  # a deployment has the parameters of its imported flow
            require_extra(extra)
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = ("-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", DEPLOYMENTS)
    return subprocess.run([sys.executable, *command]).returncode


if __name__ == "__main__":
    sys.exit(main())
