"""docs/checkpoints.md: its commands and programs run in their order.

`make endurance` runs them on SmolLM2, as the page does; `make test` runs them on a tiny model. All
run in this process, because importing torch takes longer than a command.
"""

import io
import json
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, dynamic_module_utils

from prunelake.cli.app import main
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.lake.read import run_ids
from prunelake.lake.sql.run_lookup import past_runs
from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL
from prunelake.tasks.encoding import Encoder
from tests.support.endurance import IS_ENDURANCE
from tests.support.models.tiny_models import tiny_model
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
PROSE = " ".join(GUIDE.split())
LEVEL = 4
QUESTIONS = {
    "The capital of France is": (" Paris", " London", " made of cheese"),
    "Question: Do fish live in water?\nAnswer:": (" yes", " no"),
    "Water freezes when it is": (" cold enough", " hot"),
}


@pytest.fixture(scope="module")
def model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    if IS_ENDURANCE:
        return DEFAULT_MODEL
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.save_pretrained(folder)
    # The context holds the calibration windows.
    tiny = tiny_model("llama", vocab_size=len(tokenizer), max_position_embeddings=2048)
    tiny.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands and programs of the guide have run."""
    folder = tmp_path_factory.mktemp("guide")
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", GUIDE, re.DOTALL | re.M)).splitlines()
    programs = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.M)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.chdir(folder)
        patch.delenv("PRUNELAKE_LAKE", raising=False)
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(sys, "path", [*sys.path])
        for command in commands:
            arguments = shlex.split(command.replace(DEFAULT_MODEL, model))
            if arguments[1] == "sweep":
                arguments += ["--model", model]
            patch.setattr(sys, "argv", arguments)
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, command
        exec("\n".join(programs), {})
    assert output.getvalue().count("this is a compact checkpoint of PruneLake") == 2
    return folder


@pytest.mark.parametrize("name", ["smollm2-4", "smollm2-4-compact"])
def test_an_export_has_the_log_likelihoods_of_its_level(
    name: str, model: str, folder: Path
) -> None:
    source = resolve_model(model, Settings().cache.expanduser())
    runs = past_runs(folder / "lake", source.revision, "cosine")
    whole = load_model(source)
    exported = load_model(resolve_model(str(folder / name), folder))
    before, after = (Encoder(loaded.tokenizer) for loaded in (whole, exported))
    queries = []
    for prompt, options in QUESTIONS.items():
        assert before.encode_text(prompt) == after.encode_text(prompt)
        answers = tuple(tuple(before.encode_text(option)) for option in options)
        queries.append(ScoringQuery(tuple(before.encode_text(prompt)), answers, (0, LEVEL)))
    order = runs[0].removal_order
    expected = NestedModel(whole.model, order).log_likelihoods(queries)
    at_level_0 = NestedModel(exported.model, order).log_likelihoods(queries)
    for answer, wanted in zip(at_level_0, expected, strict=True):
        np.testing.assert_allclose(answer[0], wanted[1], atol=1e-3)
        assert abs(wanted[1] - wanted[0]).max() > 1e-2


def test_a_compact_export_is_smaller_by_the_removed_weights(folder: Path) -> None:
    portable = folder / "smollm2-4" / "model.safetensors"
    compact = folder / "smollm2-4-compact" / "compact.safetensors"
    gone = json.loads((compact.parent / "config.json").read_text())["absent_attention"]
    assert len(gone) == LEVEL
    whole = load_model(resolve_model(str(portable.parent), folder)).model
    parts = [removable_parts(whole, "attention")[number][0] for number in gone]
    assert not any(p.any() for part in parts for p in part.output_parameters())
    count = sum(p.numel() for part in parts for p in part.module.parameters())
    sizes = []
    for file in (portable, compact):
        with safe_open(file, "np") as stored:
            shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118  # no mapping
        sizes.append(sum(int(np.prod(shape)) for shape in shapes))
    assert sizes[0] - sizes[1] == count > 0
    if not IS_ENDURANCE:
        return
    parameters = [f"{size / 1e6:.1f}" for size in sizes]
    megabytes = [f"{file.stat().st_size / 1e6:.1f}" for file in (portable, compact)]
    assert f"{parameters[1]} of {parameters[0]} million parameters" in PROSE
    assert f"({megabytes[1]} of {megabytes[0]} MB in float32" in PROSE


@pytest.mark.endurance
def test_the_guide_states_the_bytes_of_cache(folder: Path) -> None:
    cached = []
    for name in ("smollm2-4-compact", "smollm2-4"):
        model = load_model(resolve_model(str(folder / name), folder)).model
        with torch.inference_mode():
            cache = model(input_ids=torch.tensor([[5, 6, 7]])).past_key_values
        cached.append(sum((keys.nbytes + values.nbytes) // 3 for keys, values, _ in cache))
    assert f"{cached[0]:,} of {cached[1]:,} bytes of KV cache a token" in PROSE


def test_the_card_names_its_run(folder: Path) -> None:
    for name in ("smollm2-4", "smollm2-4-compact"):
        card = (folder / name / "README.md").read_text()
        (run_id,) = run_ids(folder / "lake")
        assert f"| removal order | run {run_id} of the lake |" in card
        assert "| opinions | accuracy | " in card
        assert "- comprehensiveness on opinions\n" in card
