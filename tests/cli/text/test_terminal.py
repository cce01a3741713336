from io import StringIO
from pathlib import Path

from rich.console import Console

from prunelake.api.findings.wording import MINUS
from prunelake.cli.text.terminal import print_summary
from tests.support.lakes.lake_files import forget_analysis
from tests.support.runs.example_runs import explained_run, judged_run, published_run
from tests.support.runs.lake_rows import rows_of


def printed(lake: Path, run_id: str) -> list[str]:
    stream = StringIO()
    print_summary(lake, [run_id], Console(file=stream, width=80))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_levels_are_shown_with_their_difference_from_the_unpruned_model(tmp_path: Path) -> None:
    lines = printed(tmp_path, explained_run(tmp_path))
    assert "demo, cosine order: 4 examples, 2 of them explained by kernel_shap" in lines
    rows = [line.split() for line in lines]
    assert ["removed", "accuracy", "ECE", "comprehensiveness", "sufficiency"] in rows
    (unpruned,) = (row for row in rows if row[:1] == ["0"])
    assert (unpruned[1], unpruned[3], unpruned[4]) == ("0.750", "0.500", "0.250")
    (deepest,) = (row for row in rows if row[:1] == ["2"])
    assert deepest[1:4] == ["0.500", f"({MINUS}0.250)", "?"]
    assert deepest[7:] == ["0.250", f"({MINUS}0.250)", "?", "0.250", "(0.000)", "?"]


def test_verdicts_are_shown_as_marks_and_sentences(tmp_path: Path) -> None:
    lines = printed(tmp_path, judged_run(tmp_path))
    rows = [line.split() for line in lines]
    assert ["1", "0.875", "(0.000)", "=", "0.120", "(+0.120)", "!"] in rows
    assert ["2", "0.500", f"({MINUS}0.375)", "v", "0.495", "(+0.495)", "v"] in rows
    marks = [line.strip() for line in lines if line.strip()[:2] in ("! ", "v ", "= ", "? ", "w ")]
    assert marks == [
        "! worse while accuracy is stable",
        "v worse while accuracy falls",
        "= within its margin of unpruned",
    ]
    text = " ".join(" ".join(lines).split())
    assert "Accuracy is stable at level 1: two one-sided tests show that it is within 0.02" in text
    assert (
        "Hidden degradation, worse while accuracy is stable: ECE at level 1 (0.00 to 0.12)" in text
    )


def test_explanations_that_do_not_beat_a_random_ranking_are_a_caution(tmp_path: Path) -> None:
    drops = {(method, "replace"): 0.5 for method in ("random", "kernel_shap")}
    text = " ".join(" ".join(printed(tmp_path, explained_run(tmp_path, drops=drops))).split())
    assert "Caution: No better than a random ranking of the tokens: comprehensiveness" in text


def test_the_first_line_states_the_finding_of_the_most_decided_run(tmp_path: Path) -> None:
    stream = StringIO()
    run_ids = [explained_run(tmp_path), judged_run(tmp_path)]
    print_summary(tmp_path, run_ids, Console(file=stream, width=500))
    first, _, second = stream.getvalue().splitlines()[:3]
    assert first == (
        "tiny on demo: Without 1 attention layer, hidden degradation of ECE (0.00 to 0.12), "
        "Brier score (0.22 to 0.25) and NLL (0.38 to 0.67); without 2, visible loss of accuracy "
        "(0.88 to 0.50)."
    )
    assert second == "tiny on demo: No level is shown to be harmless or worse."


def test_the_last_line_is_the_next_command_on_one_line(tmp_path: Path) -> None:
    decided = printed(tmp_path, judged_run(tmp_path))[-1]
    assert decided == "Next: prunelake recommend --model tiny"
    is_open = printed(tmp_path, explained_run(tmp_path))[-1]
    assert is_open.startswith("To settle the inconclusive verdicts: prunelake sweep --model tiny ")
    stream = StringIO()
    run_id = published_run(tmp_path)
    print_summary(tmp_path, [run_id], Console(file=stream, width=60), lake_option="my lake")
    assert stream.getvalue().splitlines()[-1] == "Next: prunelake report --lake 'my lake'"


def test_a_narrow_console_shows_whole_cells(tmp_path: Path) -> None:
    stream = StringIO()
    print_summary(tmp_path, [explained_run(tmp_path)], Console(file=stream, width=60))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    headers = [line.split() for line in lines if line.split()[:1] == ["removed"]]
    assert headers == [
        ["removed", "accuracy", "ECE"],
        ["removed", "comprehensiveness", "sufficiency"],
    ]
    # A table is narrower than its title, which takes the whole line.
    assert "demo, cosine order: 4 examples, 2 of them explained by" in lines
    tables = lines[: next(n for n, line in enumerate(lines) if line.startswith("No level"))]
    assert "…" not in "".join(tables)


def test_correlations_have_an_interval_or_a_reason(tmp_path: Path) -> None:
    minus = "\N{MINUS SIGN}"
    text = "\n".join(printed(tmp_path, judged_run(tmp_path)))
    assert f"ECE over all levels (3): {minus}0.87, {minus}0.87 to {minus}0.87" in text
    assert "ECE over stable levels (2): none (fewer than 3 levels)" in text
    text = "\n".join(printed(tmp_path, explained_run(tmp_path)))
    assert "sufficiency over all levels (3): none (constant metric)" in text


def test_a_published_run_shows_values_and_says_what_is_unknown(tmp_path: Path) -> None:
    lines = printed(tmp_path, published_run(tmp_path))
    assert "demo, order not known: published without examples" in lines
    rows = [line.split() for line in lines]
    assert [
        "4",
        "0.250",
        f"({MINUS}0.500)",
        "0.500",
        "(+0.375)",
        "0.125",
        f"({MINUS}0.375)",
    ] in rows
    text = " ".join(" ".join(lines).split())
    assert "they cannot show which levels keep accuracy, and which metrics are worse there." in text
    assert "ECE over all levels (5): \N{MINUS SIGN}0.92, interval not known" in text
    assert "stable levels" not in text


def test_a_run_without_analysis_says_how_to_get_one(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    forget_analysis(tmp_path, run_id)
    assert "prunelake analyse" in " ".join(printed(tmp_path, run_id))


def test_summary_has_one_row_per_level_with_verdicts(tmp_path: Path) -> None:
    judged_run(tmp_path)
    columns = "level, is_accuracy_stable, ece_verdict, comprehensiveness_verdict, n"
    assert rows_of(tmp_path, f"select {columns} from summary order by level") == [
        dict(zip(columns.split(", "), values, strict=True))
        for values in (
            (0, None, None, None, 400),
            (1, True, "hidden degradation", None, 400),
            (2, False, "visible degradation", None, 400),
        )
    ]


def test_summary_of_a_published_run_has_no_n_and_no_verdict(tmp_path: Path) -> None:
    published_run(tmp_path)
    query = "select * exclude (run_id, model, strategy, task) from summary where level = 1"
    assert rows_of(tmp_path, query) == [
        {
            "level": 1,
            "label": "1",
            "method": "lime",
            "operator": None,
            "accuracy": 0.75,
            "accuracy_delta": 0.0,
            "is_accuracy_stable": None,
            "ece": 0.25,
            "ece_delta": 0.125,
            "ece_verdict": None,
            "n": None,
            "comprehensiveness": 0.375,
            "comprehensiveness_delta": -0.125,
            "comprehensiveness_verdict": None,
            "sufficiency": None,
            "sufficiency_delta": None,
            "sufficiency_verdict": None,
            "explained_n": None,
        }
    ]


def test_summary_prefers_kernel_shap_and_deleted_text(
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


def test_summary_falls_back_to_the_first_method_by_name(tmp_path: Path) -> None:
    explained_run(tmp_path, drops={("lime", "replace"): 0.25, ("random", "replace"): 0.5})
    assert rows_of(tmp_path, "from headlines select method, operator, variant") == [
        {"method": "lime", "operator": "replace", "variant": "eraser"}
    ]


def test_a_run_without_a_known_order_says_so(tmp_path: Path) -> None:
    lines = printed(tmp_path, explained_run(tmp_path, strategy=""))
    assert any(line.startswith("demo, order not known: 4 examples") for line in lines)
