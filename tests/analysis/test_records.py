"""From logs to runs: restarts, killed runs, links, missing facts, a server."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from planted import (
    SIZES,
    config_of,
    eval_row,
    fingerprint,
    log_bytes,
    log_records,
    spec,
    summary_of,
    write_log,
    write_study,
)

from analysis.__main__ import main
from analysis.page.answer import answer
from analysis.runs.logs import AnalysisError
from analysis.runs.points import build_study
from analysis.runs.records import read_runs
from analysis.runs.wandb_file import HEADER

LOSSES = {"docs": 4.0, "code": 3.0}


def complete(folder: Path, tree: dict[str, Any], **changes: Any) -> Path:
    tokens = tree["budget"]["num_tokens"]
    facts = {**summary_of(tree), **changes}
    facts = {key: value for key, value in facts.items() if value is not ...}
    return write_log(folder, tree, [eval_row(tokens, LOSSES)], facts)


def test_the_loss_is_recomputed_from_the_exact_sums(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    row = eval_row(1000, {"docs": 4.00049, "code": 3.0})
    assert row["eval/docs/loss"] == 4.0
    write_log(tmp_path, tree, [row], summary_of(tree))
    (run,) = read_runs([str(tmp_path)]).runs
    assert run.points[0].domains["docs"].loss == pytest.approx(4.00049, rel=1e-12)
    assert run.points[0].domains["docs"].bpb == pytest.approx(4.00049 / 3 / 0.6931471805599453, rel=1e-12)


def test_D_U_and_weights_come_from_the_ledger(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    facts = summary_of(tree) | {"ledger/tokens": 960, "ledger/docs/realised_weight": 0.79}
    write_log(tmp_path, tree, [eval_row(960, LOSSES)], facts)
    (run,) = read_runs([str(tmp_path)]).runs
    assert run.ledger is not None
    assert run.ledger.tokens == 960
    assert run.ledger.domains["docs"].realised_weight == 0.79
    assert run.ledger.domains["docs"].dropped == {"duplicate": 12}


def test_a_killed_run_is_interrupted(tmp_path: Path) -> None:
    write_log(tmp_path, spec(1000, 0), [eval_row(500, LOSSES, at_decay_end=False)], None)
    (run,) = read_runs([str(tmp_path)]).runs
    assert run.state == "interrupted"
    assert run.ledger is None
    assert len(run.points) == 1


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    write_log(tmp_path, spec(1000, 0), [], {"state": "failed", "error": "disk full"})
    (run,) = read_runs([str(tmp_path)]).runs
    assert (run.state, run.error) == ("failed", "disk full")


def test_restarts_are_one_run_and_the_later_point_wins(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    first = [eval_row(300, {"docs": 6.0, "code": 6.0}, False), eval_row(600, {"docs": 9.0, "code": 9.0}, False)]
    again = [eval_row(600, {"docs": 5.0, "code": 5.0}, False), eval_row(1000, LOSSES)]
    write_log(tmp_path, tree, again, summary_of(tree), start_seconds=200)
    write_log(tmp_path, tree, first, None, start_seconds=100)
    (run,) = read_runs([str(tmp_path)]).runs
    assert run.state == "complete"
    assert [(p.tokens, round(p.domains["docs"].loss, 9)) for p in run.points] == [(300, 6.0), (600, 5.0), (1000, 4.0)]


def test_a_restart_that_was_killed_leaves_the_run_interrupted(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    write_log(tmp_path, tree, [], {"state": "failed", "error": "x"}, start_seconds=100)
    write_log(tmp_path, tree, [], None, start_seconds=200)
    assert [run.state for run in read_runs([str(tmp_path)]).runs] == ["interrupted"]


def test_a_linked_run_is_found_and_none_is_read_twice(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    complete(here, spec(1000, 0))
    complete(there, spec(2000, 0))
    (there / "latest").symlink_to(next(there.iterdir()))
    (here / "reused").symlink_to(there, target_is_directory=True)
    (there / "loop").symlink_to(tmp_path, target_is_directory=True)
    runs = read_runs([str(here)]).runs
    assert sorted(run.ledger.tokens for run in runs if run.ledger) == [1000, 2000]
    assert len(read_runs([str(here), str(there)]).runs) == 2


@pytest.mark.parametrize(
    "key", ["ledger/tokens", "ledger/docs/weight", "ledger/code/epochs", "seconds", "flops", "trunk/start_tokens"]
)
def test_a_complete_run_without_a_fact_is_an_error_that_names_run_and_key(tmp_path: Path, key: str) -> None:
    tree = spec(1000, 0)
    complete(tmp_path, tree, **{key: ...})
    with pytest.raises(AnalysisError, match=f"run-{fingerprint(tree)[:8]}.*{key}"):
        read_runs([str(tmp_path)])


def test_a_point_without_its_sums_is_an_error(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    row = eval_row(1000, LOSSES)
    del row["eval/docs/num_tokens"]
    write_log(tmp_path, tree, [row], summary_of(tree))
    with pytest.raises(AnalysisError, match="eval/docs/num_tokens"):
        read_runs([str(tmp_path)])


def test_a_diverged_run_with_a_broken_point_is_kept_without_it(tmp_path: Path) -> None:
    broken = eval_row(800, {"docs": float("nan"), "code": 3.0}) | {"eval/docs/sum_nats": None}
    write_log(tmp_path, spec(1000, 0), [eval_row(500, LOSSES), broken], {"state": "diverged", "error": "NaN"})
    (run,) = read_runs([str(tmp_path)]).runs
    assert run.state == "diverged"
    assert [point.tokens for point in run.points] == [500]


def test_a_spec_without_its_parts_is_an_error(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    del tree["seeds"]
    write_log(tmp_path, tree, [eval_row(1000, LOSSES)], summary_of(tree))
    with pytest.raises(AnalysisError, match=r"spec\.seeds"):
        read_runs([str(tmp_path)])


def test_a_log_of_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planted.config_of", lambda tree: config_of(tree) | {"schema": 2})
    complete(tmp_path, spec(1000, 0))
    with pytest.raises(AnalysisError, match=r"config\.schema must be 1, got 2"):
        read_runs([str(tmp_path)])


def of_version(version: int | None, folder: Path, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Log a complete run of a version of the results; None: as logs were before they told it."""
    config = {key: value for key, value in config_of(tree).items() if key != "results_version"}
    told = {} if version is None else {"results_version": version}
    with monkeypatch.context() as patch:
        patch.setattr("planted.config_of", lambda tree: config | told)
        complete(folder, tree)


def test_numbers_of_two_versions_of_the_code_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size, version in ((1000, 3), (2000, 4), (4000, 4), (8000, None)):
        of_version(version, tmp_path, spec(size, 0), monkeypatch)
    logs = read_runs([str(tmp_path)])
    assert sorted(run.ledger.tokens for run in logs.runs if run.ledger) == [2000, 4000]
    (warning,) = logs.warnings
    assert warning.startswith("2 of 4 runs are left out: an older version of the code")
    assert warning in build_study(logs).warnings


def test_a_log_from_before_versions_were_told_is_used_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size, version in ((1000, None), (2000, 3)):
        of_version(version, tmp_path, spec(size, 0), monkeypatch)
    logs = read_runs([str(tmp_path)])
    assert sorted(run.ledger.tokens for run in logs.runs if run.ledger) == [1000, 2000]
    assert logs.warnings[0].startswith("1 of 2 runs do not tell which version of the code")


def test_one_version_or_none_told_needs_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, version in (("told", 3), ("silent", None)):
        for size in (1000, 2000):
            of_version(version, tmp_path / folder, spec(size, 0), monkeypatch)
        assert not read_runs([str(tmp_path / folder)]).warnings


def test_a_published_report_in_the_folder_is_no_run(tmp_path: Path) -> None:
    complete(tmp_path, spec(1000, 0))
    records = log_records("report", {"schema": 1, "study": {"name": "demo"}}, [], {"headline": "x"})
    records[0].run.job_type = "analysis"
    path = tmp_path / "page" / "wandb" / "offline-run-x" / "run-analysis-0.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(log_bytes([record.SerializeToString() for record in records]))
    logs = read_runs([str(tmp_path)])
    assert (len(logs.runs), logs.lost) == (1, ())


def test_a_record_that_is_no_record_stops_the_reading_there(tmp_path: Path) -> None:
    """Its checksum is right, so it was written like this: by a newer version, or by hand."""
    tree = spec(1000, 0)
    good = [record.SerializeToString() for record in log_records("run", config_of(tree), [], None)]
    for bad in (b"\xff\xff\xff", _history('{"open"'), _history("1, 2"), _history("[" * 100_000)):
        path = tmp_path / "run" / "wandb" / "offline-run-x" / "run-x.wandb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log_bytes([*good, bad]))
        logs = read_runs([str(tmp_path)])
        assert [run.state for run in logs.runs] == ["interrupted"]
        assert logs.warnings == ("run-x.wandb holds a record that cannot be read (number 2 of 2); read up to there",)


def _history(value: str) -> bytes:
    (_, record) = log_records("run", {}, [{"eval/docs/sum_nats": 1}], None)
    record.history.item[0].value_json = value
    return record.SerializeToString()


def test_a_place_without_logs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no W&B logs"):
        read_runs([str(tmp_path)])
    with pytest.raises(AnalysisError, match="no such folder"):
        read_runs([str(tmp_path / "absent")])


# ---- a server ------------------------------------------------------------------------------------


class FakeApi:
    """What `wandb.Api` answers, from the logs of a folder."""

    def __init__(self, trees: list[dict[str, Any]]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.trees = trees

    def runs(self, path: str, filters: dict[str, Any]) -> list[SimpleNamespace]:
        self.asked.append((path, filters))
        return [
            SimpleNamespace(
                id=f"id{i}",
                name=f"run-{fingerprint(tree)[:8]}",
                config=config_of(tree),
                scan_history=lambda tree=tree: iter(
                    [{"tokens": 1, "train/loss": 2.0}, eval_row(tree["budget"]["num_tokens"], LOSSES)]
                ),
                summary=summary_of(tree),
                state="finished",
                job_type="pretrain",
            )
            for i, tree in enumerate(self.trees)
        ] + [SimpleNamespace(job_type="analysis")]


def test_a_server_gives_the_same_runs_as_the_folder(tmp_path: Path) -> None:
    trees = [spec(size, 0) for size in SIZES[:3]]
    for tree in trees:
        complete(tmp_path, tree)
    api = FakeApi(trees)
    online = read_runs(["wandb:team/scaling?group=demo"], api).runs
    offline = read_runs([str(tmp_path)]).runs
    assert api.asked == [("team/scaling", {"group": "demo"})]
    assert [(r.name, r.fingerprint, r.state, r.points, r.ledger) for r in online] == [
        (r.name, r.fingerprint, r.state, r.points, r.ledger) for r in offline
    ]


@pytest.mark.parametrize("place", ["wandb:scaling", "wandb:a/b/c", "wandb:a/b?study=x"])
def test_a_server_is_named_in_one_way(place: str) -> None:
    with pytest.raises(AnalysisError, match="wandb:entity/project"):
        read_runs([place], FakeApi([]))


def test_one_training_logged_under_two_studies_counts_once(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    write_log(tmp_path / "a", tree, [eval_row(1000, LOSSES)], summary_of(tree), name="one")
    write_log(tmp_path / "b", tree, [eval_row(1000, LOSSES)], summary_of(tree), name="two")
    logs = read_runs([str(tmp_path)])
    assert len(logs.runs) == 1
    assert any("counted once" in warning for warning in logs.warnings)


def test_planted_studies_are_read_whole(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(size, 0) for size in SIZES])
    assert len(read_runs([str(tmp_path)]).runs) == len(SIZES)


# ---- runs that were killed at their start, and what the folder declares ----------------------------


@pytest.mark.parametrize("content", [b"", HEADER, HEADER + b"\0" * 5])
def test_a_run_killed_before_it_logged_anything_is_listed_as_interrupted(tmp_path: Path, content: bytes) -> None:
    write_study(tmp_path, [spec(size, 0) for size in SIZES])
    path = tmp_path / "docs80-1M-s0" / "wandb" / "offline-run-20261122_170917-abc" / "run-abc.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (lost,) = read_runs([str(tmp_path)]).lost
    assert (lost.name, lost.run_id) == ("docs80-1M-s0", "abc")
    assert main(["report", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert [(r["name"], r["run_id"]) for r in summary["runs"] if r["state"] == "interrupted"] == [
        ("docs80-1M-s0", "abc")
    ]
    assert any("1 run was interrupted and left out" in caveat for caveat in summary["caveats"])
    assert "docs80-1M-s0" in (tmp_path / "report" / "tables" / "runs.csv").read_text()


def test_a_restart_that_logged_nothing_does_not_hide_what_was_logged_before(tmp_path: Path) -> None:
    tree = spec(1000, 0)
    first = complete(tmp_path, tree)
    again = first.parent.parent / "offline-run-2-x" / first.name
    again.parent.mkdir()
    again.write_bytes(HEADER)
    logs = read_runs([str(tmp_path)])
    assert ([run.state for run in logs.runs], logs.lost) == (["complete"], ())


def declare(folder: Path, **study: Any) -> None:
    about = spec(1000, 0)["study"] | study
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"schema": 1, "study": about}))


def test_what_the_folder_declares_wins_over_what_the_runs_were_made_for(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "a", [spec(size, 0) for size in SIZES])
    declare(folder, name="new", question="Why?", target="code", match="weights", hold_out=2)
    found = build_study(read_runs([str(folder)]))
    assert (found.name, found.question, found.target, found.match) == ("new", "Why?", "code", "weights")
    assert {p.tokens for p in found.points if p.is_held_out} == set(SIZES[-2:])
    other = write_study(tmp_path / "b", [spec(size, 1) for size in SIZES])
    declare(other, name="other")
    both = build_study(read_runs([str(folder), str(other)]))
    assert both.name == "new"
    assert any("declare different studies" in warning for warning in both.warnings)


@pytest.mark.parametrize("text", ["{", '{"schema": 2}', '{"schema": 1, "study": {"name": "x"}}'])
def test_a_broken_declaration_is_an_error(tmp_path: Path, text: str) -> None:
    complete(tmp_path, spec(1000, 0))
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(AnalysisError, match=r"study\.json"):
        read_runs([str(tmp_path)])


def test_a_run_that_went_on_under_another_placement_is_a_caveat(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(size, 0) for size in SIZES])
    complete(tmp_path, spec(3_000_000, 0), elastic=True)
    found = answer(build_study(read_runs([str(tmp_path)])))
    assert any("1 of 7 runs were interrupted and went on under another placement" in c for c in found.caveats)


def test_steps_left_out_and_a_decay_that_is_too_short_are_caveats(tmp_path: Path) -> None:
    write_study(tmp_path, [spec(size, 0) for size in SIZES])
    assert not [c for c in answer(build_study(read_runs([str(tmp_path)]))).caveats if "left out" in c or "short" in c]
    complete(tmp_path, spec(3_000_000, 0), **{"steps_left_out": 3, "schedule/final_lr_frac": 0.5})
    said = " ".join(answer(build_study(read_runs([str(tmp_path)]))).caveats)
    assert "3 steps of 1 runs were left out" in said
    assert "1 of 7 runs end above 10 % of their peak learning rate" in said


def test_runs_on_data_that_changed_are_labelled_and_said(tmp_path: Path) -> None:
    usual = spec(1000, 0)["content"]
    trees = [spec(size, 0) for size in SIZES]
    trees += [spec(size, 1, content=usual | {"docs": "ae434f93" + "0" * 56}) for size in SIZES[:3]]
    write_study(tmp_path, trees)
    study = build_study(read_runs([str(tmp_path)]))
    assert sorted(recipe.label for recipe in study.recipes) == [
        "80 % docs / 20 % code",
        "80 % docs / 20 % code, other data (content ae434f93)",
    ]
    assert any("The data of docs changed between runs" in caveat for caveat in answer(study).caveats)
