"""The tables of the lake: the grain, the key and the schema of each, once."""

from collections.abc import Mapping

from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table

ALL_TABLES: Mapping[str, Table] = {**RUN_TABLES, **ANALYSIS_TABLES, **PROFILE_TABLES}
"""All tables of a lake."""
