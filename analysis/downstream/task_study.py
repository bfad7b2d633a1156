"""The fine-tunings and compressions of a study: read, labelled by what their pretraining differed in, ordered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.downstream.task_facts import task_run_of
from analysis.downstream.task_run import TaskRun
from analysis.page.labels import canonical, count_text, differing, value_text
from analysis.page.language import say
from analysis.runs.logs import AnalysisError
from analysis.runs.points import Study
from analysis.runs.recipes import NOT_RECIPE, Recipe, flatten, group_recipes
from analysis.runs.records import Logs, of_one_version
from analysis.runs.run import Exposure, Ledger, Run

SCRATCH = "from scratch"
CHECKPOINT = "from a checkpoint"


@dataclass(frozen=True, eq=False)  # told apart by identity, as a Study
class TaskStudy:
    """All fine-tunings and compressions of a study.

    runs: complete fine-tunings, each once. compressions: complete ones. failed: what else began. recipes: of the
    pretraining, the reference first. recipe_of: the label by the canonical spec of a parent. base_of: by the label of a
    recipe or of a start without pretraining, what must be equal for the two to be compared: model and tokenizer.
    """

    name: str
    question: str
    tasks: tuple[str, ...]
    runs: tuple[TaskRun, ...]
    compressions: tuple[TaskRun, ...]
    failed: tuple[TaskRun, ...]
    recipes: tuple[Recipe, ...]
    line_of: Mapping[str, str]
    base_of: Mapping[str, str]
    method_of: Mapping[str, str]
    compress_of: Mapping[str, str]
    warnings: tuple[str, ...]

    def line(self, run: TaskRun) -> str:
        """The label of what a run began from: a recipe, or a start without pretraining."""
        return self.line_of[run.fingerprint]

    def starts(self, start: str) -> tuple[str, ...]:
        """The labels of what the complete runs of one kind of start began from."""
        there = {self.line(run) for run in self.runs if run.start == start}
        order = [recipe.label for recipe in self.recipes]
        return tuple(sorted(there, key=lambda label: (order.index(label) if label in order else -1, label)))

    def metric(self, task: str) -> str:
        """The metric that decides."""
        return next(run.metric for run in self.runs if run.task == task)


def task_study(logs: Logs) -> TaskStudy | None:
    """The children among logs; None where there are none, or none is complete beside a study of losses.

    Raises AnalysisError where there is nothing else and none is complete.
    """
    warnings: list[str] = []
    found: dict[str, TaskRun] = {}
    runs = sorted(map(task_run_of, logs.children), key=lambda r: (r.state != "complete", r.is_linked, r.name, r.run_id))
    for run in runs:  # the same work logged twice is one run
        found.setdefault(run.fingerprint, run)
    complete = [run for run in found.values() if run.state == "complete"]
    tuned = of_one_version([run for run in complete if run.compressed is None], warnings)
    if not tuned:
        if logs.children and not logs.runs:
            states = Counter(run.state for run in found.values())
            told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            raise AnalysisError(f"none of the {len(found)} fine-tunings is complete ({told})")
        return None
    compressions = of_one_version([run for run in complete if run.compressed is not None], warnings)
    parents = {_bare(run): run for run in reversed(tuned)} if compressions else {}
    compressions = tuple(_joined(run, parents) for run in compressions)
    failed = tuple(run for run in found.values() if run.state != "complete")
    every = (*tuned, *compressions, *failed)
    about = Counter(json.dumps(run.spec["study"], sort_keys=True) for run in tuned)
    study = logs.study or json.loads(min(about, key=lambda text: (-about[text], text)))
    recipes, recipe_of = _recipes(every, logs.runs, str(study["target"]))
    lines, bases = _lines(every, recipe_of)
    methods = {canonical(run.spec["method"]): run.spec["method"] for run in every}
    said = {key: method_label(method, list(methods.values())) for key, method in methods.items()}
    parts = {canonical(run.compressed.part): run.compressed.part for run in every if run.compressed}
    return TaskStudy(
        name=str(study["name"]),
        question=str(study["question"]),
        tasks=tuple(sorted({run.task for run in tuned})),
        runs=tuple(
            sorted(tuned, key=lambda r: (r.task, lines[r.fingerprint], r.tokens, r.labels or 0, r.seed, r.name))
        ),
        compressions=tuple(sorted(compressions, key=lambda r: (r.task, r.name, r.run_id))),
        failed=tuple(sorted(failed, key=lambda r: (r.task, r.name, r.run_id))),
        recipes=recipes,
        line_of=lines,
        base_of=bases,
        method_of={run.fingerprint: said[canonical(run.spec["method"])] for run in every},
        compress_of={
            run.fingerprint: compress_label(run.compressed.part, list(parts.values()))
            for run in every
            if run.compressed
        },
        warnings=tuple(warnings),
    )  # fmt: skip


def study_of_tasks(tasks: TaskStudy) -> Study:
    """A study that holds no pretraining of its own: what a report is of, without a curve of a loss."""
    return Study(
        name=tasks.name, question=tasks.question, target="", match="", hold_out=0, recipes=(), domains=(), runs=(),
        recipe_of={}, points=(), warnings=(),
    )  # fmt: skip


def _joined(run: TaskRun, tuned: Mapping[str, TaskRun]) -> TaskRun:
    """A compression with what the fine-tuning that it goes back to knows. tuned: by what each is."""
    parent = tuned.get(_bare(run))
    if parent is None:
        return run
    return replace(run, labels=run.labels or parent.labels, origin=run.origin or parent.origin)


def _bare(run: TaskRun) -> str:
    """What a fine-tuning is, without what changes no number."""
    spec = {key: value for key, value in run.spec.items() if key not in NOT_RECIPE}
    spec["parent"] = {key: value for key, value in run.parent.items() if key not in set(NOT_RECIPE) - {"seeds"}}
    return canonical(spec)


# ---- what runs began from ----------------------------------------------------------------------------


def _recipes(
    runs: Sequence[TaskRun], pretraining: Sequence[Run], target: str
) -> tuple[tuple[Recipe, ...], dict[str, str]]:
    """The recipes of the pretraining, and the label of each by the canonical spec of a parent.

    The runs of pretraining that lie beside are grouped with them, so that a recipe has one label in a report.
    """
    parents: dict[str, Run] = {}
    for run in runs:
        key = canonical(run.parent)
        if run.start == "pretrained" and (key not in parents or parents[key].ledger is None):
            parents[key] = _parent(run, key)
    if not parents:
        return (), {}
    recipes, label_of = group_recipes([*pretraining, *parents.values()], target)
    used = {label_of[key] for key in parents}
    return tuple(r for r in recipes if r.label in used), {key: label_of[key] for key in parents}


def _parent(run: TaskRun, key: str) -> Run:
    """The pretraining of a run, as far as its child knows it."""
    origin, ledger = run.origin, None
    if origin is not None:
        domains = {
            name: Exposure(seen.weight, seen.realised_weight, seen.tokens, seen.unique_tokens,
                           seen.tokens / max(1, seen.unique_tokens), 0, {})
            for name, seen in origin.domains.items()
        }  # fmt: skip
        ledger = Ledger(origin.tokens, origin.unique_tokens, 0, domains)
    return Run(
        run_id="", name=str(run.parent.get("name", "")), fingerprint=key, spec=run.parent, num_params=run.num_params,
        flops_per_token=0.0, environment={}, state="complete", error=None, points=(), ledger=ledger,
    )  # fmt: skip


def _lines(runs: Sequence[TaskRun], recipe_of: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What each run began from, by fingerprint; and the base of each such label."""
    bases = {run.fingerprint: _base(run) for run in runs}
    sizes = {bases[run.fingerprint]: run.num_params for run in runs}
    alike = {
        start: sorted({bases[run.fingerprint] for run in runs if run.start == start})
        for start in ("initial", "checkpoint")
    }
    lines: dict[str, str] = {}
    for run in runs:
        if run.start == "pretrained":
            lines[run.fingerprint] = recipe_of[canonical(run.parent)]
            continue
        name = CHECKPOINT if run.start == "checkpoint" else SCRATCH
        if len(alike[run.start]) > 1:
            same_size = [base for base in alike[run.start] if sizes[base] == run.num_params]
            name += f", N = {count_text(run.num_params)}"
            place = same_size.index(bases[run.fingerprint])
            name += f" (#{place + 1})" if len(same_size) > 1 else ""
        lines[run.fingerprint] = name
    return lines, {lines[run.fingerprint]: bases[run.fingerprint] for run in runs}


def _base(run: TaskRun) -> str:
    """What a model is before its first step, but for the seed: it decides what "from scratch" is compared with."""
    parent = run.parent
    batch = parent.get("batch") or {}
    return canonical(
        [parent.get("model"), parent.get("tokenizer"), (parent.get("objective") or {}).get("kind"),
         batch.get("sequence_length")]
    )  # fmt: skip


# ---- words -------------------------------------------------------------------------------------------


ADAPTATIONS = {
    "full": "full",
    "head": "head only",
    "top_layers": "top layers",
    "lora": "LoRA",
    "adalora": "AdaLoRA",
    "prefix": "prefix",
    "adapter": "adapter",
}
COMPRESSIONS = {
    "magnitude": "pruned",
    "heads": "heads cut",
    "int8_weights": "int8 weights",
    "int8_dynamic": "int8 dynamic",
    "distillation": "distilled",
}


def method_label(method: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> str:
    """How a model was adapted, in a few words: which weights, then whatever differs between the methods of a study."""
    kind = dict(method["adaptation"])  # type: ignore[call-overload]
    adaptations = [dict(other["adaptation"]) for other in others]  # type: ignore[call-overload]
    words = [ADAPTATIONS.get(kind["kind"], str(kind["kind"]))]
    words += [f"{name} {value}" for name, value in differing(kind, adaptations)]
    leaves = [dict(flatten({k: v for k, v in other.items() if k != "adaptation"})) for other in others]
    own = dict(flatten({k: v for k, v in method.items() if k != "adaptation"}))
    for path, value in own.items():
        if len({canonical(other.get(path)) for other in leaves}) > 1:
            words.append(f"{path.removesuffix('.kind')} {value_text(value)}")
    return ", ".join(words)


def compress_label(part: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> str:
    """How a model was made smaller, in a few words."""
    kind = str(part["kind"])
    told = [f"{name} {value}" for name, value in differing(part, others)]
    frac = [f"{100 * float(str(part['frac'])):g} %"] if "frac" in part else []
    told = [word for word in told if not word.startswith("frac ")]
    return ", ".join([" ".join([COMPRESSIONS.get(kind, kind.replace("_", " ")), *frac]), *told])


def start_text(label: str) -> str:
    """A start without pretraining in the language of the report; the label of a recipe as it is."""
    for name, said in ((SCRATCH, say("from scratch")), (CHECKPOINT, say("from a checkpoint"))):
        if label.startswith(name):
            return said + label.removeprefix(name)
    return label
