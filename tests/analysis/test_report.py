"""The report as files: whole, self-contained, the same bytes again, inert to hostile names."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from planted import RICH, SIZES, demo_trees, eval_row, spec, summary_of, write_log, write_study

from analysis.__main__ import main
from analysis.contrasts.contrast import Decision
from analysis.laws.power import PowerLaw
from analysis.page.answer import answer
from analysis.page.figures import headline_figure, residual_figure
from analysis.page.table import Table, csv_bytes
from analysis.runs.points import build_study
from analysis.runs.records import read_runs

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("demo"), demo_trees())
    write_log(folder, spec(1_000_000, 9), [], None)
    assert main(["report", str(folder)]) == 0
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_study_becomes_a_report(folder: Path) -> None:
    out = folder / "report"
    names = set(digests(out))
    figures = {"headline", "curves-docs", "curves-code", "residuals", "multiplier"}
    tables = {"fits", "held_out", "contrasts", "growth", "runs"}
    tables |= {"exposure", "displacement", "held_fixed", "cost", "provenance"}
    assert names >= {
        "report.html",
        "report.md",
        "summary.json",
        *(f"figures/{name}.{suffix}" for name in figures for suffix in ("svg", "png")),
        *(f"tables/{name}.{suffix}" for name in tables for suffix in ("csv", "tex")),
        *(f"tables/{name}.csv" for name in ("points", "ledger")),
    }


def test_tables_for_a_paper_are_not_wide_and_per_cent_stands_apart(folder: Path) -> None:
    for name in ("contrasts", "growth", "fits", "held_out", "decision"):
        first = (folder / "report" / "tables" / f"{name}.tex").read_text().splitlines()[1]
        assert len(first.removeprefix(r"\begin{tabular}{").removesuffix("}")) <= 10
    markdown = (folder / "report" / "report.md").read_text()
    assert not re.findall(r"\d%", markdown)
    assert "\\`" not in markdown


def test_the_summary_holds_what_scripts_need(folder: Path) -> None:
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert summary["headline"].startswith("80 % docs / 20 % code is better on docs")
    fit = next(f for f in summary["fits"] if f["recipe"].startswith("80 %") and f["domain"] == "docs")
    assert fit["law"] == "power"
    assert set(fit["params"]) == {"E", "B", "beta"}
    assert set(fit["params"]["beta"]) == {"value", "lo", "hi"}
    assert fit["status"] == "ok"
    assert abs(fit["held_out"]["error"]) < 0.01
    assert summary["contrasts"][0]["decision"] == "a_better"
    states = [run["state"] for run in summary["runs"]]
    assert states.count("complete") == 36
    assert states.count("interrupted") == 1
    done = next(run for run in summary["runs"] if run["state"] == "complete")
    assert done["N"] == 100_000
    assert done["ledger"]["tokens"] == done["D"]
    assert done["ledger"]["domains"]["docs"]["dropped"] == {"duplicate": 12}


def test_the_same_logs_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, with another hash seed: no order of a set or clock may show."""
    command = [sys.executable, "-m", "analysis", "report", str(folder), "--out", str(tmp_path / "again")]
    root = Path(__file__).parents[2]
    subprocess.run(command, check=True, cwd=root, env={"PYTHONHASHSEED": "7", "HOME": str(tmp_path), "PATH": ""})
    assert digests(tmp_path / "again") == digests(folder / "report")


class Page(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self, text: str) -> None:
        HTMLParser.__init__(self)
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_the_page_loads_nothing_and_runs_nothing(folder: Path) -> None:
    text = (folder / "report" / "report.html").read_text()
    page = Page(text)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert not page.tags & {"script", "link", "iframe", "object", "form"}
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert not page.handlers


def test_hostile_names_are_inert_everywhere(tmp_path: Path) -> None:
    trees = [spec(D, s, {"docs": 0.5, "../../=x<b>": 0.5}) for s in range(2) for D in SIZES]
    for tree in trees:
        tree["recipe"]["corpus"]["domains"] = {"docs": {}, "../../=x<b>": {}}
        tree["study"] = {**tree["study"], "question": f"{HOSTILE} $\\frac{{1}}{{2}}$ {{{{ 7*7 }}}} | a](http://x)"}
    write_study(tmp_path / "runs", trees)
    bad = spec(1_000_000, 9, RICH)
    write_log(
        tmp_path / "runs", bad, [], {"state": "failed", "error": f"=cmd() {HOSTILE}\n# head"}, name=f"../{HOSTILE}"
    )
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "runs"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert HOSTILE not in html
    assert not Page(html).tags & {"script", "b"} - {"b" if "<li><b>" in html else ""}
    assert "{{ 7*7 }}" in html
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert not re.search(r"(?<!\\)<(script|b)", markdown)
    assert "a](http" not in markdown
    for path in (tmp_path / "out" / "tables").glob("*.tex"):
        assert not re.search(r"(?<!\\)[$#&_](?![^&]*\\\\$)", re.sub(r" & ", " ", path.read_text())), path
        assert "<" not in path.read_text()
    for path in (tmp_path / "out" / "tables").glob("*.csv"):
        for row in csv.reader(path.read_text().splitlines()):
            assert not any(cell[:1] in "=@" for cell in row if cell), (path, row)
    for svg in (tmp_path / "out" / "figures").glob("*.svg"):
        assert "<script" not in svg.read_text()


def test_csv_text_that_a_spreadsheet_would_run_is_defused_and_numbers_are_not() -> None:
    table = Table("t", ("a", "=b"), (("=1+1", -1.5), ("@x", 2), ("+x", None), ("-x", True), ("\tx", float("nan"))))
    rows = list(csv.reader(csv_bytes(table).decode().splitlines()))
    assert rows[0] == ["a", "'=b"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "'@x", "'+x", "'-x", "'\tx"]
    assert [row[1] for row in rows[1:]] == ["-1.5", "2", "", "true", ""]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no W&B logs"),
        (lambda folder: write_log(folder, spec(1000, 0), [], None), "none of the 1 runs is complete"),
        (
            lambda folder: write_log(
                folder,
                spec(1000, 0),
                [eval_row(1000, {"docs": 4.0, "code": 3.0})],
                {**summary_of(spec(1000, 0)), "flops": None},
            ),
            "lacks 'flops'",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, make: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture
) -> None:
    make(tmp_path / "runs")
    assert main(["report", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs" / "report").exists()


def test_a_report_that_cannot_be_written_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert main(["report", str(folder), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, analysis.__main__, analysis.report\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'wandb', 'deepspeed', 'transformers', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_a_study_too_small_for_anything_still_gets_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(SIZES[0], 0)])
    assert main(["report", str(tmp_path)]) == 0
    assert "Cannot tell" in (tmp_path / "report" / "report.md").read_text()


def test_long_names_and_close_sizes_leave_room_and_warn_of_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    long = [{"kind": "a_filter_with_quite_a_long_name_" + x, "min_words": 5} for x in "abc"] + [{"kind": "濾"}]
    sizes = tuple(round(250_000 * 2 ** (i / 2)) for i in range(7))
    trees = [spec(D, s, recipe__filters=f) for f in ([], long) for s in range(2) for D in sizes]
    write_study(tmp_path, trees)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["report", str(tmp_path)]) == 0
    assert "Warning" not in capfd.readouterr().err
    study = build_study(read_runs([str(tmp_path)]))
    figure = headline_figure(study, answer(study).fits, None)
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().width > 0.6
    residuals = residual_figure(study, answer(study).fits)
    assert residuals is not None
    residuals.canvas.draw()
    boxes = [tick.get_window_extent() for tick in residuals.axes[0].get_xticklabels()]
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_figure_claims_no_more_than_the_answer(tmp_path: Path) -> None:
    write_study(tmp_path, demo_trees(), law=lambda tree, domain: PowerLaw(1.5, 60.0, 0.25))
    study = build_study(read_runs([str(tmp_path)]))
    found = answer(study)
    assert found.main is not None
    assert found.main.multiplier is not None
    sure = replace(found.main, multiplier=replace(found.main.multiplier, value=1.3), decision=Decision.A_BETTER)
    for contrast, shown in ((sure, True), (replace(sure, decision=Decision.CANNOT_TELL), False)):
        texts = [text.get_text() for text in headline_figure(study, found.fits, contrast).axes[0].texts]
        assert any("fewer tokens" in text for text in texts) is shown
        assert any("dashed" in text for text in texts)
    bare = [replace(fit, law=None) for fit in found.fits]
    texts = [text.get_text() for text in headline_figure(study, bare, None).axes[0].texts]
    assert not any("band" in text or "dashed" in text for text in texts)


def test_markdown_keeps_its_blanks_and_caveats_are_grouped(tmp_path: Path) -> None:
    mixtures = [{"docs": w, "code": 1 - w} for w in (0.9, 0.7, 0.5, 0.3, 0.1)]
    write_study(tmp_path, [spec(D, s, weights) for weights in mixtures for s in range(2) for D in SIZES[:4]])
    assert main(["report", str(tmp_path)]) == 0
    assert re.search(r"numpy [\d.]+, scipy [\d.]+, numba", (tmp_path / "report" / "report.md").read_text())
    caveats = json.loads((tmp_path / "report" / "summary.json").read_text())["caveats"]
    assert any(caveat.startswith("On 10 of 10 curves") for caveat in caveats)
    assert max(map(len, caveats)) < 330


def test_several_folders_need_a_place_for_their_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.startswith("error: --out DIR is needed")
