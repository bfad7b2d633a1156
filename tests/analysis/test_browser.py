"""A report as a browser shows it: nothing runs, nothing is loaded, nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, Tab, browser
from planted import SIZES, demo_trees, spec, write_log, write_study

from analysis.report import report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

OWNED = "document.title='owned'"
HOSTILE = (
    f"<script>{OWNED}</script>",
    f'"><img src=http://127.0.0.1:9/x onerror="{OWNED}">',
    f"</style><svg onload={OWNED}>",
    "../../=HYPERLINK(1)",
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose question, domains, run names and errors would act if they could."""
    folder = tmp_path_factory.mktemp("hostile")
    trees = []
    for seed in range(2):
        for D in SIZES[:5]:
            for share in (0.3, 0.7):
                rest = (1 - share) / (len(HOSTILE) - 1)
                weights = {"docs": 0.0, HOSTILE[0]: share} | dict.fromkeys(HOSTILE[1:], rest)
                tree = spec(D, seed, weights)
                tree["recipe"]["corpus"]["domains"] = {domain: {"kind": HOSTILE[2]} for domain in weights}
                tree["study"] = {**tree["study"], "question": " ".join(HOSTILE), "name": HOSTILE[1]}
                trees.append(tree)
    write_study(folder, trees)
    failed = {"state": "failed", "error": HOSTILE[0]}
    write_log(folder, spec(1_000_000, 9), [], failed, name=HOSTILE[1])
    return report([str(folder)], folder / "out").path


@pytest.fixture(scope="module", params=["en", "zh"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("demo"), demo_trees(num_seeds=2, sizes=SIZES[:5]))
    return report([str(folder)], folder / "out", language=request.param).path


@pytest.mark.parametrize("width", [1400, 390])
def test_hostile_names_are_shown_and_do_nothing(tab: Tab, hostile: Path, width: int) -> None:
    tab.open(hostile, width)
    assert tab.value("document.title") != "owned"
    assert tab.value("document.querySelectorAll('script, iframe, object, embed, link, form, base').length") == 0
    assert tab.value(
        "[...document.querySelectorAll('*')].some(e => [...e.attributes].some(a => /^on/.test(a.name)))"
    ) is (False)
    text = tab.value("document.querySelector('h1').innerText")
    assert all(name in text for name in HOSTILE)
    assert [address for address in tab.requests() if not address.startswith("data:")] == [hostile.resolve().as_uri()]
    assert not [event for event in tab.events if event.get("method") == "Page.javascriptDialogOpening"]


def test_the_policy_stops_what_the_escaping_would_miss(tab: Tab, hostile: Path, tmp_path: Path) -> None:
    """A script and an image are written into the page itself: the browser refuses both."""
    broken = tmp_path / "broken.html"
    planted = f"<script>{OWNED}</script><img src='http://127.0.0.1:9/x' onerror=\"{OWNED}\">"
    broken.write_text(hostile.read_text().replace("<h1>", f"{planted}<h1>"))
    tab.open(broken, 1400)
    assert tab.value("document.querySelectorAll('script').length") == 1
    assert tab.value("document.title") != "owned"
    assert not [
        event for event in tab.events
        if event.get("method") == "Network.responseReceived" and "127.0.0.1" in event["params"]["response"]["url"]
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1400, 390])
def test_a_report_fits_its_window_and_every_figure_is_drawn(tab: Tab, page: Path, width: int) -> None:
    tab.open(page, width)
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("document.images.length") >= 5
    assert tab.value("[...document.images].every(image => image.complete && image.naturalWidth > 200)")
    # what is wider than the window scrolls within itself, and text is never smaller than a reader can read
    assert tab.value("[...document.querySelectorAll('p, li, h1, h2')].every(e => e.scrollWidth <= e.clientWidth + 1)")
    assert tab.value("[...document.images].every(image => image.clientWidth >= 330)")


def test_the_tables_that_decide_need_no_scrolling(tab: Tab, page: Path) -> None:
    tab.open(page, 1400)
    tables = ", ".join(f"#{key} .wide" for key in ("contrasts", "fits", "decision", "mixture", "next_runs"))
    assert tab.value(f"[...document.querySelectorAll('{tables}')].every(e => e.scrollWidth <= e.clientWidth + 1)")
    assert tab.value("document.querySelector('.lead img').clientWidth") > 900


def test_a_report_prints(tab: Tab, page: Path) -> None:
    tab.open(page, 1400)
    assert tab.printed().startswith(b"%PDF")
