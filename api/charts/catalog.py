"""Every chart by name.

The module of a chart has its definition: caption, parameters, query and drawing.
"""

from .accuracy_path import PATH
from .correlation_matrix import CORRELATION_MATRIX
from .correlations import CORRELATIONS
from .cost import COST
from .deltas import DELTAS
from .flips import FLIPS
from .importance import IMPORTANCE
from .levels import CONFIDENCE, EXPLANATIONS, LEVELS
from .overlap import OVERLAP
from .pareto import PARETO
from .recalibration import RECALIBRATION
from .reliability import RELIABILITY
from .verdicts import VERDICTS

CHARTS = {
    definition.name: definition
    for definition in (
        LEVELS,
        DELTAS,
        VERDICTS,
        PATH,
        CONFIDENCE,
        EXPLANATIONS,
        RELIABILITY,
        RECALIBRATION,
        CORRELATIONS,
        CORRELATION_MATRIX,
        OVERLAP,
        FLIPS,
        PARETO,
        COST,
        IMPORTANCE,
    )
}
"""The charts in the order in which the page and the report show them."""
