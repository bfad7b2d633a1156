"""What a model is fine-tuned on: a labelled task, where its rows come from, and which columns mean what.

Each kind of task is one class here, and one module of `scaling.finetune.kinds` that says how its rows are encoded,
which head learns them and how its answers are scored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from scaling.part import Name, Part

Column = Annotated[str, Field(min_length=1)]
"""A column of the rows; `translation.en` is the field `en` of a column that holds a mapping."""

# ---- where rows come from ------------------------------------------------------------------------------


class LocalRows(Part):
    """Files of one format: jsonl, json (SQuAD's too), csv, tsv, parquet or conll, also compressed; each a path or glob.

    A split without a file is cut from `train`, by the seed of the task.
    """

    kind: Literal["local"] = "local"
    train: str = Field(min_length=1)
    validation: str | None = None
    test: str | None = None
    encoding: str = "utf-8"


class HubRows(Part):
    """A dataset of the Hugging Face hub. `revision` is pinned to a commit before the first run.

    train, validation, test: the names of its splits; None: cut from `train`.
    """

    kind: Literal["hub"] = "hub"
    repo: str = Field(min_length=1)
    config: str | None = None
    revision: str | None = None
    train: str = "train"
    validation: str | None = "validation"
    test: str | None = "test"


class EmbeddedRows(Part):
    """Tasks that the Python installation already holds the rows of.

    library: which library a docstring belongs to. python_tokens: the kind of each token of source code, by `tokenize`.
    """

    kind: Literal["embedded"] = "embedded"
    part: Literal["library", "python_tokens"]


ROWS: dict[str, type[LocalRows] | type[HubRows] | type[EmbeddedRows]] = {
    "local": LocalRows,
    "hub": HubRows,
    "embedded": EmbeddedRows,
}


def _of_one_kind(rows: Any) -> Any:
    """Rows without the keys of other kinds: a task file names its dataset on the hub, and where a command line says
    `task.rows.kind=local`, the name is left over."""
    kind = ROWS.get(str(rows.get("kind"))) if isinstance(rows, dict) else None
    if kind is None:
        return rows
    foreign = {field for other in ROWS.values() for field in other.model_fields} - kind.model_fields.keys()
    return {field: value for field, value in rows.items() if field not in foreign}


Rows = Annotated[LocalRows | HubRows | EmbeddedRows, Field(discriminator="kind"), BeforeValidator(_of_one_kind)]

# ---- how they are split --------------------------------------------------------------------------------


class Splitting(Part):
    """How splits that are not given are cut from the training rows, and what is done about rows that two splits share.

    group: a column whose rows stay together. overlap: training rows whose text is in validation or test are counted
    (`report`), or counted and left out (`remove`).
    """

    validation_frac: float = Field(default=0.1, gt=0, lt=1)
    test_frac: float = Field(default=0.1, gt=0, lt=1)
    group: Column | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    overlap: Literal["report", "remove"] = "report"


class Task(Part):
    """What all kinds have in common; abstract.

    languages are not told apart: the tokenizer is that of the model.
    metric: the one that decides, for early stopping and in the report; None: the usual one of the kind.
    """

    name: Name
    rows: Rows
    splitting: Splitting = Splitting()
    metric: str | None = None


Labels = tuple[str, ...] | str | None
"""The names of the labels in their order, or a file that lists them (JSON, or one a line).

None: as the hub's feature or the training rows have them, sorted.
"""


class Alert(Part):
    """A label that somebody is to be alerted of: its threshold is the least one that reaches `min_precision` on
    validation, and what it then finds and misses is measured on test."""

    label: str
    min_precision: float = Field(gt=0, le=1)


class Classification(Task):
    """One label of a text, or of two texts that belong together (`second`): sentiment, topic, intent, entailment,
    matching."""

    kind: Literal["classification"] = "classification"
    text: Column = "text"
    second: Column | None = None
    label: Column = "label"
    labels: Labels = None
    alert: Alert | None = None


class Similarity(Task):
    """A score of two texts (GLUE's STS-B); measured by Pearson's and Spearman's correlation."""

    kind: Literal["similarity"] = "similarity"
    text: Column = "text"
    second: Column = "second"
    score: Column = "score"


class TokenClassification(Task):
    """A label of each word; entities in BIO, or, with `is_bio=False`, labels that stand alone.

    A word of several tokens is labelled at its first.
    """

    kind: Literal["tokens"] = "tokens"
    tokens: Column = "tokens"
    tags: Column = "tags"
    labels: Labels = None
    is_bio: bool = True


class QuestionAnswering(Task):
    """Extractive: the answer is a span of the context (Rajpurkar et al. 2016), flat or as SQuAD nests it.

    Contexts longer than the model's are read in windows that overlap by `stride` tokens, half a window at most.
    has_unanswerable: some questions have no answer in their context, and to say so is right (SQuAD 2); where it is not
    set, a question without an answer is an error.
    """

    kind: Literal["qa"] = "qa"
    question: Column = "question"
    context: Column = "context"
    answers: Column = "answers"
    stride: int = Field(default=64, ge=0)
    max_answer_tokens: int = Field(default=30, ge=1)
    has_unanswerable: bool = False
    is_by_character: bool = False  # words of Chinese answers are characters (CMRC's own F1)


class Generation(Task):
    """A text made from another: summarisation, translation. The loss is of the target alone.

    target: a column that holds a text, or a list of texts that are all right. separator: what stands between source
    and target, for a decoder alone. tokenize: how sacreBLEU splits words; for ROUGE, zh takes characters.
    """

    kind: Literal["generation"] = "generation"
    source: Column = "source"
    target: Column = "target"
    separator: str = "\n\n"
    max_target_tokens: int = Field(default=64, ge=1)
    num_beams: int = Field(default=1, ge=1)
    tokenize: Literal["13a", "zh", "char"] = "13a"


AnyTask = Annotated[
    Classification | Similarity | TokenClassification | QuestionAnswering | Generation, Field(discriminator="kind")
]

KINDS: dict[str, type[Task]] = {
    "classification": Classification,
    "similarity": Similarity,
    "tokens": TokenClassification,
    "qa": QuestionAnswering,
    "generation": Generation,
}

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro", "mcc"),
    "similarity": ("pearson", "spearman"),
    "tokens": ("f1", "precision", "recall", "accuracy"),
    "qa": ("f1", "exact_match"),
    "generation": ("rouge_l", "rouge_1", "rouge_2", "bleu", "chrf"),
}
"""What is measured of each kind, the usual deciding one first: shares from 0 to 1; correlations from -1 to 1."""


def metric_of(task: AnyTask) -> str:
    """The metric that decides."""
    return task.metric or METRICS[task.kind][0]


def check_metric(task: AnyTask) -> None:
    """ValueError if a task names a metric that its kind does not have."""
    if task.metric is not None and task.metric not in METRICS[task.kind]:
        raise ValueError(f"task.metric must be one of {list(METRICS[task.kind])}, got {task.metric!r}")
