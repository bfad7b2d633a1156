"""Mixture: the loss over the mixtures as one surface, what a token of each domain buys, and the best mixture."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.contrasts.contrast import Contrast
from analysis.fitting.result import Estimate
from analysis.mixtures.figures import FAR, far_apart, mixture_figure
from analysis.mixtures.optimum import Optimum, optimum
from analysis.mixtures.regression import Skill, regression_names, skills
from analysis.mixtures.surface import REPETITION_WORTH, MixtureSurface, fit_mixture
from analysis.mixtures.value import DomainValue, Rate, domain_values, exchange_rates
from analysis.page.answer import Answer
from analysis.page.labels import count_text
from analysis.page.language import say
from analysis.page.table import Brief, Table, estimate_text
from analysis.runs.points import Study
from analysis.sections.section import Drawing, Section

MAX_EPOCHS = 4.0
MAX_RATES = 20
"""Rates of more pairs go into the files alone."""
MAX_FOR_TREES = 600
"""Rows above which trees are left out of the report: they take a minute where the laws take a second."""
AS_WELL = 1.05
"""A regression whose error is this much above the least does as well, for all that ten folds tell."""


def section(study: Study, results: Answer) -> Section | None:
    """None where fewer mixtures were tried than there are domains, or where no surface could be fitted."""
    surface = fit_mixture(study) if results.lr_check is None else None
    if surface is None:
        return None
    best, values, rates = optimum(surface), domain_values(surface), exchange_rates(surface)
    compared = _compared(surface)
    caption = say(
        "Predicted loss on {domain} over the mixtures at {tokens} tokens.",
        domain=study.target,
        tokens=count_text(best.tokens),
    )
    if far_apart(surface):
        caption += " " + say(
            "Dashed curve: between mixtures tried more than {percent} % apart it is the law's alone.",
            percent=f"{100 * FAR:.0f}",
        )
    shown = (_best_table(surface, best), _value_table(values))
    rate_table = _rate_table(rates)
    is_long = len(rates) > MAX_RATES
    return Section(
        "mixture",
        say("Mixture"),
        (" ".join([*best_sentences(surface, best), *_against_headline(study, surface, best, results.main)]),),
        (),
        (Drawing("mixture", caption, mixture_figure(surface, best)),),
        (*shown, *(() if is_long else (rate_table,))),
        tuple(_notes(surface, best, compared)),
        (rate_table,) if is_long else (),
        _facts(surface, best, values, rates, compared),
    )


def best_sentences(surface: MixtureSurface, best: Optimum) -> list[str]:
    """The best mixture, its gain over the reference, and whether the optimum is flat; of two, the better."""
    mixture = ", ".join(
        say("{percent} % {domain}", percent=f"{100 * estimate.value:.0f}", domain=domain)
        for domain, estimate in sorted(best.weights.items(), key=lambda item: (-item[1].value, item[0]))
        if estimate.value >= 0.005
    )
    at = {"domain": surface.target, "tokens": count_text(best.tokens), "mixture": mixture}
    gain = {"gain": estimate_text(best.gain), "reference": surface.reference}
    found = []
    if is_pair(surface):
        found.append(
            say(
                "Two mixtures do not tell diminishing returns of a domain from constant rates: rates were taken as "
                "constant, so read an exchange rate as the slope between the two."
            )
        )
    if best.is_reference:
        found.append(say("The lowest loss on {domain} at {tokens} tokens is predicted for the reference, {mixture}.", **at))  # fmt: skip  # noqa: E501
    elif best.decides and is_pair(surface):
        found.append(say("The better of the two tried for {domain} at {tokens} tokens is {mixture}: predicted {gain} nats per token below {reference}.", **at, **gain))  # fmt: skip  # noqa: E501
    elif best.decides:
        found.append(say("The best mixture for {domain} at {tokens} tokens is {mixture}: predicted {gain} nats per token below {reference}.", **at, **gain))  # fmt: skip  # noqa: E501
    else:
        found.append(say("The lowest loss on {domain} at {tokens} tokens is predicted for {mixture}, but it cannot be told from {reference}: {gain} nats per token.", **at, **gain))  # fmt: skip  # noqa: E501
    if best.is_flat:
        domain, (low, high) = max(best.alike.items(), key=lambda item: (item[1][1] - item[1][0], item[0]))
        found.append(
            say(
                "The optimum is flat: with {low} to {high} % {domain} the loss is within one run's noise of the best.",
                low=f"{100 * low:.0f}",
                high=f"{100 * high:.0f}",
                domain=domain,
            )
        )
    if best.at_edge:
        found.append(
            say(
                "It lies at the edge of the weights that were tried for {domains}: mixtures beyond may be better.",
                domains=", ".join(best.at_edge),
            )
        )
    if over := [domain for domain, epochs in best.epochs.items() if epochs > MAX_EPOCHS]:
        found.append(
            say(
                "It reads {domains} more than 4 times, where the price of repetition is an extrapolation.",
                domains=", ".join(over),
            )
        )
    return found


def is_pair(surface: MixtureSurface) -> bool:
    """Whether two mixtures are all: a line through two points."""
    return surface.num_mixtures == 2


def _against_headline(study: Study, surface: MixtureSurface, best: Optimum, main: Contrast | None) -> list[str]:
    """How the gap of two mixtures relates to that of the headline, where it is of the same two."""
    if best.is_reference or not is_pair(surface) or len(study.recipes) > 2:
        return []
    if main is None or main.gap is None or main.tokens is None:
        return []
    return [
        say(
            "The predicted gap is by one law for all mixtures; that of the headline, {gap}, is between the mean losses "
            "measured at {tokens} tokens.",
            gap=f"{abs(main.gap.value):.2f}",
            tokens=count_text(main.tokens),
        )
    ]


def _compared(surface: MixtureSurface) -> tuple[Skill, ...]:
    table = surface.fit.table
    if surface.num_mixtures <= len(surface.domains):
        return ()
    names = regression_names(surface.num_mixtures)
    return skills(table, [name for name in names if name != "trees" or len(table) <= MAX_FOR_TREES])


def _notes(surface: MixtureSurface, best: Optimum, compared: Sequence[Skill]) -> list[str]:
    found = [
        say(
            "One law for all {count} mixtures: {equation}. {status}",
            count=surface.num_mixtures,
            equation=surface.law.equation,
            status=surface.fit.why,
        ),
        say(
            "Repeated tokens count as the data-constrained law has it, with R_D* = {worth} as published: it was not "
            "estimated here.",
            worth=REPETITION_WORTH,
        ),
        say(
            "Weights are sought within those that were tried. The gain is that of the best mixture as estimated: its "
            "interval does not hold the luck of having come out best."
        ),
    ]
    if not surface.settles_returns and not is_pair(surface):
        found.append(
            say(
                "So few mixtures do not tell diminishing returns of a domain from constant rates: rates were taken as "
                "constant (gamma = 1), which puts the optimum on an edge."
            )
        )
    if compared:
        found.append(_skill_sentence(compared))
    return found


def _skill_sentence(compared: Sequence[Skill]) -> str:
    """Which regression predicts unseen mixtures, and whether the log-linear law does as well."""
    names = {
        "linear": say("linear regression"),
        "log_linear": say("the log-linear law"),
        "exchange": say("the exchange law"),
        "trees": say("boosted trees"),
    }
    errors = ", ".join(f"{names[skill.name]} {100 * skill.error:.2f} %" for skill in compared)
    text = say("Mean error on mixtures left out of the fit: {errors}.", errors=errors)
    by_name = {skill.name: skill.error for skill in compared}
    if compared[0].name != "log_linear" and by_name["log_linear"] <= AS_WELL * compared[0].error:
        text += " " + say("The log-linear law does as well.")
    elif by_name["exchange"] > AS_WELL * compared[0].error:
        text += " " + say("The surface shown here is not the best predictor: read the optimum with care.")
    return text


def _best_table(surface: MixtureSurface, best: Optimum) -> Table:
    columns = (
        say("domain"),
        say("reference weight [%]"),
        say("best weight [%]"),
        say("as good from [%]"),
        say("as good to [%]"),
        say("epochs at best"),
    )
    rows = tuple(
        (
            domain,
            Brief(100 * best.reference[domain]),
            _in_percent(estimate) if estimate.lo < estimate.hi else Brief(100 * estimate.value),
            *(Brief(100 * weight) for weight in best.alike[domain]),
            Brief(best.epochs[domain]),
        )
        for domain, estimate in best.weights.items()
    )
    return Table("best_mixture", columns, rows)


def _in_percent(share: Estimate) -> Estimate:
    return Estimate(100 * share.value, 100 * share.lo, 100 * share.hi)


def _value_table(values: Sequence[DomainValue]) -> Table:
    columns = (
        say("domain"),
        say("reference weight [%]"),
        say("epochs at the reference"),
        say("10 % more of its tokens, at the reference mixture, lower the loss by [nats per token]"),
        say("10 % more budget, all of it on this domain, lowers the loss by [nats per token]"),
    )
    rows = tuple((v.domain, Brief(100 * v.weight), Brief(v.epochs), v.own, v.budget) for v in values)
    return Table("marginal_value", columns, rows)


def _rate_table(rates: Sequence[Rate]) -> Table:
    columns = (say("one more token of"), say("buys as much as tokens of"), say("number"))
    rows = tuple((rate.a, rate.b, rate.rate) for rate in rates)
    return Table("exchange_rates", columns, rows)


def _facts(
    surface: MixtureSurface,
    best: Optimum,
    values: Sequence[DomainValue],
    rates: Sequence[Rate],
    compared: Sequence[Skill],
) -> dict[str, object]:
    return {
        "target": surface.target,
        "tokens": best.tokens,
        "reference": surface.reference,
        "params": {name: estimate.plain for name, estimate in surface.fit.params.items()},
        "status": surface.fit.status.name.lower(),
        "best": {domain: estimate.plain for domain, estimate in best.weights.items()},
        "as_good": {domain: list(ends) for domain, ends in best.alike.items()},
        "gain": best.gain.plain,
        "is_flat": best.is_flat,
        "decides": best.decides,
        "values": {value.domain: value.budget.plain for value in values},
        "exchange_rates": [{"a": rate.a, "b": rate.b, **rate.rate.plain} for rate in rates],
        "errors": {skill.name: skill.error for skill in compared},
    }
