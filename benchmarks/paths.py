"""Where benchmarks write their results: the documentation links to them."""

from pathlib import Path

RESULTS = Path(__file__).parent.parent / "docs" / "measurements"
