import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.charts.catalog import CHARTS
from api.charts.drawing import BLUE, DARK, INK
from api.report.document import write_report
from api.report.html import merge_themes, with_distinct_ids
from api.report.run_section import MAIN_CHARTS
from prunelake.cli.app import app
from prunelake.errors import LakeError, PruneLakeError
from prunelake.lake.views import query
from tests.support.example_runs import explained_run, judged_run, published_run
from tests.support.lake_rows import prediction, run_row, write
from tests.support.profile_rows import profiled

DROPS = {("kernel_shap", "delete_text"): 0.5, ("random", "delete_text"): 0.25}

LOADING = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """What a test asks of a page: tags, attributes, texts."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, name: str, tag: str | None = None) -> list[str]:
        return [v for t, n, v in self.attributes if n == name and tag in (None, t)]


def report(lake: Path, out: Path, **options: list[str]) -> Page:
    write_report(lake, out, **options)
    return Page(out)


def draw_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the sections of runs have these charts only: charts take most of a report's time."""
    monkeypatch.setattr("api.report.run_section.CHARTS", {name: CHARTS[name] for name in names})


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about charts."""
    draw_only(monkeypatch)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of three runs: two of one model, one of another."""
    folder = tmp_path_factory.mktemp("full")
    explained_run(folder / "lake", "a", DROPS, task="first_task", model="hub:org/one")
    explained_run(folder / "lake", "b", {}, task="second_task", model="hub:org/one")
    explained_run(folder / "lake", "c", DROPS, task="first_task", model="hub:org/two")
    return report(folder / "lake", folder / "report.html")


def test_the_page_loads_nothing(full: Page) -> None:
    for tag, name, value in full.attributes:
        if name in LOADING:
            assert value.startswith("#"), f"<{tag} {name}={value}>"
        assert not name.startswith("on")
    assert full.tags.keys().isdisjoint({"script", "link", "iframe", "object", "embed", "img"})
    assert "@import" not in full.source
    targets = re.findall(r"url\(([^)]*)\)", full.source)
    assert targets
    assert all(target.startswith("#") for target in targets)


def test_what_the_page_refers_to_is_there_once(full: Page) -> None:
    ids = Counter(full.values("id"))
    assert set(ids.values()) == {1}
    targets = re.findall(r"url\(#([^)]*)\)", full.source)
    targets += [value[1:] for value in full.values("href")]
    assert set(targets) <= ids.keys()


def test_drawings_that_number_alike_are_told_apart() -> None:
    drawing = '<svg x="1"><a id="a_0"/><b fill="url(#a_0)"/>\n<c xlink:href="#a_0"/></svg>'
    expected = [drawing.replace("a_0", f"drawing{i}-a_0") for i in range(2)]
    assert with_distinct_ids(f'<i id="a_0">{drawing}</i>{drawing}') == (
        f'<i id="a_0">{expected[0]}</i>{expected[1]}'
    )


def test_a_drawing_has_the_colours_of_both_themes() -> None:
    light = '<a fill="#111" stroke="none">#111</a><b stop-color="red" fill="url(#g_0)"/>'
    dark = '<a fill="#eee" stroke="none">#111</a><b stop-color="blue" fill="url(#g_1)"/>'
    assert merge_themes(light, dark) == (
        '<a fill="light-dark(#111, #eee)" stroke="none">#111</a>'
        '<b stop-color="light-dark(red, blue)" fill="url(#g_0)"/>'
    )
    with pytest.raises(ValueError, match="zip"):
        merge_themes(light, "<a/>")


def test_the_charts_are_drawn_for_light_and_dark_paper(full: Page) -> None:
    shades = {light: dark for light, dark in DARK.items() if light != dark}
    written = "|".join(map(re.escape, shades))
    assert not re.findall(rf'(?:fill|stroke)="({written})"', full.source)
    for light in ("white", INK, BLUE):
        assert f'fill="light-dark({light}, {shades[light]})"' in full.source


def test_the_page_can_be_read_aloud_and_on_a_phone(full: Page) -> None:
    names = full.values("aria-label", "svg")
    assert full.values("role", "svg") == ["img"] * full.tags["svg"]
    assert len(names) == full.tags["svg"] == full.tags["figcaption"]
    assert all(len(name) > 20 for name in names)
    assert full.tags["caption"] == full.tags["table"] > 0
    assert full.values("lang", "html") == ["en"]
    assert "width=device-width" in full.values("content", "meta")[0]
    assert "prefers-color-scheme: dark" in full.source


def test_runs_of_one_model_share_a_section(full: Page) -> None:
    assert re.findall(r"<h2>(.*?)</h2>", full.source) == [
        "What to remove",
        "What goes with accuracy over several runs",
        "one, cosine order",
        "two, cosine order",
    ]
    assert re.findall(r"<h3>(.*?)</h3>", full.source) == [
        *("one", "two"),  # what to remove
        *("first_task", "second_task", "first_task"),
    ]


CONFIDENCE, EXPLANATIONS, VERDICTS, RELIABILITY = (CHARTS[name].caption for name in MAIN_CHARTS)
OPENED = [CHARTS[name].caption for name in ("deltas", "path", "correlations", "flips", "pareto")]


def captions(markup: str) -> tuple[list[str], list[str]]:
    """Of the charts to be seen at once, and of those to be opened."""
    at_once, _, opened = markup.partition("<details>")
    caption = "<figcaption>(.*?)</figcaption>"
    return re.findall(caption, at_once), re.findall(caption, opened)


def test_every_chart_is_shown_once_for_each_run_or_each_model(full: Page) -> None:
    one, two = full.source.split("<h2>")[3:]
    of_one, first, second = one.split("<h3>")
    overlap = CHARTS["overlap"].caption
    opened = [*OPENED[:3], overlap, *OPENED[3:]]
    explained = [CONFIDENCE, EXPLANATIONS, VERDICTS, RELIABILITY], opened
    assert captions(first) == explained
    assert captions(second) == ([CONFIDENCE, VERDICTS, RELIABILITY], OPENED)
    assert captions(two.split("<h3>")[1]) == explained
    importance, matrix = captions(of_one)[0]
    assert importance.startswith("Importance of attention layers: 1 minus the mean")
    assert matrix == CHARTS["correlation_matrix"].caption
    # One task has nothing to set side by side.
    assert len(captions(two.split("<h3>")[0])[0]) == 1


@pytest.mark.usefixtures("without_charts")
def test_what_levels_cost_is_told_once_for_a_removal_order(tmp_path: Path) -> None:
    for task in ("first", "second"):
        explained_run(tmp_path / "lake", task, {}, task=task)
    assert "Costs of its levels" not in report(tmp_path / "lake", tmp_path / "bare.html").source
    decode = {0: [4.0, 5.0], 1: [4.0, 4.0], 2: [2.0, 2.5]}
    profiled(tmp_path / "lake", decode=decode, removal_order=[2, 1])
    page = report(tmp_path / "lake", tmp_path / "report.html")
    assert page.source.count("<h3>Costs of its levels</h3>") == 1
    assert page.source.count(f"<figcaption>{CHARTS['cost'].caption}</figcaption>") == 1
    rows = rows_of(page, "The costs of a level on a CPU, 1 thread, in float32")
    cells = [re.sub("<.*?>", " ", cell).split() for cell in rows[2]]
    assert cells[0] == ["2"]
    assert cells[2][-2:] == ["80", "%"] or cells[2][-1] == "80\N{NO-BREAK SPACE}%"
    # 2 x 10 tokens in 2 and 2.5 seconds; each repeat beside its own level 0.
    assert " ".join(cells[-1]) == "9 2.00 x, 2.00 to 2.00"
    assert "2 x 100 prompt tokens, then 10 new ones" in page.text


def test_strategies_of_one_task_are_compared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch, "pareto")
    for strategy in ("cosine", "random"):
        explained_run(tmp_path, strategy, {}, strategy=strategy)
    page = report(tmp_path, tmp_path / "report.html")
    assert page.source.count(CHARTS["pareto"].caption) == 2  # read aloud, and below the chart


def test_charts_of_one_metric_show_what_is_degraded(judged: Page) -> None:
    (name,) = (
        name for name in judged.values("aria-label", "svg") if CHARTS["deltas"].caption in name
    )
    assert "ECE is worse at level" in name


def test_the_finding_the_caveat_and_the_warnings_are_there(full: Page) -> None:
    assert "No level is shown to keep accuracy within 0.02 of 0.75." in full.text
    assert "could have been missed" in full.text
    assert re.search(r'title="change [^"]*; a change below \d\.\d{3} could have', full.source)
    assert "Tests and intervals rest on n = 4 examples, those of explanations on" in full.text
    assert "Near chance: the unpruned accuracy 0.75" in full.text
    assert "method kernel_shap, operator delete_text, AOPC variant eraser" in full.text
    assert "constant metric" in full.text
    assert "point estimate" not in full.text


@pytest.fixture(scope="module")
def judged_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with one run, whose verdicts are plain."""
    folder = tmp_path_factory.mktemp("judged")
    judged_run(folder)
    return folder


@pytest.fixture(scope="module")
def judged(judged_lake: Path) -> Page:
    """The report of that run, with one chart."""
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch, "deltas")
        return report(judged_lake, judged_lake / "report.html")


def rows_of(page: Page, caption: str) -> list[list[str]]:
    """The cells of the rows of the table whose caption begins so, tags left in."""
    table = re.search(rf"<caption><span>{caption}.*?</table>", page.source)
    assert table
    body = table[0].partition("<tbody>")[2]
    return [re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", body)]


def test_verdicts_have_words_and_colours(judged: Page) -> None:
    unpruned, stable, fallen = rows_of(judged, "Verdicts by level")
    assert [cell.partition(">")[2].partition("<")[0] for cell in unpruned[:3]] == [
        "0",
        "0.875",
        "0.000",
    ]
    assert re.fullmatch(
        r'<td class="equivalent" title="change 0.000; n = 400; adjusted p 1.000; .*">'
        r"stable<small>0.875 \(0.000\)</small></td>",
        stable[1],
    )
    assert stable[2].startswith('<td class="hidden" title="change +0.120, 95 % interval 0.0')
    assert "; n = 400; adjusted p &lt; 0.001" in stable[2]
    assert ">hidden<small>0.120 (+0.120)</small>" in stable[2]
    assert ">falls<small>0.500" in fallen[1]
    assert 'class="visible"' in fallen[2]
    for word in ("hidden", "visible"):
        assert f'<span class="{word}">{word}</span> worse while accuracy' in judged.source
    assert "two one-sided tests place it within 0.02 of the unpruned 0.88" in judged.text


def test_the_numbers_behind_a_verdict_can_be_opened(judged: Page, judged_lake: Path) -> None:
    summaries = re.findall("<details><summary>(.*?)</summary>", judged.source)
    assert summaries[1:] == ["n, intervals and adjusted p of each verdict"]
    rows = rows_of(judged, "The numbers behind the verdicts")
    (ece,) = (row for row in rows if ">1<" in row[0] and ">ECE<" in row[1])
    cells = [cell.partition(">")[2].removesuffix("</td>") for cell in ece[2:]]
    assert cells[:2] == ["400", "0.120"]
    (known,) = query(
        judged_lake,
        "select ci_low, ci_high, delta_low, delta_high from metrics inner join deltas "
        "using (level, metric) where level = 1 and metric = 'ece' "
        "and metrics.variant is null and deltas.variant is null",
    ).rows()
    ci_low, ci_high, delta_low, delta_high = (f"{value:.3f}" for value in known)
    assert cells[2:5] == [f"{ci_low} to {ci_high}", "+0.120", f"{delta_low} to {delta_high}"]
    assert cells[5:] == ["&lt; 0.001", "", "hidden", ""]
    accuracy = next(row for row in rows if ">2<" in row[0])
    assert ">accuracy<" in accuracy[1]


def test_correlations_have_scopes_intervals_and_notes(judged: Page, judged_lake: Path) -> None:
    rows = rows_of(judged, "Correlation of each metric with accuracy")
    everywhere, stable = (row for row in rows if ">ECE<" in row[0])
    assert ">all (3)<" in everywhere[1]
    minus = "\N{MINUS SIGN}"
    sql = "select pearson, pearson_low, pearson_high from correlations"
    (known,) = query(judged_lake, f"{sql} where metric = 'ece' and scope = 'all'").rows()
    pearson, low, high = (f"{value:.2f}".replace("-", minus) for value in known)
    assert f">{pearson}<small>{low} to {high}</small>" in everywhere[2]
    assert ">stable (2)<" in stable[1]
    assert ">\N{EN DASH}<" in stable[2]
    assert "fewer than 3 levels" in stable[6]


def test_a_published_run_says_what_cannot_be_known(tmp_path: Path) -> None:
    published_run(tmp_path, task="published_task")
    page = report(tmp_path, tmp_path / "report.html")
    assert "which levels keep accuracy, and what is worse there, cannot be known." in page.text
    assert "method lime, operator not told, AOPC variant not told" in page.text
    assert "Published averages give correlations only" in page.text
    rows = rows_of(page, "Published values")
    minus = "\N{MINUS SIGN}"
    assert [re.sub("<.*?>", "", cell) for cell in rows[4]] == [
        "4",
        f"0.250 ({minus}0.500)",
        "0.500 (+0.375)",
        f"0.125 ({minus}0.375)",
    ]
    assert "n, intervals and adjusted p" not in page.source
    correlations = rows_of(page, "Correlation of each metric with accuracy over levels; no")
    assert [len(row) for row in correlations] == [6, 6]
    # Nothing for verdicts, reliability, flips, overlaps, or a removal order.
    assert captions(page.source) == (
        [CONFIDENCE, EXPLANATIONS],
        [caption for caption in OPENED if caption != CHARTS["flips"].caption],
    )


@pytest.mark.usefixtures("without_charts")
def test_several_runs_are_listed_and_pooled_with_a_warning(tmp_path: Path) -> None:
    judged_run(tmp_path, task="judged_task")
    for name, offset in (("a", 0.0), ("b", 0.5)):
        run = run_row(name, levels=[0, 1, 2, 3, 4], example_count=0, task=name, strategy="random")
        cell = {"run_id": run["run_id"], "method": "", "operator": "", "variant": ""}
        # Within a run ECE falls where accuracy rises; between the runs both are higher.
        reported = [
            cell | {"level": level, "metric": metric, "value": offset + sign * level / 32 + base}
            for level in range(5)
            for metric, sign, base in (
                ("accuracy", -1, 0.25),
                ("ece", 1, 0.125),
                ("auroc", -1, 0.25),
            )
        ]
        write(tmp_path, run, reported=reported)
    page = report(tmp_path, tmp_path / "report.html")
    assert "judged_task : Accuracy is stable at level 1; hidden degradation: ECE," in page.text
    assert (
        "The runs taken together mislead (Simpson's paradox): the correlation with accuracy has "
        "the opposite sign within them for ECE ("
    ) in page.text
    assert "AUROC" not in page.text.partition("(Simpson's paradox)")[2].partition(".</p>")[0][:200]
    rows = rows_of(page, "Correlation of each metric with accuracy over all levels of several")
    of_auroc, row = rows
    assert "opposite signs" not in of_auroc[4]
    assert "opposite signs" in row[4]
    assert 'class="visible"' in row[3]
    assert "10 points" in row[1]


def test_a_run_without_analysis_says_how_to_get_one(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path, drops={})
    (tmp_path / "analyses" / f"{run_id}.parquet").unlink()
    page = report(tmp_path, tmp_path / "report.html")
    assert "This run has no metrics until `prunelake analyse`" in page.text


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize(
    ("levels", "text"),
    [([0, 1, 2, 3], "0 to 3"), ([0, 1, 4], "0, 1, 4"), ([0, 2, 3, 4, 8], "0, 2 to 4, 8")],
)
def test_what_was_run_is_told(tmp_path: Path, levels: list[int], text: str) -> None:
    explained_run(
        tmp_path, drops={}, levels=levels, forward_tokens=1234567, duration_s=61.4, device="cuda"
    )
    page = report(tmp_path, tmp_path / "report.html")
    table = re.search(r"<caption><span>What was run.*?</table>", page.source)
    assert table
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table[0])
    assert cells[:6] == ["4", text, "float32", "cuda", "1,234,567", "61"]
    assert f"<code>{'0' * 12}</code>" in page.source


def test_the_footer_says_how_to_make_it_again(full: Page) -> None:
    footer = full.source.partition("<footer>")[2]
    assert re.search(r"prunelake report --lake \S+lake --out report.html", footer)
    assert len(re.findall(r"<code>[0-9a-f]{16}</code>", footer)) == 3


def test_predictions_only_leave_explanations_out_and_say_so(tmp_path: Path) -> None:
    explained_run(tmp_path, drops={})
    page = report(tmp_path, tmp_path / "report.html")
    assert "This run has predictions only" in page.text
    assert "Faithfulness" not in page.text
    assert "comprehensiveness" not in page.text


def test_a_lake_without_runs_says_how_to_fill_it(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    page = report(lake, tmp_path / "report.html")
    assert "holds no runs yet" in page.text
    assert "prunelake demo" in page.text
    assert page.tags["svg"] == 0


@pytest.mark.parametrize(
    "log_likelihoods", [[], [[float("nan"), -1.0]], [[-1.0, -2.0]]], ids=["none", "nan", "one"]
)
def test_a_run_with_next_to_nothing_still_has_a_section(
    tmp_path: Path, log_likelihoods: list[list[float]]
) -> None:
    run = run_row(task="sparse_task", levels=[0])
    rows = [
        prediction(str(run["run_id"]), 0, f"test:{i}", values)
        for i, values in enumerate(log_likelihoods)
    ]
    write(tmp_path, run, predictions=rows)
    page = report(tmp_path, tmp_path / "report.html")
    assert "<h3>sparse_task</h3>" in page.source
    is_scored = log_likelihoods == [[-1.0, -2.0]]
    assert ("No accuracy could be computed." in page.text) != is_scored


@pytest.mark.usefixtures("without_charts")
def test_chosen_runs_only(tmp_path: Path) -> None:
    chosen = explained_run(tmp_path, "a", {}, task="chosen_task")
    explained_run(tmp_path, "b", {}, task="other_task")
    page = report(tmp_path, tmp_path / "report.html", run_ids=[chosen])
    assert "chosen_task" in page.text
    assert "other_task" not in page.text
    with pytest.raises(LakeError, match="no complete run 'absent' in"):
        write_report(tmp_path, tmp_path / "report.html", ["absent", chosen])


def test_names_cannot_inject_markup(tmp_path: Path) -> None:
    evil = "<script>alert('1')</script>&\""
    explained_run(tmp_path, "a", DROPS, model=evil, task=evil, device=evil)
    page = report(tmp_path, tmp_path / "report.html")
    assert "script" not in page.tags
    assert evil in page.text


def test_a_path_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for out in (tmp_path / "folder", tmp_path / "absent" / "report.html"):
        with pytest.raises(PruneLakeError, match="could not be written: ") as raised:
            write_report(tmp_path / "lake", out)
        assert str(out) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_lake_leaves_the_old_report_alone(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(LakeError, match="no lake at"):
        write_report(tmp_path / "absent", out)
    assert out.read_text() == "old"
    (tmp_path / "lake").mkdir()
    assert "holds no runs yet" in report(tmp_path / "lake", out).text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "report.html"]


def test_the_report_needs_no_torch() -> None:
    heavy = ["torch", "transformers", "captum"]
    code = f"import sys, api.report.document; print(sorted(set({heavy}) & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("command", [["report"], ["sql", "select 1 as one"]])
def test_runs_without_analysis_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = tmp_path / "lake"
    run_id = explained_run(lake, drops={})
    explained_run(lake, "other", drops={})
    command = [*command, "--lake", str(lake)]
    before = CliRunner().invoke(app, command)
    (lake / "analyses" / f"{run_id}.parquet").unlink()
    after = CliRunner().invoke(app, command)
    assert (before.exit_code, before.stderr) == (0, "")
    assert (after.exit_code, after.stdout) == (0, before.stdout)
    assert after.stderr == (
        "runs without an analysis, and therefore without intervals and verdicts: 1; "
        "`prunelake analyse` computes it\n"
    )
