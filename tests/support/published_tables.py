"""A small table of published metrics."""

from pathlib import Path

HEADER = "model,task,removed_layers,accuracy,ece,comprehensiveness_lime,kl_from_unpruned"
LINES = (
    "m,rte,2,0.5,,0.1,3.5",
    "m,rte,0,0.75,0.125,0.25,0",
    "m,boolq,0,1,0,-1,0",
    "n,rte,0,0.7,0.1,0.2,0",
)


def save(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def published(folder: Path) -> Path:
    return save(folder, HEADER, *LINES)
