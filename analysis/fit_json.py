"""Fits as JSON for programs, and as text for people."""

from __future__ import annotations

import math
from typing import Any

from analysis.fit_table import GroupFit, TableFits
from analysis.fitting.law_fit import LawFit
from analysis.fitting.objective import AbsoluteDeviation, Huber, LeastSquares
from analysis.fitting.result import Estimate
from analysis.laws.law import Param

OBJECTIVES = {"huber": Huber, "lad": AbsoluteDeviation, "squares": LeastSquares}
MAX_BLOCKS = 6
"""More fits than these are told in a line each."""


def fits_json(result: TableFits) -> dict[str, Any]:
    """The fits as JSON: numbers that are not finite (no limit, no fit) are null."""
    return {
        "source": result.source,
        "fits": [_fit_json(each) for each in result.fits],
        "comparison": [
            {
                "law": each.law,
                "held_out_error": _finite(each.error),
                "covered": _finite(each.covered),
                "num_points": each.num_points,
                "may_be_best": each.may_be_best,
            }
            for each in result.comparison
        ],
        "best": result.best,
        "answer": result.answer,
        "notes": list(result.notes),
    }


def _fit_json(own: GroupFit) -> dict[str, Any]:
    fit = own.fit
    objective = fit.objective
    kind = next(name for name, kind in OBJECTIVES.items() if isinstance(objective, kind))
    return {
        "law": fit.law.name,
        "equation": fit.law.form,
        "constants": dict(fit.law.constants),
        "group": own.group,
        "params": {
            param.name: {**fit.params[param.name].plain, "unit": _unit(fit, param), "is_fixed": param.name in fit.fixed}
            for param in fit.law.params
            if param.name in fit.params
        },
        "bootstrap": {name: ends.plain for name, ends in own.bootstrap.items()},
        "objective": _finite(fit.value),
        "loss": {
            "kind": kind,
            "scale": objective.scale,
            **({"delta": objective.delta} if isinstance(objective, Huber) else {}),
        },
        "status": fit.status.name.lower(),
        "why": fit.why,
        "num_points": len(fit.table),
        "num_runs": fit.num_runs,
        "num_clusters": fit.num_clusters,
        "residual_sd": _finite(fit.residual_sd),
        "held_out": None
        if fit.held_out is None
        else {
            "num_points": fit.held_out.num_points,
            "error": _finite(fit.held_out.error),
            "covered": _finite(fit.held_out.covered),
        },
        "predictions": [
            {
                "at": {**each.at, **({"recipe": each.recipe} if each.recipe else {})},
                **each.value.plain,
                "new_run": {"lo": _finite(each.new_run.lo), "hi": _finite(each.new_run.hi)},
                "beyond": _finite(each.beyond),
            }
            for each in own.predictions
        ],
        "optima": [
            {
                "C": each.flops,
                "N": each.num_params.plain,
                "D": each.tokens.plain,
                "loss": each.loss.plain,
                "exponent": each.exponent.plain,
                "flops_per_param_and_token": each.flops_per_param_and_token,
                "beyond": _finite(each.beyond),
            }
            for each in own.optima
        ],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def fits_text(result: TableFits) -> str:
    """The fits as lines of text."""
    is_long = len(result.fits) > MAX_BLOCKS
    lines = [_line(own) for own in result.fits] if is_long else [line for own in result.fits for line in _block(own)]
    if is_long:
        lines.append(f"{len(result.fits)} fits, a line each: equations, intervals and predictions are in --json FILE")
    lines += [f"note: {note}" for note in result.notes]
    if result.answer:
        lines.append(result.answer)
    return "\n".join(lines)


def _line(own: GroupFit) -> str:
    """A fit in a line."""
    params = ", ".join(f"{name} = {estimate.value:.4g}" for name, estimate in own.fit.params.items())
    who = f"{own.fit.law.name}{f' of {own.group}' if own.group else ''}"
    return f"{who}: {f'{params}; ' if params else ''}{own.fit.status.name.lower()}"


def _block(own: GroupFit) -> list[str]:
    """A fit in full."""
    fit = own.fit
    lines = [f"{fit.law.name}{f' of {own.group}' if own.group else ''}: {fit.law.form}"]
    lines += [f"  {name} = {constant:.10g} (of the table)" for name, constant in fit.law.constants.items()]
    for param in fit.law.params:
        if param.name in fit.params:
            given = " (given)" if param.name in fit.fixed else ""
            lines.append(f"  {param.name} = {_interval(fit.params[param.name])}{given} {_unit(fit, param)}".rstrip())
            if beside := own.bootstrap.get(param.name):
                lines.append(f"      bootstrap over runs: {beside.lo:.4g} to {beside.hi:.4g}")
    value = f"objective {fit.value:.10g} over " if math.isfinite(fit.value) else ""
    drawn = f" of {_count(fit.num_clusters, 'cluster')}" if fit.num_clusters != fit.num_runs else ""
    lines.append(f"  {value}{_count(len(fit.table), 'point')} of {_count(fit.num_runs, 'run')}{drawn}")
    lines.append(f"  {fit.status.name.lower()}: {fit.why}")
    if held := fit.held_out:
        lines.append(
            f"  held out: {_count(held.num_points, 'point')}, missed by {100 * held.error:.3g} % on average; "
            f"{100 * held.covered:.0f} % of them in their 95 % prediction intervals"
        )
    for each in own.predictions:
        at = ", ".join(f"{name}={value:g}" for name, value in each.at.items())
        far = _far(each.beyond)
        who = f" ({each.recipe})" if each.recipe else ""
        new = f"a new run {each.new_run.lo:.5g} to {each.new_run.hi:.5g}"
        lines.append(f"  at {at}{who}: {_interval(each.value)}; {new}{far}")
    for best in own.optima:
        lines.append(
            f"  C = {best.flops:g} is best spent on N = {_interval(best.num_params)}, "
            f"D = {_interval(best.tokens)}: loss {_interval(best.loss)}; N grows as C^{_interval(best.exponent)}"
            f"{_far(best.beyond)}"
        )
    return lines


def _unit(fit: LawFit, param: Param) -> str:
    """The unit of a parameter; a table may measure in bits per byte what laws take for nats per token."""
    return param.unit.replace("nats per token", fit.table.unit or "nats per token")


def _far(beyond: float) -> str:
    return f", {beyond:.3g} x the largest scale fitted" if beyond > 1 else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _interval(estimate: Estimate) -> str:
    if estimate.lo == estimate.value == estimate.hi:
        return f"{estimate.value:.6g}"
    return f"{estimate.value:.6g} (95 %: {estimate.lo:.4g} to {estimate.hi:.4g})"
