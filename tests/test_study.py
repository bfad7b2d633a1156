"""A sweep as a whole: what is done is skipped, what failed is retried, and nothing outlives it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Saboteur, SpecMaker, points, wait_for, wandb_files

from scaling import study
from scaling.identity import directory_name
from scaling.launch import launch
from scaling.spec import RunSpec, read_spec, write_spec
from scaling.status import count_to_come, read_status, write_status
from scaling.study import plan_runs, run_study
from scaling.train.preemption import PreemptedError, Stop

SHORT = {"budget.num_tokens": 24 * 128, "evaluation.every_tokens": None}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny"


@pytest.fixture(autouse=True)
def _one_server(monkeypatch: pytest.MonkeyPatch, server: ForkServerContext) -> None:
    monkeypatch.setattr(study, "start_server", lambda modules: server)


def seeds(spec: SpecMaker, num: int, **changes: object) -> list[RunSpec]:
    return [spec({**SHORT, **changes, "name": f"run{seed}", "seeds.order": seed}) for seed in range(num)]


def states(runs: Path) -> dict[str, str]:
    return {path.name.split("-")[0]: read_status(path).state for path in sorted(runs.glob("run*"))}


def times(folder: Path) -> Mapping[Path, int]:
    """When each file was written; the W&B service may still be writing its own log when a run has ended."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".lock", ".log")]
    return {path: path.stat().st_mtime_ns for path in files}


def test_runs_that_fail_leave_the_others_running_and_only_they_are_retried(
    lab: Lab,
    spec: SpecMaker,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    specs = seeds(spec, 6, **{"placement.runs_per_device": 2})
    bad = {0: "exception", 1: "exit", 3: "kill", 4: "exit without error"}
    monkeypatch.setattr(study, "start_server", lambda modules: Saboteur(lab.context, bad))
    assert run_study(specs, "run", runs, lab.cache) == 1
    assert states(runs) == {
        "run0": "failed",
        "run1": "failed",
        "run2": "complete",
        "run3": "interrupted",
        "run4": "failed",
        "run5": "complete",
    }
    output = capsys.readouterr().out
    for text in ("2 complete", "3 failed", "1 interrupted", "the cat ate it", "killed by signal 9"):
        assert text in output
    assert "and more" not in output

    done = {path: times(path) for path in runs.glob("run[25]*")}
    monkeypatch.setattr(study, "start_server", lambda modules: lab.context)
    assert run_study(specs, "run", runs, lab.cache) == 0
    assert set(states(runs).values()) == {"complete"}
    assert {path: times(path) for path in done} == done

    def never(modules: list[str]) -> ForkServerContext:
        raise AssertionError("nothing is left to run")

    monkeypatch.setattr(study, "start_server", never)
    assert run_study(specs, "run", runs, lab.cache) == 0


def test_a_run_with_an_unreadable_status_is_trained_again(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    specs = seeds(spec, 2)
    assert run_study(specs, "run", runs, lab.cache) == 0
    first, second = sorted(runs.glob("run*"))
    (first / "status.json").write_bytes(b"\xff\xfe{")
    before = times(second)
    assert run_study(specs, "run", runs, lab.cache) == 0
    assert states(runs) == {"run0": "complete", "run1": "complete"}
    assert times(second) == before


def test_two_sweeps_at_once_train_each_run_once(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    specs = seeds(spec, 3)
    codes = []
    sweeps = [
        threading.Thread(target=lambda order=order: codes.append(run_study(order, "run", runs, lab.cache)))
        for order in (specs, specs[::-1])
    ]
    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join()
    assert codes == [0, 0]
    assert states(runs) == {"run0": "complete", "run1": "complete", "run2": "complete"}
    for run_dir in runs.glob("run*"):
        assert len(wandb_files(run_dir)) == 1
        assert len(points(run_dir)) == 1


def test_the_same_run_under_another_name_or_study_is_not_trained_again(
    lab: Lab, spec: SpecMaker, runs: Path, tmp_path: Path
) -> None:
    assert run_study([spec(SHORT)], "run", runs, lab.cache) == 0
    (known,) = runs.glob("run-*")
    before = times(known)
    renamed = spec({**SHORT, "name": "other"})
    assert [run.run_dir for run in plan_runs([renamed], runs)] == [known]
    elsewhere = spec({**SHORT, "name": "third", "study.name": "second"})
    assert run_study([renamed], "run", runs, lab.cache) == 0
    assert run_study([elsewhere], "run", tmp_path / "runs" / "second", lab.cache) == 0
    assert times(known) == before
    (linked,) = (tmp_path / "runs" / "second").glob("*-*")
    assert linked.resolve() == known.resolve()
    assert run_study([elsewhere], "run", tmp_path / "runs" / "second", lab.cache) == 0


def test_a_link_to_a_run_that_was_removed_is_trained_anew(
    lab: Lab, spec: SpecMaker, runs: Path, tmp_path: Path
) -> None:
    import shutil

    second = tmp_path / "runs" / "second"
    other = spec({**SHORT, "study.name": "second"})
    assert run_study([spec(SHORT)], "run", runs, lab.cache) == 0
    assert run_study([other], "run", second, lab.cache) == 0
    shutil.rmtree(runs)
    assert run_study([other], "run", second, lab.cache) == 0
    (run_dir,) = second.glob("run-*")
    assert read_status(run_dir).state == "complete"


def test_what_there_is_of_a_run_is_found_under_another_name_in_its_study_and_in_no_other(
    spec: SpecMaker, runs: Path
) -> None:
    run, before = spec(SHORT), spec({**SHORT, "name": "before"})
    begun = runs / directory_name(before)
    write_spec(begun / "spec.json", before)
    (found,) = plan_runs([run], runs)
    assert (found.run_dir, directory_name(found.spec)) == (begun, begun.name)
    other = spec({**SHORT, "study.name": "other"})
    assert plan_runs([other], runs.parent / "other")[0].run_dir == runs.parent / "other" / directory_name(run)


def test_a_half_made_folder_of_the_same_run_elsewhere_is_passed_over(spec: SpecMaker, runs: Path) -> None:
    run = spec(SHORT)
    (runs.parent / "other" / directory_name(run)).mkdir(parents=True)
    assert plan_runs([run], runs)[0].run_dir == runs / directory_name(run)


def test_a_sweep_names_each_run_once(spec: SpecMaker, runs: Path) -> None:
    specs = [spec(SHORT), spec({**SHORT, "zero.stage": 2}), spec({**SHORT, "seeds.order": 1})]
    assert len(plan_runs(specs, runs)) == 2


def test_plan_and_prepare_train_nothing(
    lab: Lab, spec: SpecMaker, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study(seeds(spec, 2), "plan", runs, lab.cache) == 0
    assert [path.name for path in runs.iterdir()] == ["plan.json"]
    assert "Runs of pretraining: 2;" in capsys.readouterr().out
    assert run_study(seeds(spec, 2), "prepare", runs, lab.cache) == 0
    assert not list(runs.glob("run*"))
    assert list(runs.glob("data_card*"))


def test_nothing_starts_if_one_run_asks_for_more_than_there_is(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    specs = [*seeds(spec, 2), spec({"budget.num_tokens": 10_000_000})]
    with pytest.raises(ValueError, match=r"epochs"):
        run_study(specs, "run", runs, lab.cache)
    assert not list(runs.glob("run*"))


def test_a_budget_that_shares_a_trunk_is_trained_after_the_smaller_one(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    wide = {"placement.runs_per_device": 2, "evaluation.every_tokens": None}
    large, small = (spec({**wide, "name": f"run{n}", "budget.num_tokens": n * 128}) for n in (60, 30))
    assert run_study([large, small], "run", runs, lab.cache) == 0
    taken = {path.name.split("-")[0]: read_status(path).trunk_tokens for path in runs.glob("run*")}
    assert taken == {"run30": 0, "run60": 22 * 128}


def test_a_run_that_diverged_is_an_outcome_and_not_tried_again(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [spec({**SHORT, "optimizer.learning_rate": 1e30})]
    assert run_study(specs, "run", runs, lab.cache) == 1
    (run_dir,) = runs.glob("run*")
    before = times(run_dir)
    monkeypatch.setattr(study, "start_server", lambda modules: pytest.fail("nothing is left to run"))
    capsys.readouterr()
    assert run_study(specs, "run", runs, lab.cache) == 1
    assert f"{run_dir.name} diverged and is left as it is; to train it again, remove" in capsys.readouterr().out
    assert times(run_dir) == before


def test_a_sweep_that_is_asked_to_stop_while_it_prepares_starts_no_run(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    stop.is_requested = True  # as the signal leaves it between the preparation and the first run
    with pytest.raises(PreemptedError):
        run_study(seeds(spec, 2), "run", runs, lab.cache, stop)
    assert states(runs) == {}


def test_runs_that_do_not_stop_when_they_are_asked_are_killed(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    deaf = lab.trap("scaling.train.pretrain", "learning_rate_factor", count=5, signal=signal.SIGSTOP)
    monkeypatch.setattr(study, "start_server", lambda modules: deaf.context)
    monkeypatch.setattr(study, "SECONDS_TO_STOP", 1.0)
    ask = threading.Timer(3, lambda: setattr(stop, "is_requested", True))
    ask.start()
    with pytest.raises(PreemptedError):
        run_study(seeds(spec, 1), "run", runs, lab.cache, stop)
    wait_for(lambda: states(runs) == {"run0": "interrupted"}, seconds=10)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """It is heard, as in no background job, and afterwards as it was."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_a_second_ctrl_c_kills_the_runs_that_the_first_has_asked_to_stop(
    lab: Lab, spec: SpecMaker, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    stop.listen_to_ctrl_c()
    deaf = lab.trap("scaling.train.pretrain", "learning_rate_factor", count=5, signal=signal.SIGSTOP)
    monkeypatch.setattr(study, "start_server", lambda modules: deaf.context)
    started: list[ForkServerProcess] = []

    def noted(*args: Any) -> ForkServerProcess:
        started.append(launch(*args))
        return started[0]

    def press_twice() -> None:
        wait_for(lambda: bool(started) and " T " in Path(f"/proc/{started[0].pid}/stat").read_text())
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: stop.is_requested)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(study, "launch", noted)
    threading.Thread(target=press_twice, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_study(seeds(spec, 1), "run", runs, lab.cache, stop)
    wait_for(lambda: states(runs) == {"run0": "interrupted"}, seconds=10)


@contextlib.contextmanager
def nobody_reads() -> Iterator[None]:
    """What is printed goes to a pipe whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe, contextlib.redirect_stdout(pipe):
        yield


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_that_ends_the_reader_too_lets_runs_write_a_checkpoint(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    stop = Stop()
    stop.listen_to_ctrl_c()

    def press() -> None:
        wait_for(lambda: any(read_status(path).tokens for path in runs.glob("run*")))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    long = spec({"name": "run0", "budget.num_tokens": 4000 * 128, "budget.max_epochs": None})
    with nobody_reads(), pytest.raises(KeyboardInterrupt):
        run_study([long], "run", runs, lab.cache, stop)
    assert states(runs) == {"run0": "preempted"}
    assert list(runs.glob("run0*/checkpoints/step-*"))


def test_a_study_that_nobody_reads_any_more_begins_no_further_run(lab: Lab, spec: SpecMaker, runs: Path) -> None:
    with nobody_reads(), pytest.raises(PreemptedError):
        run_study(seeds(spec, 2), "run", runs, lab.cache)
    assert states(runs) == {"run0": "complete"}
    assert count_to_come(runs) == 1


def test_a_study_that_nobody_reads_and_of_which_nothing_is_left_to_do_was_not_cut_off(
    lab: Lab, spec: SpecMaker, runs: Path
) -> None:
    specs = [spec({**SHORT, "optimizer.learning_rate": 1e30})]
    assert run_study(specs, "run", runs, lab.cache) == 1
    with nobody_reads():
        assert run_study(specs, "run", runs, lab.cache) == 1
    assert states(runs) == {"run": "diverged"}


def test_an_old_status_that_says_running_does_not_keep_a_run_from_being_trained(
    lab: Lab, spec: SpecMaker, runs: Path
) -> None:
    (run,) = plan_runs([spec(SHORT)], runs)
    run.run_dir.mkdir(parents=True)
    write_status(run.run_dir, run.status.model_copy(update={"state": "running", "tokens": 640}))
    assert run.status.state == "interrupted"
    assert run_study([run.spec], "run", runs, lab.cache) == 0


# ---- a real sweep, and what is left of it when it ends early ----------------------------------------


@pytest.fixture
def sweep(corpus: Mapping[str, str], shared_cache: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m scaling` with two runs at once, one of them on two ranks' worth of time."""
    settings = [
        "corpus=own",
        *(f"+corpus.domains.{name}={{kind: local, path: {path}}}" for name, path in corpus.items()),
        "study.name=long",
        f"runs={tmp_path / 'long'}",
        "tokenizer.vocab_size=320",
        "model={kind: llama, hidden_size: 32, num_layers: 1, num_heads: 2, intermediate_size: 72}",
        "budget.num_tokens=3_000_000",
        "budget.max_epochs=null",
        "placement.ranks=2",
        "placement.device=cpu",
        "placement.runs_per_device=2",
        "hydra.mode=MULTIRUN",
        "seeds.order=0,1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "scaling", *settings],
        env={**os.environ, "SCALING_CACHE": str(shared_cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A background shell job, as a CI may be, ignores Ctrl-C, and its children would with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    yield process
    process.kill()


def family(process: subprocess.Popen[str]) -> set[int]:
    """The living processes of the sweep's session, and those that have a file of its runs open."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        state, session = fields[0], int(fields[3])
        if state != "Z" and (session == process.pid or (b"wandb-core" in command and _is_of(folder, process.pid))):
            found.add(int(folder.name))
    return found


def _is_of(folder: Path, session: int) -> bool:
    """Whether the W&B service in this folder of /proc watches a process of the session."""
    match = re.search(rb"--pid\0(\d+)", (folder / "cmdline").read_bytes())
    try:
        return bool(match) and os.getsid(int(match.group(1))) == session
    except ProcessLookupError:
        return True  # what it watches is gone, and it is not


@pytest.mark.parametrize(
    ("how", "whom"),
    [
        (signal.SIGINT, "every process of the job"),  # as a terminal sends it
        (signal.SIGUSR1, "every process of the job"),
        pytest.param(signal.SIGTERM, "every process of the job", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "the sweep", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_that_is_preempted_lets_its_runs_write_a_checkpoint_and_starts_no_more(
    sweep: subprocess.Popen[str], tmp_path: Path, how: signal.Signals, whom: str
) -> None:
    """A scheduler signals every process of a job: servers that runs need to the end must not die of it."""
    wait_for(lambda: is_training(tmp_path / "long") or sweep.poll() is not None, seconds=120)
    assert sweep.poll() is None, sweep.communicate()[0]
    processes = family(sweep)
    for pid in processes if whom != "the sweep" else [sweep.pid]:
        os.kill(pid, how)
    wait_for(lambda: sweep.poll() is not None, seconds=60)
    code, word = (130, "interrupted") if how == signal.SIGINT else (143, "preempted")
    assert sweep.returncode == code
    printed = sweep.communicate()[0].strip()
    assert printed.endswith(f"{word}; the same command goes on from here")
    assert ("Ctrl-C again" in printed) == (how == signal.SIGINT)
    wait_for(lambda: not any(is_alive(pid) for pid in processes - {sweep.pid}), seconds=10)
    for path in (tmp_path / "long").glob("*/status.json"):
        status = read_status(path.parent)
        assert status.state == "preempted"
        (checkpoint,) = (path.parent / "checkpoints").glob("step-*")  # the first is due after a minute
        assert checkpoint.name == f"step-{status.tokens // spec_tokens(path.parent):08d}"
    assert len(list((tmp_path / "long").glob("*/status.json"))) == 2


def spec_tokens(run_dir: Path) -> int:
    """Tokens of a step."""
    return read_spec(run_dir / "spec.json").batch.num_tokens


def is_training(runs: Path) -> bool:
    found = [read_status(path.parent) for path in runs.glob("*/status.json")]
    return len(found) == 2 and all(status.tokens_per_second for status in found)


@pytest.mark.slow
def test_a_sweep_that_is_killed_leaves_no_process_and_its_runs_interrupted(
    sweep: subprocess.Popen[str], tmp_path: Path
) -> None:
    wait_for(lambda: is_training(tmp_path / "long") or sweep.poll() is not None, seconds=120)
    assert sweep.poll() is None, sweep.communicate()[0]
    assert len(family(sweep)) >= 1 + 1 + 2 * 3  # the sweep, the server, two agents with two ranks each
    services = {pid for pid in family(sweep) if pid != sweep.pid}
    sweep.kill()
    wait_for(lambda: sweep.poll() is not None, seconds=10)
    wait_for(lambda: not any(Path(f"/proc/{pid}/fd").exists() and is_alive(pid) for pid in services), seconds=10)
    assert [read_status(path.parent).state for path in (tmp_path / "long").glob("*/status.json")] == ["interrupted"] * 2


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
