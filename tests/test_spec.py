"""RunSpec: its file, its identity, its atomic writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import SpecMaker
from pydantic import ValidationError

from scaling import identity
from scaling.files import write_json
from scaling.identity import fingerprint
from scaling.spec import RunSpec, read_spec, write_spec


def test_a_spec_survives_its_file(tmp_path: Path, spec: SpecMaker) -> None:
    tiny_spec = spec()
    write_spec(tmp_path / "spec.json", tiny_spec)
    assert read_spec(tmp_path / "spec.json") == tiny_spec
    assert fingerprint(read_spec(tmp_path / "spec.json")) == fingerprint(tiny_spec)


def test_a_spec_cannot_be_changed(spec: SpecMaker) -> None:
    tiny_spec = spec()
    with pytest.raises(ValidationError, match="frozen"):
        tiny_spec.budget.num_tokens = 1  # type: ignore[misc]


def test_a_change_of_results_is_a_change_of_identity(spec: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_spec = spec()
    before = fingerprint(tiny_spec)
    monkeypatch.setattr(identity, "RESULTS_VERSION", 999)
    assert fingerprint(tiny_spec) != before


def test_the_order_of_filters_is_identity(spec: SpecMaker) -> None:
    def with_filters(*kinds: str) -> RunSpec:
        tree = spec().model_dump(mode="json")
        tree["recipe"]["filters"] = [{"kind": kind} for kind in kinds]
        return RunSpec.model_validate(tree)

    one_way = with_filters("gopher_quality", "gopher_repetition")
    other_way = with_filters("gopher_repetition", "gopher_quality")
    assert fingerprint(one_way) != fingerprint(other_way)


def test_what_changes_nothing_is_no_identity(spec: SpecMaker) -> None:
    def changed(**recipe: Any) -> RunSpec:
        tree = spec().model_dump(mode="json")
        tree["recipe"] |= recipe
        return RunSpec.model_validate(tree)

    plain = fingerprint(spec())
    all_of_it = {"scorer": {"kind": "heuristic"}, "keep_frac": 1.0}
    no_harm = [{"kind": "ocr_noise", "document_frac": 0.0, "char_rate": 0.1}, {"kind": "duplicates", "frac": 0.0}]
    assert fingerprint(changed(quality=all_of_it)) == plain
    assert fingerprint(changed(degraders=no_harm)) == plain
    assert fingerprint(changed(quality={**all_of_it, "keep_frac": 0.9})) != plain
    assert fingerprint(changed(degraders=[{**no_harm[0], "document_frac": 0.1}])) != plain


def test_a_reference_that_nothing_reads_is_no_identity(spec: SpecMaker) -> None:
    tree = spec().model_dump(mode="json")
    tree["recipe"]["corpus"]["references"] = {"test": {"kind": "local", "path": "test.jsonl"}}
    tree["content"]["test"] = "0" * 64
    unused = RunSpec.model_validate(tree)
    tree["recipe"]["decontamination"] = {"kind": "ngram", "tests": ["test"]}
    used = RunSpec.model_validate(tree)
    assert fingerprint(unused) == fingerprint(spec())
    assert fingerprint(used) != fingerprint(spec())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"state": "running"}
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]
