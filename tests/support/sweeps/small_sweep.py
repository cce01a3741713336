"""A small sweep that uses every sampling method and a gradient."""

from pathlib import Path

from prunelake.spec import Calibration, Explanation, Rows, SweepSpec


def small_sweep(model: Path) -> SweepSpec:
    """Five rows at three levels, two of them explained, by the model in a folder."""
    return SweepSpec(
        model=str(model),
        task="everyday_knowledge",
        rows=Rows(first=5),
        levels=(0, 1, 3),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(methods=("kernel_shap", "lime", "input_x_gradient"), rows=2),
    )
