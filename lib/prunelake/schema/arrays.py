"""The types of NumPy arrays in signatures; a docstring gives each array's shape in brackets."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
AnyFloatArray = NDArray[np.floating]
BoolArray = NDArray[np.bool_]
