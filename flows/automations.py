"""Create the automations of a folder on the Prefect server, each once.

    python -m prunelake.flows.automations --block BLOCK_ID automations/*.yaml

An automation that exists is replaced, so that no event sends two notifications. `prefect block ls`
lists the ids of notification blocks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from prunelake.errors import InvalidSpec, PruneLakeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Create the automations; return 0, or 1 after an error."""
    parser = argparse.ArgumentParser("python -m prunelake.flows.automations")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.yaml")
    parser.add_argument("--block", required=True, type=UUID, help="The id of a notification block.")
    options = parser.parse_args(arguments)
    try:
        with get_client(sync_client=True) as client:
            for name in create_automations(client, options.files, options.block):
                print(f"created: {name}")
    except PruneLakeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def create_automations(client: SyncPrefectClient, files: Sequence[Path], block: UUID) -> list[str]:
    """Create the automations, which send to this block; return their names.

    All files are read, and the block is looked up, before anything is created.

    Raises:
        InvalidSpec: a file holds no automation, or the server has no such block.
    """
    automations = [_read(file, block) for file in files]
    try:
        client.read_block_document(block)
    except ObjectNotFound as error:
        raise InvalidSpec(
            f"--block {block}: the Prefect server at {client.api_url} has no such block; create "
            "one on its page under Blocks, and `prefect block ls` lists its id"
        ) from error
    for automation in automations:
        for old in client.read_automations_by_name(automation.name):
            client.delete_automation(old.id)
        client.create_automation(automation)
    return [automation.name for automation in automations]


def _read(file: Path, block: UUID) -> AutomationCore:
    try:
        fields: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        for action in fields["actions"]:
            if action["type"] == "send-notification":
                action["block_document_id"] = str(block)
        return AutomationCore.model_validate(fields)
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise InvalidSpec(
            f"{file} holds no automation of Prefect ({type(error).__name__}: {error}); give the "
            "files run_failed.yaml, zombie_run.yaml and hidden_degradation.yaml"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
