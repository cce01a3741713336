import gzip
import json
from pathlib import Path

import pytest

from prunelake.errors import BadRow, DatasetNotFound, InvalidSpec
from prunelake.tasks.calibration_text import calibration_text
from tests.support.servers.hub_server import run_against, running_hub


def test_the_bundled_text_fills_eight_windows() -> None:
    text = calibration_text("bundled", None, 10**9)
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs) >= 40
    # English prose has about 1.3 tokens a word; 8 windows of 512 tokens take 4096.
    assert len(text.split()) >= 4300


def test_documents_are_taken_whole_until_they_suffice(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("aaaa", "bbbb", "cccc")))
    by_minimum = {n: calibration_text(str(path), None, n) for n in (1, 4, 5, 10, 11, 99)}
    assert by_minimum == {
        1: "aaaa",
        4: "aaaa",
        5: "aaaa\n\nbbbb",
        10: "aaaa\n\nbbbb",
        11: "aaaa\n\nbbbb\n\ncccc",
        99: "aaaa\n\nbbbb\n\ncccc",
    }


def test_the_documents_of_a_text_file_are_its_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n\none\ntwo\n\n \nthree\n")
    assert calibration_text(str(path), None, 99) == "one\ntwo\n\nthree"
    assert calibration_text(str(path), None, 7) == "one\ntwo"


def test_c4_comes_from_the_data_folder(tmp_path: Path) -> None:
    path = tmp_path / "calibration" / "c4_en_sample.jsonl"
    with pytest.raises(DatasetNotFound, match=r"c4_en_sample\.jsonl; put it there, or unset"):
        calibration_text("c4", tmp_path, 10)
    path.parent.mkdir()
    path.write_text('{"text": "a web page"}\n')
    assert calibration_text("c4", tmp_path, 10) == "a web page"


def test_a_bad_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"'c5'; choose bundled, c4, or a \.txt"):
        calibration_text("c5", None, 1)
    (tmp_path / "x.md").write_text("prose")
    with pytest.raises(InvalidSpec, match="neither"):
        calibration_text(str(tmp_path / "x.md"), None, 1)
    (tmp_path / "x.jsonl").write_text('{"txt": "prose"}\n')
    with pytest.raises(BadRow, match=r"x\.jsonl, row 0, column text: no value"):
        calibration_text(str(tmp_path / "x.jsonl"), None, 1)
    (tmp_path / "x.txt").write_bytes(b"\xff")
    with pytest.raises(InvalidSpec, match="not UTF-8"):
        calibration_text(str(tmp_path / "x.txt"), None, 1)


def test_c4_comes_from_the_hub(tmp_path: Path) -> None:
    lines = b'{"text": "one page"}\n{"text": "two pages"}\n{"broken\n'
    url = "/datasets/allenai/c4/resolve/main/en/c4-train.00000-of-01024.json.gz"
    code = (
        "from prunelake.tasks.calibration_text import calibration_text\n"
        "print(calibration_text('c4', None, 10))"
    )
    with running_hub({url: gzip.compress(lines)}) as endpoint:
        assert run_against(endpoint, tmp_path, code) == "one page\n\ntwo pages\n"
