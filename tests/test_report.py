import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from api.html import with_distinct_ids
from api.report import write_report
from prunelake.errors import LakeError, PruneLakeError
from tests.lake_rows import prediction, run_row, write
from tests.level_rows import explained_run

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
    assert re.findall(r"<h2>(.*?)</h2>", full.source) == ["one, cosine order", "two, cosine order"]
    assert re.findall(r"<h3>(.*?)</h3>", full.source) == ["first_task", "second_task", "first_task"]
    # A strip for each model; four charts for each explained run, three for predictions only.
    assert full.tags["svg"] == 2 + 4 + 3 + 4


def test_the_finding_the_caveat_and_the_tables_are_there(full: Page) -> None:
    # The prediction of every example is sure to 0.73 at level 0, which 3 of 4 deserve: ECE 0.02.
    assert (
        "Accuracy falls by no more than 0.02 up to level 1 (0.75 to 0.75). At level 1 ECE rises "
        "0.02 to 0.13 (worse), comprehensiveness falls 0.50 to 0.38 (worse) and sufficiency stays "
        "at 0.25."
    ) in full.text
    assert "n = 4 examples, and the standard error of the unpruned accuracy is 0.217" in full.text
    assert "Near chance: the unpruned accuracy 0.75" in full.text
    assert "method kernel_shap, operator delete_text, AOPC variant eraser" in full.text
    row = re.search(r'<tr><th scope="row">2</th>(.*?)</tr>', full.source)
    assert row
    cells = re.findall(r"<td>(.*?)</td>", row[1])
    minus = "\N{MINUS SIGN}"
    assert cells[:2] == ["0.500", f"{minus}0.250"]
    assert cells[4:] == ["0.250", f"{minus}0.250", "0.250", "0.000"]
    assert "constant metric" in full.text


@pytest.mark.parametrize(
    ("levels", "text"),
    [([0, 1, 2, 3], "0 to 3"), ([0, 1, 4], "0, 1, 4"), ([0, 2, 3, 4, 8], "0, 2 to 4, 8")],
)
def test_what_was_run_is_told(tmp_path: Path, levels: list[int], text: str) -> None:
    explained_run(
        tmp_path, drops={}, levels=levels, forward_tokens=1234567, duration_s=61.4, device="cuda"
    )
    page = report(tmp_path, tmp_path / "report.html")
    table = re.search(r"<caption>What was run.*?</table>", page.source)
    assert table
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table[0])
    assert cells[:6] == ["4", text, "float32", "cuda", "1,234,567", "61"]
    assert f"<code>{'0' * 12}</code>" in page.source


def test_rows_up_to_the_level_where_accuracy_holds_are_shaded(full: Page) -> None:
    levels = re.findall(r'<tr class="held"><th scope="row">(\d+)</th>', full.source)
    assert levels == ["0", "1"] * 3


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


def test_chosen_runs_only(tmp_path: Path) -> None:
    chosen = explained_run(tmp_path, "a", {}, task="chosen_task")
    explained_run(tmp_path, "b", {}, task="other_task")
    page = report(tmp_path, tmp_path / "report.html", run_ids=[chosen])
    assert "chosen_task" in page.text
    assert "other_task" not in page.text
    with pytest.raises(LakeError, match="no complete run absent in"):
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
    code = f"import sys, api.report; print(sorted(set({heavy}) & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"
