from io import StringIO
from pathlib import Path

from rich.console import Console

from api.terminal import print_summary
from tests.lake_rows import rows_of
from tests.level_rows import explained_run


def printed(lake: Path, run_id: str) -> list[str]:
    stream = StringIO()
    print_summary(lake, [run_id], Console(file=stream, width=80))
    return stream.getvalue().splitlines()


def test_levels_stand_beside_the_unpruned_model(tmp_path: Path) -> None:
    lines = printed(tmp_path, explained_run(tmp_path))
    assert lines[0].strip() == "demo, cosine order: 4 examples, 2 of them explained by kernel_shap"
    rows = [line.split() for line in lines]
    assert ["removed", "accuracy", "ECE", "comprehensiveness", "sufficiency"] in rows
    (unpruned,) = (row for row in rows if row[:1] == ["0"])
    assert (unpruned[1], unpruned[3], unpruned[4]) == ("0.750", "0.500", "0.250")
    (deepest,) = (row for row in rows if row[:1] == ["2"])
    assert deepest[1:3] == ["0.500", "(-0.250)"]
    assert deepest[5:] == ["0.250", "(-0.250)", "0.250", "(+0.000)"]


def test_correlations_follow_with_the_reason_where_there_is_none(tmp_path: Path) -> None:
    text = "\n".join(printed(tmp_path, explained_run(tmp_path)))
    # Accuracy 0.75, 0.75, 0.5 against comprehensiveness 0.5, 0.375, 0.25.
    assert "comprehensiveness: Pearson +0.87, Spearman +0.87 (3 levels)" in text
    assert "sufficiency: none (constant metric)" in text
    assert "Accuracy falls by no more than 0.02 up to level 1 (0.75 to 0.75)." in text
    assert "These are point estimates, not tests: n = 4 examples" in " ".join(text.split())


def test_a_run_is_summed_up_by_kernel_shap_and_deleted_text_where_it_has_them(
    tmp_path: Path,
) -> None:
    explained_run(
        tmp_path,
        drops={
            ("input_x_gradient", "delete_text"): 0.125,
            ("kernel_shap", "replace"): 0.25,
            ("kernel_shap", "delete_text"): 0.5,
        },
    )
    assert rows_of(
        tmp_path, "select method, operator, comprehensiveness from summary where level = 0"
    ) == [{"method": "kernel_shap", "operator": "delete_text", "comprehensiveness": 0.5}]


def test_else_by_the_first_method_by_name(tmp_path: Path) -> None:
    explained_run(tmp_path, drops={("lime", "replace"): 0.25, ("random", "replace"): 0.5})
    assert rows_of(tmp_path, "select method, operator from headlines") == [
        {"method": "lime", "operator": "replace"}
    ]


def test_a_run_without_a_known_order_says_so(tmp_path: Path) -> None:
    title = printed(tmp_path, explained_run(tmp_path, strategy=""))[0]
    assert title.startswith("demo, order not known: 4 examples")
