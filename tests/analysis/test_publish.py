"""A report on W&B: offline it is a genuine log; views are built up to the call of the network."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from planted import demo_trees, spec, write_study
from wandb.proto import wandb_internal_pb2 as pb

from analysis import publish as publishing
from analysis.__main__ import main
from analysis.publish import fit_summary, publish
from analysis.report import Report, report
from analysis.runs.logs import AnalysisError
from analysis.runs.records import read_runs
from analysis.runs.wandb_file import LogFile, read_frames, read_log_file

HOSTILE = "<script>alert(1)</script> \U0001f600 ../x' or Metric('State') = 'y"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of two mixtures, in a folder of their runs."""
    runs = write_study(tmp_path_factory.mktemp("runs"), demo_trees(num_seeds=2))
    return report([str(runs)], runs / "page")


def published_log(place: str) -> LogFile:
    """The log of a published report, written to its end."""
    (path,) = Path(place).glob("run-*.wandb")
    until = time.monotonic() + 30  # on a busy machine wandb's own process still writes when `finish` returns
    while not (log := read_log_file(path)).has_ended and time.monotonic() < until:
        time.sleep(0.1)
    return log


def test_a_report_is_logged_offline_with_figures_tables_and_parameters(written: Report) -> None:
    published = publish(written)
    log = published_log(published.place)
    assert (log.has_ended, log.job_type, log.run_id) == (True, "analysis", published.run_id)
    records = [pb.Record.FromString(data) for data in read_frames(log.path.read_bytes())[0]]
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.run_group, run.project, run.display_name) == ("demo", "scaling", "report-demo")
    assert log.config["study"]["question"] == written.study.question
    assert log.config["results_versions"] == [3]

    (row,) = (row for row in log.history if "report" in row)
    figures = {f"figures/{figure.name}" for figure in written.page.figures}
    tables = {f"tables/{table.name}" for part in written.page.parts for table in part.tables}
    assert {*figures, *tables} <= set(row)
    for key in (*figures, *tables, "report"):
        assert (Path(published.place) / "files" / row[key]["path"]).is_file()
    fits = json.loads((Path(published.place) / "files" / row["tables/fits"]["path"]).read_text())
    assert len(fits["data"]) == len(written.results.fits) + len(written.results.full_fits)

    fit = written.results.fits[0]
    assert fit.params
    values = [value for key, value in log.summary.items() if key.startswith("fit/") and key.endswith("/beta")]
    assert fit.params["beta"].value in values
    assert log.summary["headline"] == written.headline
    kinds = {record.request.WhichOneof("request_type") for record in records} | {
        record.WhichOneof("record_type") for record in records
    }
    assert kinds & {"artifact", "log_artifact"}


def test_the_same_results_are_the_same_run_and_leave_the_study_as_it_was(written: Report, tmp_path: Path) -> None:
    runs = written.path.parent.parent
    before = len(read_runs([str(runs)]).runs)
    first = publish(written)
    logs = read_runs([str(runs)])
    assert (len(logs.runs), logs.lost) == (before, ())
    elsewhere = shutil.copytree(written.path.parent, tmp_path / "page", ignore=shutil.ignore_patterns("wandb"))
    again = replace(written, path=elsewhere / "report.html")
    assert publish(again).run_id == first.run_id
    facts = (elsewhere / "summary.json").read_text(encoding="utf-8")
    (elsewhere / "summary.json").write_text(facts.replace("1", "2", 1), encoding="utf-8")
    assert publish(again).run_id != first.run_id


def test_publishing_leaves_the_environment_and_an_open_run_alone(
    written: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    settings = wandb.Settings(console="off", silent=True)
    with wandb.init(mode="offline", project="mine", dir=tmp_path, settings=settings) as own:
        published = publish(written)
        assert published.run_id != own.id
        own.log({"still": "open"})
    assert os.environ["WANDB_MODE"] == "disabled"
    assert "WANDB_SILENT" not in os.environ


def test_parameters_of_names_that_become_one_key_are_all_there(written: Report) -> None:
    fit = written.results.fits[0]
    changed = [SimpleNamespace(domain="a/b", recipe=recipe, status=fit.status, params=fit.params)
               for recipe in ("x=1", "x:1", "x 1")]  # fmt: skip
    found = fit_summary(SimpleNamespace(results=SimpleNamespace(fits=changed)))  # type: ignore[arg-type]
    places = {key.removesuffix("/status") for key in found if key.endswith("/status")}
    assert places == {"fit/a_b/x_1", "fit/a_b/x_1-2", "fit/a_b/x_1-3"}
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))


def test_what_wandb_refuses_is_one_line(
    written: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login`")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(AnalysisError, match=r"^cannot publish to W&B: No API key configured\.$"):
        publish(written, "online")
    runs = written.path.parent.parent
    assert main(["report", str(runs), "--out", str(written.path.parent), "--publish", "online"]) == 2
    assert capsys.readouterr().err == "error: cannot publish to W&B: No API key configured.\n"


# ---- online ----------------------------------------------------------------------------------------


class FakeRun:
    """An online run that keeps what it is given."""

    def __init__(self, **given: Any) -> None:
        self.given, self.rows, self.summary, self.artifacts = given, [], {}, []
        self.dir, self.url, self.entity, self.project = "x/files", "https://w/r", "team", given["project"]

    def __enter__(self) -> FakeRun:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)


def test_online_the_views_are_saved_too(written: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[FakeRun] = []
    monkeypatch.setattr(wandb, "init", lambda **given: runs.append(FakeRun(**given)) or runs[-1])
    monkeypatch.setattr(publishing, "_save_views", lambda _, *place: tuple(place))
    published = publish(written, "online", entity="team")
    assert (published.place, published.views) == ("https://w/r", ("team", "scaling", published.run_id))
    assert runs[0].given["job_type"] == "analysis"
    assert runs[0].given["resume"] == "allow"
    assert {entry for artifact in runs[0].artifacts for entry in artifact.manifest.entries} >= {
        "report.html", "report.md", "summary.json", "tables/fits.csv", "figures/headline.svg",
    }  # fmt: skip


def test_without_the_extra_no_view_is_saved(written: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "analysis.publish_views", None)
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "analysis.publish_views")
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert publishing._save_views(written, "team", "scaling", "id") == ()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `wandb-workspaces` would send: the variables of each call of the network."""
    pytest.importorskip("wandb_workspaces")
    import wandb_workspaces.reports.v2.interface as reports
    import wandb_workspaces.workspaces.interface as workspaces
    import wandb_workspaces.workspaces.internal as views

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(wandb, "Api", lambda *_, **__: pytest.fail("the network was called"))
    api = SimpleNamespace(projects=lambda entity: [SimpleNamespace(name="scaling")])
    monkeypatch.setattr(reports, "_get_api", lambda: api)

    def answer(_: Any, query: Any, variables: dict[str, Any]) -> dict[str, Any]:
        calls.append(variables)
        if "spec" not in variables:
            return {"view": {"id": "1", "project": {"id": "1", "internalId": "1"}}, "project": {"internalId": "1"}}
        project = {"name": "scaling", "entityName": "team"}
        view = {"id": "1", "name": "v", "displayName": variables["displayName"], "description": "",
                "project": project, "spec": variables["spec"], "type": "runs",
                "createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00"}  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}

    def upsert(view: Any) -> dict[str, Any]:
        calls.append({"displayName": view.display_name, "spec": view.spec.model_dump_json(by_alias=True)})
        return {"upsertView": {"view": {"name": "v", "id": "1"}}}

    monkeypatch.setattr(reports, "execute_graphql", answer)
    monkeypatch.setattr(views, "upsert_view2", upsert)
    for module, name in ((reports, "Report"), (workspaces, "Workspace")):
        monkeypatch.setattr(getattr(module, name), "url", property(lambda self: "https://w/view"))
    return calls


def test_the_views_show_the_study_its_figures_and_its_tables(written: Report, sent: list[dict[str, Any]]) -> None:
    from analysis.publish_views import save_views

    assert save_views(written.page, "team", "scaling", "analysis-0") == ("https://w/view", "https://w/view")
    workspace, view = (call for call in sent if "spec" in call)
    lines = json.loads(workspace["spec"])["section"]["panelBankConfig"]["sections"][0]["panels"]
    assert [panel["config"]["metrics"] for panel in lines] == [[f"eval/{d}/loss"] for d in written.study.domains]
    assert '"value":"demo"' in workspace["spec"].replace(" ", "")
    assert (workspace["displayName"], view["displayName"]) == ("demo", "demo")
    text = view["spec"]
    assert written.headline in text.encode().decode("unicode_escape") or written.headline in text
    assert all(f"figures/{figure.name}" in text for figure in written.page.figures)
    assert all(f"tables/{table.name}" in text for part in written.page.parts for table in part.tables)
    assert '"value":"analysis-0"' in text.replace(" ", "")


def test_hostile_names_are_values_in_the_views(tmp_path: Path, sent: list[dict[str, Any]]) -> None:
    from analysis.publish_views import save_views

    study = spec(1000, 0)["study"] | {"name": HOSTILE, "question": HOSTILE}
    trees = [spec(1000 * 2**i, 0, study=study) for i in range(5)]
    made = report([str(write_study(tmp_path / "runs", trees))], tmp_path / "page")
    save_views(made.page, "team", "scaling", "analysis-0")
    workspace, view = (call for call in sent if "spec" in call)
    (chosen,) = json.loads(workspace["spec"])["section"]["runSets"][0]["filters"]["filters"]
    assert (chosen["key"]["name"], chosen["op"], chosen["value"]) == ("group", "=", HOSTILE)
    assert "\U0001f600" not in workspace["displayName"]
    assert json.dumps({"text": HOSTILE}) in json.dumps(json.loads(view["spec"])["blocks"])
