"""The tables of the lake: the grain, the key and the schema of each, once."""

from collections.abc import Mapping

from prunelake.schema.analysis_tables import DERIVED
from prunelake.schema.profile_tables import COSTS
from prunelake.schema.run_tables import TABLES
from prunelake.schema.table import Table

EVERY: Mapping[str, Table] = {**TABLES, **DERIVED, **COSTS}
"""All tables of a lake."""
