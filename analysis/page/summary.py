"""The report for scripts: what summary.json holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.contrasts.contrast_words import contrast_json
from analysis.contrasts.dose import DoseResponse
from analysis.contrasts.fit import Fit
from analysis.contrasts.lr_check import LrCheck
from analysis.contrasts.ranking import Ranking
from analysis.fitting.result import Estimate
from analysis.laws.power import Power
from analysis.page.answer import Answer
from analysis.page.language import in_english
from analysis.page.tables import tokens_trained
from analysis.runs.points import Study
from analysis.runs.run import Run


def summary(study: Study, results: Answer) -> dict[str, Any]:
    """The report for scripts: plain JSON values; null where the data set no limit or nothing is known."""
    trained, independent = tokens_trained(study)
    return {
        "headline": results.headline,
        "test": results.test,
        "question": study.question,
        "study": study.name,
        "target": study.target,
        "match": study.match,
        "caveats": list(results.caveats),
        "fits": [_fit_json(fit) for fit in results.fits],
        "full_fits": [_fit_json(fit) for fit in results.full_fits],
        "contrasts": [contrast_json(contrast) for contrast in results.contrasts],
        "dose_response": _dose_json(results.dose) if results.dose else None,
        "ranking": _ranking_json(results.ranking) if results.ranking else None,
        "lr_check": _lr_check_json(results.lr_check) if results.lr_check else None,
        "tokens_trained": trained,
        "tokens_of_independent_runs": independent,
        "runs": [
            *(_run_json(run, study) for run in study.runs),
            *({"name": lost.name, "run_id": lost.run_id, "state": "interrupted"} for lost in study.lost),
        ],
    }


def _fit_json(fit: Fit) -> dict[str, Any]:
    test = fit.held_out[-1] if fit.held_out else None
    return {
        "recipe": fit.recipe,
        "domain": fit.domain,
        "law": Power.name,
        "equation": Power.equation,
        "params": {name: _estimate_json(value) for name, value in fit.params.items()},
        "status": fit.status.name.lower(),
        "status_text": fit.status.value,
        "interval_method": fit.interval_method if fit.law is not None else None,
        "num_points": fit.num_points,
        "num_runs": fit.num_runs,
        "num_trunks": fit.num_trunks,
        "huber_delta": fit.delta,
        "held_out": None
        if test is None
        else {
            "tokens": test.tokens,
            "num_runs": test.num_runs,
            "loss": test.loss,
            "predicted": _estimate_json(test.predicted),
            "error": test.error,
        },
    }


def _dose_json(dose: DoseResponse) -> dict[str, Any]:
    return {
        "dose": dose.what,
        "domain": dose.domain,
        "tokens": dose.tokens,
        "reference": dose.reference,
        "lines": [
            {
                "name": line.name or None,
                "verdict": line.verdict,
                "doses": [
                    {
                        "dose": at.value,
                        "recipe": at.recipe,
                        "loss": _estimate_json(at.loss),
                        "gap": _estimate_json(at.effect.gap if at.effect else None),
                        "multiplier": _estimate_json(at.effect.multiplier if at.effect else None),
                        "step": _estimate_json(at.step.gap if at.step else None),
                    }
                    for at in line.doses
                ],
            }
            for line in dose.lines
        ],
    }


def _ranking_json(ranking: Ranking) -> dict[str, Any]:
    return {
        "sentence": ranking.sentence,
        "tokens": ranking.tokens,
        "losses_are": ranking.how,
        "best": ranking.rows[0].recipe if len(ranking.leaders) == 1 else None,
        "reason": ranking.lack or (None if len(ranking.leaders) == 1 else "within_noise"),
        "gap_confidence": ranking.confidence,
        "recipes": [
            {
                "recipe": row.recipe,
                "losses": {domain: _estimate_json(loss) for domain, loss in row.losses.items()},
                "gap_to_best": _estimate_json(row.gap),
                "is_told_from_best": row.is_told_from_best,
            }
            for row in ranking.rows
        ],
    }


def _lr_check_json(check: LrCheck) -> dict[str, Any]:
    return {
        "lines": [
            {
                "recipe": line.name,
                "tokens": line.tokens,
                "best_learning_rate": line.best.rate,
                "is_at_edge": line.is_at_edge,
                "losses": [{"learning_rate": t.rate, "loss": _estimate_json(t.loss)} for t in line.trials],
            }
            for line in check.lines
        ],
        "pairs": [
            {
                "a": pair.a.name,
                "b": pair.b.name,
                "tokens": pair.a.tokens,
                "sentence": pair.sentence,
                "at_own_best": _estimate_json(pair.own.gap),
                "decision": pair.own.decision.name.lower(),
                "reason": pair.lack,
                "at": [{"learning_rate": at.rate, "gap": _estimate_json(at.gap)} for at in pair.at],
            }
            for pair in check.pairs
        ],
    }


def _run_json(run: Run, study: Study) -> dict[str, Any]:
    ledger = run.ledger
    return {
        "name": run.name,
        "run_id": run.run_id,
        "fingerprint": run.fingerprint,
        "recipe": study.recipe_of[run.fingerprint],
        "state": run.state,
        "error": run.error,
        "seeds": dict(run.seeds),
        "N": run.num_params,
        "D": ledger.tokens if ledger else None,
        "U": ledger.unique_tokens if ledger else None,
        "C": run.flops,
        "seconds": run.seconds,
        "trunk_tokens": run.trunk_tokens,
        "schedule_ends_at": run.schedule_ends_at,
        "is_elastic": run.is_elastic,
        "loss": {d: _finite(s.loss) for d, s in run.points[-1].domains.items()} if run.points else {},
        "ledger": None
        if ledger is None
        else {
            "tokens": ledger.tokens,
            "unique_tokens": ledger.unique_tokens,
            "sequences": ledger.sequences,
            "domains": {
                name: {**seen.__dict__, "dropped": dict(seen.dropped)} for name, seen in ledger.domains.items()
            },
        },
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate.plain


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plain(value: object) -> object:
    """Any facts as JSON values: null where a number is none; what was said, in English."""
    if isinstance(value, Estimate):
        return value.plain
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _finite(value) if isinstance(value, float) else in_english(value)
