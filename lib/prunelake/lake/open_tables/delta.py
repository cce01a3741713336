"""Delta Lake: the folder of each table is a Delta table, with a log beside the data files."""

import json
import time
from collections.abc import Mapping

from prunelake.errors import LakeError, one_line
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.storage.location import Location, relative_name, written_at
from prunelake.schema.table import Table

LOG_FOLDER = "_delta_log"


def is_registered(lake: Location, table: Table) -> bool:
    """Whether a table of the lake is a Delta table."""
    return (lake / table.name / LOG_FOLDER).is_dir()


def register(lake: Location, table: Table, files: Mapping[Location, ListedFile]) -> None:
    """Let the Delta table list exactly these files; additions and removals are one commit.

    Raises:
        LakeError: the log cannot be written.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError
    from deltalake.transaction import AddAction, RemoveAction

    folder = lake / table.name
    try:
        delta = DeltaTable.create(
            str(folder),
            table.frame([]).to_arrow().schema,
            mode="ignore",
            name=table.name,
            description=table.grain,
        )
        listed = {str(path) for path in delta.get_add_actions().column("path").to_pylist()}
        wanted = {relative_name(path, folder): path for path in files}
        actions: list[AddAction | RemoveAction] = [
            AddAction(
                path=name,
                size=files[path].size,
                partition_values={},
                modification_time=int(1000 * written_at(path)),
                data_change=True,
                stats=json.dumps({"numRecords": files[path].rows}),
            )
            for name, path in wanted.items()
            if name not in listed
        ]
        now = int(1000 * time.time())
        actions += [
            RemoveAction(name, deletion_timestamp=now, data_change=True)
            for name in sorted(listed.difference(wanted))
        ]
        if actions:
            delta.create_write_transaction(actions, "append", delta.schema())
    except (DeltaError, OSError) as error:
        raise LakeError(
            f"{folder} cannot be registered as a Delta table ({one_line(error)}); the lake itself "
            "is unchanged"
        ) from error
