"""The page of a report: its sections in their order, its files under names that are theirs alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure
from planted import SIZES, demo_trees, spec, write_study

from analysis.__main__ import main
from analysis.page import fonts, page, part, processes
from analysis.page.language import say, speaking
from analysis.page.latex import EVERYWHERE, latex_bytes, latex_text
from analysis.page.table import Table, csv_bytes
from analysis.report import Report, report
from analysis.sections.section import Drawing, Section

EVERY = demo_trees(num_seeds=2, sizes=SIZES[:5])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), EVERY)


@pytest.fixture(scope="module")
def english(study: Path) -> Report:
    return report([str(study)], study / "en")


@pytest.fixture(scope="module")
def chinese(study: Path) -> Report:
    return report([str(study)], study / "zh", language="zh")


def test_the_page_is_in_the_order_that_a_reader_needs(english: Report) -> None:
    html = english.path.read_text()
    places = [html.index(english.study.question), html.index('class="answer"'), html.index("<figure")]
    places.append(html.index('id="caveats"'))
    keys = [part.section.key for part in english.page.parts]
    places += [html.index(f'id="{key}"') for key in keys]
    assert places == sorted(places)
    wanted = ["curves", "residuals", "contrasts", "noise", "fits", "exposure", "runs", "cost", "provenance"]
    assert [key for key in keys if key in wanted] == wanted
    lines = english.path.with_suffix(".md").read_text().splitlines()
    titles = ["Caveats", *(part.section.title for part in english.page.parts)]
    assert [line[3:] for line in lines if line[:3] == "## "] == titles


def test_who_leaves_the_question_gets_one_that_fits(english: Report) -> None:
    settings = yaml.safe_load((Path(__file__).parents[2] / "conf" / "run.yaml").read_text(encoding="utf-8"))
    assert settings["study"]["question"] == page.NO_QUESTION
    left = replace(english.page, study=replace(english.study, question=page.NO_QUESTION))
    assert left.question == "What loss do these runs reach?"
    assert english.page.question == english.study.question


def test_figures_are_the_same_however_many_processes_draw(english: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2):
        monkeypatch.setattr(processes, "_processors", lambda count=count: count)
        assert page.page(english.study, english.results).figures == english.page.figures


def test_every_section_has_a_place() -> None:
    assert set(page.section_names()) <= set(page.ORDER)


def test_names_that_become_one_file_name_get_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path, [spec(SIZES[0], 0)])
    names = ("../a b", "../a/b", "a.b")
    made = Section(
        "odd",
        "Odd",
        drawings=tuple(Drawing(name, "A figure.", Figure(figsize=(1, 1))) for name in names),
        tables=tuple(Table(name, ("x",), ((1,),)) for name in names),
        facts={"value": float("nan"), "of": (1, 2)},
    )
    monkeypatch.setattr(page, "_section_of", lambda name: lambda study, results: made if name == "curves" else None)
    report([str(tmp_path)], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "tables").iterdir()} == {
        f"{name}.{suffix}" for name in ("_a_b", "_a_b-2", "a_b") for suffix in ("csv", "tex")
    }
    assert len(list((tmp_path / "out" / "figures").glob("*a_b*.svg"))) == 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["odd"] == {"value": None, "of": [1, 2]}


def test_latex_acts_on_nothing_that_a_log_holds() -> None:
    hostile = "\\input{/etc/passwd} $x^2$ 50 % & #1 _a ~ <b> | `q` [x]* \u2028\n\\\\"
    text = latex_text(hostile)
    bare = re.sub(r"\\(textbackslash|text\w+)\{\}|\\[{}$&#_%]|\{[\[\]*]\}", "", text)
    assert not set(bare) & set("\\{}$&#^_~%<>|[]*`\n\u2028")
    assert text.count(r"\textbackslash{}") == 3
    lines = latex_bytes(Table("t", ("a_b", "n"), ((hostile, 1.5), ("[x]", 2.0)))).decode().splitlines()
    assert lines[:2] == ["% Needs the package booktabs.", r"\begin{tabular}{lr}"]
    assert sum(line.count(" & ") for line in lines) == 3
    assert lines[6] == r"{[}x{]} & 2.000 \\"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_a_table_compiles_whatever_its_cells_hold(tmp_path: Path) -> None:
    every = "".join(map(chr, range(128))) + EVERYWHERE + "\ud800\u200b\u202e"
    rows = ((every, 1.5), ("\\input{/etc/passwd}^^5c\n\n\\end{tabular}", 2), ("[3ex]", None), ("*", float("nan")))
    (tmp_path / "table.tex").write_bytes(latex_bytes(Table("t", ("[a]", "% b & c"), rows)))
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_a_table_names_the_characters_that_pdflatex_may_lack() -> None:
    first = latex_bytes(Table("t", ("配比",), (("a → b ± 1",),))).decode().splitlines()[0]
    assert first.startswith("% Needs")
    assert first.endswith("ctex): → 比 配")


# ---- Chinese ---------------------------------------------------------------------------------------


def test_a_report_in_chinese_speaks_to_people_and_not_to_programs(english: Report, chinese: Report) -> None:
    html = chinese.path.read_text()
    assert '<html lang="zh">' in html
    assert "注意事项" in html
    assert "Caveats" not in html
    assert "注意事项" in chinese.path.with_suffix(".md").read_text()
    for path in (*(english.path.parent / "tables").iterdir(), english.path.with_name("summary.json")):
        same = chinese.path.parent / path.relative_to(english.path.parent)
        assert path.read_bytes() == same.read_bytes(), path.name


def test_the_language_is_a_setting_or_an_option(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(SIZES[0], 0)])
    for arguments in (["--language", "zh"], ["report.language=zh"]):
        assert main(["report", str(tmp_path), *arguments]) == 0
        assert "注意事项" in (tmp_path / "report" / "report.md").read_text()


def test_the_language_as_a_setting_may_stand_anywhere(tmp_path: Path) -> None:
    runs, out = str(write_study(tmp_path / "runs", [spec(SIZES[0], 0)])), tmp_path / "out"
    for i, words in enumerate(
        ([runs, "--out", "{out}", "report.language=zh"], ["report.language=zh", "--out", "{out}", runs])
    ):
        place = out / str(i)
        assert main(["report", *(word.format(out=place) for word in words)]) == 0
        assert "注意事项" in (place / "report.md").read_text()


def test_without_a_chinese_font_figures_are_in_english_and_the_page_says_so(
    study: Path, english: Report, chinese: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "chinese_font", lambda: None)
    written = report([str(study)], study / "no_font", language="zh")
    assert "fonts-noto-cjk" in written.path.read_text()
    assert [figure.svg for figure in written.page.figures] == [figure.svg for figure in english.page.figures]
    assert [figure.caption for figure in written.page.figures] == [figure.caption for figure in chinese.page.figures]


def test_a_font_installed_after_matplotlib_made_its_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = fonts.font_manager.fontManager
    latin = next(font for font in manager.ttflist if font.name == fonts.LATIN)
    monkeypatch.setattr(manager, "ttflist", [])
    monkeypatch.setattr(fonts, "CHINESE", (fonts.LATIN,))
    monkeypatch.setattr(fonts.font_manager, "findSystemFonts", lambda: [latin.fname, "/nowhere.ttf"])
    fonts.chinese_font.cache_clear()
    try:
        assert fonts.chinese_font() == fonts.LATIN
    finally:
        fonts.chinese_font.cache_clear()


def test_a_language_that_is_not_spoken_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "report.language=fr"]) == 2
    assert capsys.readouterr().err == "error: report.language must be one of en, zh, got 'fr'\n"


def test_csv_is_english_in_every_language() -> None:
    with speaking("zh"):
        table = Table("t", (say("recipe"), say("loss on {domain}", domain="docs")), ((say("cannot tell"), 1.0),))
        assert table.columns == ("配方", "docs 上的损失")
        assert csv_bytes(table) == b"recipe,loss on docs\r\ncannot tell,1.0\r\n"
