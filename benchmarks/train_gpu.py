"""How fast training is on a GPU, or on several: our runs, as a sweep makes them, against Trainer, DeepSpeed and a plain
loop. On two ranks, peers too: `--set placement.ranks=2 --set zero.stage=1 --steps 400`.

    python -m benchmarks.train_gpu [--cases 5m-32,gpt2] [--peers trainer-zero1,plain] [--parts speed,beside,numerics]

Ours is a whole run: real data stream, logging, looks at the loss and evaluations are inside the tokens per second;
what comes before the first evaluation is over (compilation) is not. Peers train on random tokens in memory and
evaluate nothing; they are timed after 30 steps. Every measurement has a process of its own, one after another. Time to
the first step begins with the imports done; ours ends with the first look at the loss.

`beside`: the total pace of several runs on the GPU at once, against one run. `numerics`: losses of 200 steps of the
compiled path against the plain one; the yardstick is the plain one in half micro-batches, which bf16 rounds otherwise.

Prints one line of JSON per comparison (what, ours, peer, peer_name, ratio, unit), and a table at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.train_cases import CASES, Case, Texts
from benchmarks.train_peers import PEERS
from benchmarks.train_runs import FailedError, Lab, Measured, comparison, steps
from scaling.launch import start_server
from scaling.placement import Placement

NUMERIC_STEPS = 200
Changes = Mapping[str, Any]


def speed(
    lab: Lab, texts: Texts, case: Case, peers: list[str], seconds: float, num_steps: int | None, changes: Changes
) -> Iterator[Any]:
    """Ours against each peer: tokens per second, and seconds to the first step."""
    spec = texts.spec(case, num_steps or steps(case, seconds), changes)
    ours = lab.ours([spec])
    theirs = spec.model_copy(update={"placement": Placement(device=spec.placement.device, ranks=spec.placement.ranks)})
    for peer in peers:
        try:
            measured = lab.peer(peer, [theirs], seconds)
            yield against(case.title, ours, measured, PEERS[peer][0]) | {"ranks": spec.placement.ranks}
        except FailedError as error:
            print(f"{case.title}: {PEERS[peer][0]} failed: {error}", file=sys.stderr, flush=True)


def beside(lab: Lab, texts: Texts, case: Case, counts: list[int], seconds: float, changes: Changes) -> Iterator[Any]:
    """Several runs at once against one."""
    one = lab.ours([texts.spec(case, steps(case, seconds), changes)])
    for count in counts:
        orders = [{**changes, "placement.runs_per_device": count, "seeds.order": order} for order in range(count)]
        # Each gets less of the device than one alone, so fewer steps take as long.
        several = lab.ours([texts.spec(case, steps(case, 2 * seconds / count), order) for order in orders])
        yield against(f"{case.title}: {count} runs at once", several, one, "one run")


def numerics(lab: Lab, texts: Texts, case: Case, changes: Changes) -> dict[str, Any]:
    """The largest difference in loss, compiled against plain."""

    def losses(more: Changes) -> list[float]:
        spec = texts.spec(case, NUMERIC_STEPS, {**changes, **more})
        ((log,), _) = lab.train([spec])
        return [row["train/loss"] for row in log.history if "train/loss" in row]

    def largest(one: list[float], other: list[float]) -> float:
        return max(abs(a - b) for a, b in zip(one, other, strict=True))

    plain = losses({"placement.compile": False})
    noise = largest(plain, losses({"placement.compile": False, "placement.micro_batch": case.num_sequences // 2}))
    compiled = losses({"placement.compile": True})
    return comparison(
        f"{case.title}: largest difference from the plain path at {len(plain)} looks in {NUMERIC_STEPS} steps",
        largest(plain, compiled),
        noise,
        "the plain path in half micro-batches",
        "nats per token",
        last_loss=plain[-1],
    )


def against(what: str, ours: Measured, peer: Measured, name: str) -> dict[str, Any]:
    first = {"ours": round(ours.first_step_seconds, 1), "peer": round(peer.first_step_seconds, 1)}
    more: dict[str, Any] = {"first_step_seconds": first}
    if ours.peak_frac is not None:
        more["mfu"] = round(ours.peak_frac, 3)
    return comparison(what, ours.tokens_per_second, peer.tokens_per_second, name, "tokens per second", **more)


def table(lines: list[dict[str, Any]]) -> Table:
    shown = Table(box=None, header_style="bold")
    for name in ("what", "ours", "peer", "", "ratio", "unit", "to the first step"):
        shown.add_column(name, justify="right" if name in ("ours", "peer", "ratio") else "left")
    for line in lines:
        first = line.get("first_step_seconds")
        shown.add_row(
            line["what"],
            f"{line['ours']:,.4g}" if line["ours"] < 1000 else f"{line['ours']:,.0f}",
            f"{line['peer']:,.4g}" if line["peer"] < 1000 else f"{line['peer']:,.0f}",
            line["peer_name"],
            f"{line['ratio']:.2f}",
            line["unit"],
            f"{first['ours']} s, {first['peer']} s" if first else "",
        )
    return shown


def listed(names: Any) -> Any:
    """A type of argument: names separated by commas, of those that there are."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := sorted(set(chosen) - set(names)):
            raise argparse.ArgumentTypeError(f"wanted some of {','.join(names)}, got {','.join(unknown)}")
        return chosen

    return read


def change(text: str) -> tuple[str, Any]:
    """placement.micro_batch=16 -> the key and its value, JSON where it is JSON."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [name for name in CASES if name != "tiny"]
    parts = ("speed", "beside", "numerics")
    parser.add_argument("--cases", type=listed(CASES), default=default, help=",".join(CASES))
    parser.add_argument("--peers", type=listed(PEERS), default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--parts", type=listed(parts), default=["speed"], help=",".join(parts))
    parser.add_argument("--seconds", type=float, default=8.0, help="of a measurement, after warm-up")
    parser.add_argument(
        "--counts", type=lambda text: list(map(int, text.split(","))), default=[2, 4], help="runs at once"
    )
    parser.add_argument("--steps", type=int, help="of our run, where DeepSpeed takes fewer of them in --seconds")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--set", type=change, action="append", default=[], help="a field of our runs: zero.stage=1")
    asked = parser.parse_args()

    context = start_server()
    changes = {"placement.device": asked.device, **dict(asked.set)}
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch), Path(scratch) / "cache"
        lab, texts = Lab(context, context, folder, cache), Texts(folder / "corpus", cache)
        for name in asked.cases:
            case = CASES[name]
            for part in asked.parts:
                try:
                    if part == "speed":
                        found = speed(lab, texts, case, asked.peers, asked.seconds, asked.steps, changes)
                    elif part == "beside":
                        found = beside(lab, texts, case, asked.counts, asked.seconds, changes)
                    else:
                        found = iter([numerics(lab, texts, case, changes)])
                    for line in found:
                        lines.append(line)
                        print(json.dumps(line, ensure_ascii=False), flush=True)
                except FailedError as error:
                    print(f"{case.title}, {part}: ours failed: {error}", file=sys.stderr, flush=True)
    Console(width=160).print(table(lines))


if __name__ == "__main__":
    main()
