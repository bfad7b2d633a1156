"""The audits of runs: what did not go as planned, what the models saw that they should not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from analysis.contrasts.fit import EPOCHS_TOLERANCE, MAX_EPOCHS
from analysis.page.labels import count_text, percent_text
from analysis.page.language import listed, say
from analysis.runs.points import Study
from analysis.runs.recipes import Recipe, at_path, changed_domains
from analysis.runs.run import Run

MIN_DIFFERENCE_IN_U = 0.03
"""Unique tokens at equal D that differ by less are whole sequences and rounding."""
MIN_DIFFERENCE_IN_WEIGHT = 0.01
LOW_LR_FRAC = 0.1
"""Where a decay should have ended: the usual end of a cosine (Hoffmann et al. 2022)."""
CONTAMINATED = "contaminated"
"""The reason under which the ledger counts documents dropped because they hold held-out text."""
ONE_ENVIRONMENT = ("device", "torch", "transformers", "deepspeed", "scaling")


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first few names; how many more there are."""
    if len(names) <= most:
        return listed(names)
    return say("{names} and {count} more", names=listed(names[:most]), count=len(names) - most)


def run_caveats(study: Study) -> list[str]:
    """Runs that are not complete, were measured in mid-schedule, diverged, or were not made alike."""
    complete = [run for run in study.runs if run.state == "complete"]
    return [
        *_midway(complete),
        *_broken(study, complete),
        *_interrupted(study, complete),
        *_short_decay(complete),
        *_environments(complete),
    ]


def _midway(complete: Sequence[Run]) -> list[str]:
    said = []
    if midway := [f"{run.name} ({run.mid_schedule})" for run in complete if run.mid_schedule]:
        said.append(
            say(
                "{count} of {all} complete runs were measured in the middle of their schedule and enter no fit: "
                "{runs}.",
                count=len(midway), all=len(complete), runs=some_of(midway, 3),
            )
        )  # fmt: skip
    if silent := [run.name for run in complete if not run.is_schedule_known]:
        said.append(
            say(
                "Of {count} of {all} complete runs it is unknown whether the learning rate had ended its decay; they "
                "are taken as if it had: {runs}.",
                count=len(silent), all=len(complete), runs=some_of(silent, 3),
            )
        )  # fmt: skip
    return said


def _broken(study: Study, complete: Sequence[Run]) -> list[str]:
    said = []
    broken = sorted((run for run in study.runs if run.state != "complete"), key=lambda run: (run.state, run.name))
    if broken:
        states = ", ".join(f"{count} {say(state)}" for state, count in Counter(run.state for run in broken).items())
        names = some_of([f"{run.name} ({(run.error or say(run.state))[:80]})" for run in broken])
        said.append(
            say(
                "{count} of {all} runs are not complete and enter no fit ({states}): {runs}.",
                count=len(broken), all=len(study.runs), states=states, runs=names,
            )
        )  # fmt: skip
    if diverged := Counter(study.recipe_of[run.fingerprint] for run in broken if run.state == "diverged"):
        said.append(
            say(
                "Runs diverged under {recipes}: what is left of them is what went well, so their losses may look too "
                "good.",
                recipes=some_of([f"{label} ({count})" for label, count in diverged.items()]),
            )
        )
    if short := [run.name for run in complete if run.steps_left_out]:
        said.append(
            say(
                "{steps} steps of {count} runs were left out, whose loss or gradient was no number; their tokens count "
                "as trained on: {runs}.",
                steps=sum(run.steps_left_out for run in complete), count=len(short), runs=some_of(short),
            )
        )  # fmt: skip
    return said


def _interrupted(study: Study, complete: Sequence[Run]) -> list[str]:
    said = []
    if len(study.lost) == 1:
        said.append(
            say(
                "1 run was interrupted and left out, before it logged anything: {runs}.",
                runs=study.lost[0].name,
            )
        )
    elif study.lost:
        said.append(
            say(
                "{count} runs were interrupted and left out, before they logged anything: {runs}.",
                count=len(study.lost), runs=some_of([run.name for run in study.lost]),
            )
        )  # fmt: skip
    if elastic := [run.name for run in study.runs if run.is_elastic]:
        said.append(
            say(
                "{count} of {all} runs were interrupted and went on under another placement (device, ranks or "
                "micro-batch), which changes losses by rounding: {runs}.",
                count=len(elastic), all=len(study.runs), runs=some_of(elastic),
            )
        )  # fmt: skip
    return said


def _short_decay(complete: Sequence[Run]) -> list[str]:
    linear = [run for run in complete if run.spec["schedule"]["kind"] == "wsd"]  # a cosine says itself where it ends
    high = [run.name for run in linear if (run.final_lr_frac or 0) > LOW_LR_FRAC]
    if not high:
        return []
    return [
        say(
            "{count} of {all} runs end above {share} of their peak learning rate: their decay is short, so their "
            "losses are higher than they need be: {runs}.",
            count=len(high), all=len(complete), share=percent_text(LOW_LR_FRAC), runs=some_of(high, 3),
        )
    ]  # fmt: skip


def _environments(complete: Sequence[Run]) -> list[str]:
    differing = sorted(key for key in ONE_ENVIRONMENT if len({run.environment.get(key) for run in complete}) > 1)
    if not differing:
        return []
    return [
        say("The runs were not all made in one environment; they differ in {facts}.", facts=", ".join(differing))
    ]  # fmt: skip


# ---- what the models saw --------------------------------------------------------------------------


def exposure_caveats(study: Study) -> list[str]:
    """Repeats, contamination, mixtures that did not come out as intended, texts that changed between runs."""
    said = [*_repeats(study), *_contamination(study), *_unequal_exposure(study), *_off_mixture(study)]
    if changed := changed_domains(study.recipes):
        said.append(
            say(
                'The data of {domains} changed between runs: recipes with "other data" were trained or evaluated on '
                "another text than most, which is told by its content hash.",
                domains=", ".join(changed),
            )
        )
    return said


def _repeats(study: Study) -> list[str]:
    """Where tokens were seen more than once: up to 4 epochs a repeat is nearly as good as a new token."""
    said = []
    mean: dict[str, float] = {}
    for point in study.points:
        mean[point.recipe] = max(mean.get(point.recipe, 0.0), point.epochs)
    some = {label: x for label, x in mean.items() if 1 + EPOCHS_TOLERANCE < x <= MAX_EPOCHS + EPOCHS_TOLERANCE}
    if some:
        names = [say("{recipe} (up to {epochs} epochs)", recipe=k, epochs=f"{x:.3g}") for k, x in some.items()]
        said.append(
            say(
                "Tokens repeat in {recipes}; the law counts repeats as new tokens, which is nearly right up to {most} "
                "epochs (Muennighoff et al. 2023).",
                recipes=some_of(names), most=f"{MAX_EPOCHS:g}",
            )
        )  # fmt: skip
    most: dict[tuple[str, str], float] = {}
    for run in study.runs:
        for domain, seen in run.ledger.domains.items() if run.ledger else ():
            if seen.tokens and seen.epochs > MAX_EPOCHS + EPOCHS_TOLERANCE:
                at = study.recipe_of[run.fingerprint], domain
                most[at] = max(most.get(at, 0.0), seen.epochs)
    if most:
        worst = sorted(most.items(), key=lambda item: (-item[1], item[0]))
        names = [
            say("{domain} in {recipe} ({epochs} epochs)", domain=domain, recipe=recipe, epochs=f"{x:.3g}")
            for (recipe, domain), x in worst
        ]
        said.append(
            say(
                "Text is repeated beyond {most} epochs, where a repeat is worth clearly less than a new token: "
                "{names}.",
                most=f"{MAX_EPOCHS:g}", names=some_of(names, 3),
            )
        )  # fmt: skip
    return said


def _contamination(study: Study) -> list[str]:
    """Recipes whose training text may hold what their losses are measured on."""
    rules = {recipe.label: _decontamination(recipe) for recipe in study.recipes}
    open_ones = [label for label, kind in rules.items() if kind == "none"]
    if not open_ones:
        return []
    found = _found_elsewhere(study, {label for label, kind in rules.items() if kind != "none"})
    if not found:
        return [
            say(
                "Validation text was not looked for in the training text of {recipes}: what was memorised there would "
                "lower the losses.",
                recipes=some_of(open_ones, 3),
            )
        ]
    return [
        say(
            "The training text of {recipes} was not freed of validation text, that of the other recipes was (most of "
            "all {domain}: {count} documents, {share}): its losses may be lower for what was memorised.",
            recipes=some_of(open_ones, 3), domain=found[0], count=f"{found[1]:,}", share=percent_text(found[2], 2),
        )
    ]  # fmt: skip


def _decontamination(recipe: Recipe) -> str | None:
    """The kind of decontamination; None where the spec does not say."""
    found = at_path(recipe.tree, "recipe.decontamination.kind")
    return None if found is None else str(found)


def _found_elsewhere(study: Study, labels: set[str]) -> tuple[str, int, float] | None:
    """Domain, number and share of the documents dropped as contaminated, where these recipes dropped most."""
    found = []
    for run in study.runs:
        if run.ledger is None or study.recipe_of[run.fingerprint] not in labels:
            continue
        for domain, seen in run.ledger.domains.items():
            if count := seen.dropped.get(CONTAMINATED, 0):
                found.append((count / (seen.documents + sum(seen.dropped.values())), count, domain))
    if not found:
        return None
    share, count, domain = max(found)
    return domain, count, share


def _unequal_exposure(study: Study) -> list[str]:
    """Where recipes did not see as much text at equal D: one repeats what it has, the other does not."""
    reference = study.recipes[0].label
    unique: dict[str, dict[int, list[int]]] = {}
    for point in study.points:
        if point.domain == study.target:
            unique.setdefault(point.recipe, {}).setdefault(point.tokens, []).append(point.unique_tokens)
    if reference not in unique or study.match == "unique_tokens":
        return []
    unequal = []
    for recipe in study.recipes[1:]:
        for size in sorted({*unique.get(recipe.label, {})} & {*unique[reference]}, reverse=True):
            ours, theirs = float(np.mean(unique[recipe.label][size])), float(np.mean(unique[reference][size]))
            if abs(ours - theirs) > MIN_DIFFERENCE_IN_U * max(ours, theirs):
                unequal.append(
                    say(
                        "{recipe} {ours} against {theirs}",
                        recipe=recipe.label, ours=count_text(ours), theirs=count_text(theirs),
                    )
                )  # fmt: skip
                break
    if not unequal:
        return []
    return [
        say(
            "At equal tokens not all recipes saw as many unique tokens as {reference}, because some repeat what they "
            "have ({recipes}): a gap to it holds the cost of repeating as well as the effect of the text.",
            reference=reference, recipes=some_of(unequal, 3),
        )
    ]  # fmt: skip


def _off_mixture(study: Study) -> list[str]:
    off = [
        (abs(seen.weight - seen.realised_weight), run.name, domain, seen)
        for run in study.runs
        for domain, seen in (run.ledger.domains.items() if run.ledger else ())
        if abs(seen.weight - seen.realised_weight) > MIN_DIFFERENCE_IN_WEIGHT
    ]
    if not off:
        return []
    _, name, domain, seen = max(off, key=lambda item: item[:3])
    told = {
        "run": name,
        "domain": domain,
        "saw": percent_text(seen.realised_weight, 1),
        "meant": percent_text(seen.weight, 1),
    }
    runs = len({name for _, name, _, _ in off})
    if runs == 1:
        return [say("{run} saw {saw} of {domain} where {meant} were intended.", **told)]
    return [
        say(
            "{count} runs saw another mixture than intended; furthest off, {run} saw {saw} of {domain} where {meant} "
            "were intended.",
            count=runs, **told,
        )
    ]  # fmt: skip
