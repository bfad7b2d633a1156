"""The import rules of the house, enforced from the source alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("scaling", "analysis")
    for path in sorted((ROOT / package).rglob("*.py"))
}

LAYERS = [
    r"scaling\.(document|files|part|source|tokenizer|hyperparameters|mixture|model|budget|placement)|"
    r"scaling\.(task|method|compression)|"
    r"scaling\.data\.(randomness|(filters|degraders|scorers)\..*)",
    r"scaling\.(recipe|objective)",
    r"scaling\.spec",
    r"scaling\.child",
    r"scaling\.(identity|memory)",
    r"scaling\.record",
    r"scaling\.status",
    r"scaling\.(data\..*|tracking)",
    r"scaling\.ranks",
    r"scaling\.evaluate\..*",
    r"scaling\.train\..*",
    r"scaling\.finetune\..*",
    r"scaling\.compress\..*",
    r"scaling\.(launch|nodes|devices|gates|plan|plan_children|progress)",
    r"scaling\.launchers\..*",
    r"scaling\.(study|away|names|config|config_(children|errors|rules))",
    r"scaling\.__main__",
]
"""From the ground up: a module may import its own layer and those above it in this list."""

OWNERS = {
    "hydra": r"scaling\.(__main__|config)",
    "omegaconf": r"scaling\.(__main__|config)",
    "deepspeed": r"scaling\.train\.zero",
    "wandb": r"scaling\.tracking|analysis\.(runs\.(logs|wandb_file)|publish)",
    "torch": r"scaling\.(train|evaluate|finetune|compress)\..*|scaling\.(launch|ranks|data\.scorers\.transformer)",
    "transformers": r"scaling\.(train|finetune|compress)\..*|scaling\.data\.scorers\.transformer",
    "sklearn": r"scaling\.(data\.scorers\.classifier|evaluate\..*|finetune\.baseline)",
    "seqeval": r"scaling\.evaluate\..*",
    "sacrebleu": r"scaling\.evaluate\..*",
    "rouge_score": r"scaling\.evaluate\..*",
    "nltk": r"scaling\.evaluate\..*",
    "peft": r"scaling\.finetune\.methods.*",
    "torchao": r"scaling\.compress\..*",
    "lingua": r"scaling\.data\.(filters\.language|languages)",
    "submitit": r"scaling\.launchers\.slurm",
    "ray": r"scaling\.launchers\.ray",
    "joblib": r"scaling\.(launch|launchers\..*)",
    "psutil": r"scaling\.nodes",
    "rensa": r"scaling\.data\.near_duplicates",
    "numba": r"analysis\.fitting\.kernel",
    "lightgbm": r"analysis\.mixtures\.regression",
    "wandb_workspaces": r"analysis\.publish_views",
}
"""Who may import a library, besides nobody."""


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function; TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def layer_of(module: str) -> int | None:
    return next((i for i, pattern in enumerate(LAYERS) if re.fullmatch(pattern, module)), None)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("scaling.")])
def test_imports_point_down(module: str) -> None:
    own = layer_of(module)
    if module.endswith("__init__"):
        assert not imports_of(MODULES[module]), "a package's __init__ holds a docstring and nothing else"
        return
    assert own is not None, f"{module} stands in no layer: add it to LAYERS"
    for target in imports_of(MODULES[module]) & MODULES.keys():
        above = layer_of(target)
        assert above is None or above <= own, f"{module} imports {target}, which stands above it"


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_known_to_its_owners_only(library: str) -> None:
    for module, path in MODULES.items():
        uses = any(name == library or name.startswith(f"{library}.") for name in imports_of(path))
        assert not uses or re.fullmatch(OWNERS[library], module), f"{module} imports {library}"


def test_analysis_and_scaling_share_the_spec_and_nothing_else() -> None:
    for module, path in MODULES.items():
        names = imports_of(path)
        if module.startswith("analysis"):
            ours = {name for name in names if name.startswith("scaling")}
            assert all(name.startswith("scaling.spec") for name in ours), f"{module} imports {sorted(ours)}"
        else:
            assert not any(name.startswith("analysis") for name in names), f"{module} imports analysis"


def test_no_room_is_called_utils() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert not [path for path in MODULES.values() if path.stem in forbidden or path.stem.startswith("base_")]


@pytest.mark.parametrize("module", ["scaling.__main__", "scaling.status", "analysis.__main__"])
def test_what_only_plans_or_reads_loads_no_torch(module: str) -> None:
    heavy = ("torch", "transformers", "deepspeed", "wandb", "datasets", "numba")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert printed.stdout.strip() == "[]"
