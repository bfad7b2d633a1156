"""The tasks of a study for scripts: plain values, estimates as value, lo and hi; null where the data set no limit."""

from __future__ import annotations

import math
from typing import Any

from analysis.downstream.cells import Cell, Gap
from analysis.downstream.curves import TaskCurve
from analysis.downstream.downstream import Downstream
from analysis.downstream.headline import headline
from analysis.downstream.metric_curve import Amount
from analysis.downstream.task_run import TaskRun
from analysis.downstream.verdicts import TaskVerdict
from analysis.downstream.words import scratch_sentences
from analysis.fitting.law_fit import LawFit
from analysis.page.table import Quantity


def facts(found: Downstream) -> dict[str, Any]:
    """All results of the tasks of a study, as summary.json holds them."""
    study = found.study
    best_domains = {u.task: u.domain for u in reversed(found.upstream)}
    return {
        "headline": headline(found),
        "tasks": {task: {"metric": study.metric(task)} for task in study.tasks},
        "sentences": scratch_sentences(found),
        "settings": [_cell(cell) for cell in found.cells.cells],
        "curves": [_curve(curve) for curve in (*found.over_tokens, *found.over_labels)],
        "demand": [
            {
                "task": d.task, "level": d.level, "value": d.value, "recipe": d.line,
                "tokens": _amount(d.tokens), "with_labels": d.labels_at, "tokens_by_domain": dict(d.by_domain),
                "labels": _amount(d.labels), "with_tokens": d.tokens_at,
                "labels_from_scratch": _amount(d.labels_from_scratch),
            }
            for d in found.demands
        ],
        "effective_data_transferred": [
            {
                "task": t.task, "recipe": t.line, "tokens": t.tokens, "labels": t.labels, "metric": t.score,
                "labels_from_scratch": _amount(t.needed), "replaced": _amount(t.replaced), "times": t.times,
            }
            for t in found.transferred
        ],
        "upstream": [
            {
                "task": u.task, "domain": u.domain, "held_out_error": u.error, "flat_error": u.flat_error,
                "noise": u.noise,
                "spearman": u.correlation,
                **(_law(u.fit) if u.domain == best_domains[u.task] else {}),
            }
            for u in found.upstream
        ],
        "verdicts": [_verdict(v) for v in found.verdicts],
        "sizes": [_verdict(v) for v in found.sizes],
        "best_recipe": [
            {
                "task": b.task, "tokens": b.tokens, "labels": b.labels, "best": b.best,
                "recipes": [
                    {"recipe": c.line, "score": c.score, "probability": c.probability} for c in b.candidates
                ],
            }
            for b in found.best
        ],
        "methods": [
            {
                "task": g.task, "recipe": g.line, "tokens": g.tokens, "labels": g.labels,
                "methods": [
                    {
                        "method": r.method, "score": r.cell.estimate, "against_first": _gap(r.against),
                        "num_trainable_params": r.num_trainable, "seconds": r.seconds,
                    }
                    for r in g.rows
                ],
            }
            for g in found.methods
        ],
        "compressions": [
            {
                **_cell(c.cell), "original": c.original, "change": _gap(c.change), "kept": c.kept,
                "cost": dict(c.cost), "original_cost": dict(c.original_cost),
            }
            for c in found.compressions
        ],
        "bought_back": [
            {
                "task": b.task, "recipe": b.line, "compress": b.compress, "labels": b.labels, "tokens": b.tokens,
                "needed": _amount(b.needed), "times": b.times,
            }
            for b in found.bought_back
        ],
        "runs": [_run(run, found) for run in (*study.runs, *study.compressions, *study.failed)],
    }  # fmt: skip


def _verdict(v: TaskVerdict) -> dict[str, Any]:
    return {
        "task": v.task, "metric": v.metric, "recipe": v.cell.setting.line, "tokens": v.cell.setting.tokens,
        "labels": v.cell.setting.labels, "score": v.cell.estimate,
        "scratch": None if v.scratch is None else v.scratch.estimate,
        "over_scratch": _gap(v.over_scratch), "over_checkpoint": _gap(v.over_checkpoint),
        "baseline": None if v.baseline is None else v.baseline.name,
        "baseline_score": None if v.baseline is None else v.baseline.estimate,
        "over_baseline": _gap(v.over_baseline), "scratch_over_baseline": _gap(v.scratch_over_baseline),
    }  # fmt: skip


def _cell(cell: Cell) -> dict[str, Any]:
    s = cell.setting
    return {
        "task": s.task, "method": s.method, "recipe": s.line, "start": s.start, "tokens": s.tokens, "labels": s.labels,
        "compress": s.compress or None, "score": cell.estimate, "score_covers": cell.covers,
        "num_runs": len(cell.runs),
        "sd_seeds": cell.noise.sd, "sd_test": cell.row_sd,
    }  # fmt: skip


def _curve(curve: TaskCurve) -> dict[str, Any]:
    own = curve.curve
    return {
        "task": curve.task, "method": curve.method, "recipe": curve.line, "over": own.axis,
        "at": curve.at, "law": own.law, "held_out_errors": dict(own.errors), "ceiling": own.ceiling, **_law(own.fit),
    }  # fmt: skip


def _law(fit: LawFit | None) -> dict[str, Any]:
    if fit is None:
        return {"params": None, "status": None}
    return {"params": dict(fit.params), "fixed": dict(fit.fixed), "status": fit.status.name.lower()}


def _run(run: TaskRun, found: Downstream) -> dict[str, Any]:
    return {
        "name": run.name, "run_id": run.run_id, "fingerprint": run.fingerprint, "task": run.task, "state": run.state,
        "error": run.error, "recipe": found.study.line(run), "method": found.study.method_of[run.fingerprint],
        "compress": found.study.compress_of.get(run.fingerprint), "start": run.start, "tokens": run.tokens,
        "labels": run.labels, "seed": run.seed, "scores": dict(run.scores), "seconds": run.seconds,
    }  # fmt: skip


def _gap(gap: Gap | None) -> dict[str, Any] | None:
    return None if gap is None else {**gap.gap.plain, "verdict": gap.verdict}


def _amount(amount: Amount | None) -> dict[str, Any] | None:
    """An amount and whether it was reached: null alone would not tell."""
    if amount is None:
        return None
    ends = Quantity(amount.value, amount.lo, amount.hi)
    return {**ends.plain, "is_reached": math.isfinite(amount.value)}
