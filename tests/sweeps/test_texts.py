"""Texts in a sweep: from the spec to the lake, and copied by a larger sweep."""

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import InvalidSpec
from prunelake.lake import read
from prunelake.settings import Settings
from prunelake.spec import Rows, Strategy, SweepSpec, Texts
from prunelake.sweeps.run import run_sweep
from prunelake.sweeps.until_decided.run import Limits, run_until_decided
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SweepSpec:
    """Five rows at two levels, three of them continued by two tokens."""
    folder = tmp_path_factory.mktemp("model")
    tiny_tokenizer().save_pretrained(folder)
    tiny_model("llama", max_position_embeddings=512).save_pretrained(folder)
    return SweepSpec(
        model=str(folder),
        task="everyday_knowledge",
        rows=Rows(first=5),
        levels=(0, 2),
        strategy=Strategy(name="last"),
        explain=None,
        texts=Texts(rows=3, new_tokens=2),
    )


def test_a_larger_sweep_copies_the_texts_of_a_smaller_one(spec: SweepSpec, tmp_path: Path) -> None:
    settings = Settings(lake=tmp_path, cache=tmp_path / "cache", device="cpu")
    small = run_sweep(spec, settings)
    rows = read.read_table(tmp_path, "texts", [small])
    assert rows.select("level", "example_id").n_unique() == rows.height == 3 * 2
    large = run_sweep(spec.model_copy(update={"texts": Texts(rows=5, new_tokens=2)}), settings)
    (run,) = read.read_table(tmp_path, "runs", [large]).iter_rows(named=True)
    copied = {row["table"]: row["cells"] for row in run["copied"]}
    assert copied == {"layers": 5, "predictions": 10, "texts": 6}
    larger = read.read_table(tmp_path, "texts", [large])
    assert larger.height == 5 * 2
    keys = ["level", "example_id"]
    assert_frame_equal(larger.join(rows, on=keys, how="semi").drop("run_id"), rows.drop("run_id"))
    # Other texts are other cells, and a sweep without texts is the run that it always was.
    shorter = run_sweep(spec.model_copy(update={"texts": Texts(rows=3, new_tokens=1)}), settings)
    (run,) = read.read_table(tmp_path, "runs", [shorter]).iter_rows(named=True)
    assert {row["table"] for row in run["copied"]} == {"layers", "predictions"}


def test_rounds_refuse_texts(spec: SweepSpec, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="leave out --text-rows"):
        run_until_decided(spec, Limits(), Settings(lake=tmp_path), lambda _: "never")
