"""All tables of the lake, in their groups."""

from collections.abc import Mapping

from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table, TableGroup

TABLE_GROUPS: tuple[TableGroup, ...] = (RUN_TABLES, ANALYSIS_TABLES, PROFILE_TABLES)

ALL_TABLES: Mapping[str, Table] = {
    name: table for group in TABLE_GROUPS for name, table in group.items()
}
"""Every table that readers of a lake see, by name."""
