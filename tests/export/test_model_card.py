"""The model card of an export: metrics, costs, and the origin of the model."""

import re
from pathlib import Path
from typing import Any

import gguf
import pytest
import yaml

from prunelake.export.card.model_card import ModelOrigin
from prunelake.export.origin import model_origin
from prunelake.lake.sql.views import query
from prunelake.schema.number_texts import MINUS
from tests.support.export_command import ORDER, add_run, export
from tests.support.runs.lake_rows import example, prediction, run_row, text, write, write_raw
from tests.support.runs.profile_rows import profiled

pytestmark = pytest.mark.usefixtures("in_a_new_folder")


def test_the_card_shows_the_metrics_of_the_lake(
    revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add_run(revision)
    add_run("another", "other revision")
    add_run(revision, "other strategy", strategy="random:0")
    bare = write_raw(
        Path("lake"), run_row("bare", revision=revision, removal_order=ORDER, task="sst2")
    )
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out") == 0
    text = Path("out/README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| demo")]
    expected_rows = query(
        Path("lake"),
        f"""
        select
            metrics.value, ci_low, ci_high, metrics.n, unpruned_value, deltas.delta, verdict
        from metrics
        join deltas using (run_id, level, metric)
        left join verdicts using (run_id, level, metric)
        where run_id = '{run_id}' and level = 1 and metric in ('accuracy', 'ece')
        order by metric
        """,
    ).to_dicts()
    for line, row in zip(rows[:2], expected_rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        interval = f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
        assert cells[2:5] == [f"{row['unpruned_value']:.3f}", f"{row['value']:.3f}", interval]
        change = f"{row['delta']:+.3f}".replace("-", MINUS)
        assert cells[5] == ("0.000" if row["delta"] == 0 else change)
        assert cells[7] == row["verdict"]
        assert cells[8:] == [str(row["n"]), f"`{run_id}` (float32)"]
    assert [line.split("|")[2].strip() for line in rows] == [
        "accuracy",
        "ECE",
        "comprehensiveness (kernel_shap delete_text eraser)",
    ]
    # 0.5 minus 0.125 for each level, over two explained examples: too few for intervals.
    assert f"| 0.500 | 0.375 | none | {MINUS}0.125 | none | inconclusive | 2 |" in rows[2]
    for missing in ("accuracy on sst2", "comprehensiveness on sst2", f"run {bare} has no analysis"):
        assert f"- {missing}" in text
    assert f"| revision | `{revision}` |" in text
    assert "| removed attention layers (the first is 0) | 3 |" in text
    assert "text that the model writes, its speed and its memory" in text
    assert "--text-rows 4` measures text)" in text
    assert "## A text" not in text
    assert "## Cost" not in text


def test_the_card_shows_the_perplexity_the_repetition_and_a_text(
    revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_row("run", revision=revision, removal_order=ORDER, layer_count=5)
    run_id = str(run["run_id"])
    names = ("test:0", "test:1", "test:2")
    write(
        Path("lake"),
        run,
        examples=[
            example(run_id, name, position=place, prompt=f"Why ```{place}``` ?")
            for place, name in zip((1, 0, 2), names, strict=True)
        ],
        predictions=[prediction(run_id, k, name, [0.0, -2.0]) for k in (0, 1) for name in names],
        texts=[
            text(run_id, k, name, [place, k, 9], prompt_nll=8.0 + 4 * k + place)
            for k in (0, 1)
            for place, name in enumerate(names)
        ],
    )
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out") == 0
    card = Path("out/README.md").read_text()
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| demo")]
    # exp(27 / 12) and exp(39 / 12).
    assert [row[1:4] for row in rows if row[1] == "perplexity"] == [
        ["perplexity", "9.488", "25.790"]
    ]
    assert "repetition" in [row[1] for row in rows]
    _, _, section = card.partition("## A text\n")
    fences = re.findall(r"^(`+)text\n(.*?)\n\1$", section, re.M | re.S)
    assert fences == [("````", "Why ```0``` ?"), ("````", "1 0 9"), ("````", "1 1 9")]
    assert "measures text" not in card


@pytest.mark.parametrize(
    ("kind", "form"), [("compact", "in this checkpoint"), ("portable", "in a compact checkpoint")]
)
def test_the_card_shows_the_cost_of_a_profiled_level(
    kind: str, form: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(revision)
    add_run(revision, "another task", task="other")
    given: dict[str, Any] = {"revision": revision, "removal_order": ORDER}
    profiled(Path("lake"), "cpu", **given)
    profiled(Path("lake"), "gpu", {0: [2.0], 1: [1.0]}, device_name="a GPU", **given)
    profiled(Path("lake"), "other", {0: [2.0]}, device_name="not there", **given)
    arguments = ("tiny", "--level", "1", "--out", "out", "--kind", kind)
    assert export(monkeypatch, *arguments) == 0
    text = Path("out/README.md").read_text()
    _, _, costs = text.partition("## Cost\n")
    rows = [line for line in costs.splitlines() if line.startswith("| a ")]
    sizes = "| 0.0 MB (90.0 %) | 0.0 kB (75.0 %) | 0 MB (90.0 %) |"
    assert rows == [
        f"| a CPU, 1 thread | float32 {sizes} 200 tokens/s (2.00 x, 2.00 to 3.00) | "
        "10 tokens/s (2.00 x, 2.00 to 3.00) |",
        f"| a GPU | float32 {sizes} 400 tokens/s (2.00 x, 2.00 to 2.00) | "
        "20 tokens/s (2.00 x, 2.00 to 2.00) |",
    ]
    assert f"the removed modules really absent, as {form}, compared with level 0" in costs
    assert "its speed and its memory" not in text
    assert "not there" not in text


@pytest.mark.parametrize("kind", ["portable", "compact", "nemotron-nas"])
def test_the_weights_are_split_and_the_card_states_its_origin(
    kind: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(revision, strategy="mlp:cosine", task="boolq")
    arguments = ("tiny", "--level", "1", "--strategy", "mlp:cosine", "--kind", kind)
    options = ("--max-shard-size", "40KB", "--license", "mit", "--base-model", "org/tiny")
    assert export(monkeypatch, *arguments, *options, "--out", "out") == 0
    assert len([*Path("out").glob("*-00001-of-*.safetensors")]) == 1
    assert all(file.stat().st_size < 50_000 for file in Path("out").glob("*.safetensors"))
    _, header, card = Path("out/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {
        "base_model": "org/tiny",
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prunelake", "pruning", "mlp-removal"],
    }
    assert "The licence of the unpruned model applies: mit." in card
    assert "```text\n{passage}\nQuestion: {question}?\nAnswer:\n```" in card


def test_a_gguf_file_states_its_origin(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter("Tiny-1M-Instruct.Q4_1.gguf", "llama")
    writer.add_organization("Some Lab")
    writer.add_license("apache-2.0")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    expected = ModelOrigin("Some-Lab/Tiny-1M-Instruct", "apache-2.0")
    assert model_origin("Tiny-1M-Instruct.Q4_1.gguf", tmp_path) == expected
    assert model_origin("hub:org/name", tmp_path) == ModelOrigin()
