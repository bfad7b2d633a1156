"""The study's answer in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.contrasts.contrast import Contrast, compare, contrasts
from analysis.contrasts.dose import DoseResponse, dose_response
from analysis.contrasts.fit import Fit, fit_power_law
from analysis.contrasts.lr_check import LrCheck, lr_check
from analysis.contrasts.noise import noise_of
from analysis.contrasts.ranking import Ranking, rank
from analysis.downstream import words
from analysis.downstream.downstream import Downstream, analysed
from analysis.downstream.headline import headline as headline_of_tasks
from analysis.downstream.task_study import TaskStudy
from analysis.page.caveats import find_caveats
from analysis.page.headline import headline_of, test_sentence
from analysis.page.language import say
from analysis.page.run_caveats import exposure_caveats, run_caveats
from analysis.runs.points import Study


@dataclass(frozen=True)
class Answer:
    """All results of a study.

    headline: the answer in one sentence. test: how well the held-out size was predicted. main: the contrast
    behind it, if it is one. caveats: one sentence each. dose, ranking, lr_check: of the recipes, where they have them.
    downstream: of the tasks, where models were fine-tuned.
    """

    headline: str
    test: str | None
    main: Contrast | None
    fits: tuple[Fit, ...]
    contrasts: tuple[Contrast, ...]
    caveats: tuple[str, ...]
    dose: DoseResponse | None = None
    ranking: Ranking | None = None
    lr_check: LrCheck | None = None
    downstream: Downstream | None = None

    @property
    def full_fits(self) -> tuple[Fit, ...]:
        """The fits to all points that the contrasts tried, each once, where they saw more or less than `fits`."""
        seen = {(fit.recipe, fit.domain, fit.num_points) for fit in self.fits}
        found = {(f.recipe, f.domain, f.num_points): f for c in self.contrasts for f in c.fits}
        return tuple(fit for key, fit in found.items() if key not in seen)


def answer(study: Study, tasks: TaskStudy | None = None) -> Answer:
    """Fit every curve, contrast the recipes on every domain, say what came out; of tasks first, if there are any."""
    if tasks is None:
        return _of_losses(study)
    found = analysed(tasks)
    headline, caveats = headline_of_tasks(found), tuple(words.caveats(found))
    if not study.points:
        return Answer(headline, None, None, (), (), caveats, downstream=found)
    if not _compares_losses(study):
        said = (*caveats, *run_caveats(study), *exposure_caveats(study))
        return Answer(headline, None, None, (), (), said, downstream=found)
    losses = _of_losses(study, beside_tasks=True)
    headline = say("{tasks} Of the loss: {loss}", tasks=headline, loss=losses.headline)
    return replace(losses, headline=headline, caveats=(*caveats, *losses.caveats), downstream=found)


def _compares_losses(study: Study) -> bool:
    """Whether a loss can be held against another: of one recipe at one size there is nothing to say."""
    on_target = [point for point in study.points if point.domain == study.target]
    return len({point.tokens for point in on_target}) > 1 or len(study.recipes) > 1


def _of_losses(study: Study, beside_tasks: bool = False) -> Answer:
    fits, by_label = [], {recipe.label: recipe for recipe in study.recipes}
    for domain in study.domains:
        for recipe in by_label.values():
            if points := study.points_of(recipe.label, domain):
                fits.append(fit_power_law(points, noise_of(study, recipe, domain)))
    if (check := lr_check(study)) is None:
        found = [c for domain in study.domains for c in contrasts(study, domain)]
    else:  # at one learning rate each: across them a contrast would be of the data and of the learning rate
        pairs = [(by_label[a], by_label[b]) for a, b in check.matched]
        found = [compare(study, a, b, domain) for domain in study.domains for a, b in pairs]
    on_target = [c for c in found if c.domain == study.target]
    fits_on_target = [fit for fit in fits if fit.domain == study.target]
    ranking = rank(study)
    headline, main = headline_of(study, fits_on_target, on_target, ranking)
    if check is not None:
        headline = check.headline
    test = test_sentence(study, fits_on_target)
    caveats = tuple(find_caveats(study, fits, found, beside_tasks))
    dose = dose_response(study) if check is None else None  # a learning rate is no dose of anything
    return Answer(headline, test, main, tuple(fits), tuple(found), caveats, dose, ranking, check)
