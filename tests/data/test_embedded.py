"""The embedded corpus is real text, drawn without importing what it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scaling.data import embedded
from scaling.data.embedded import split_module, texts

MODULE = '''# Copyright by nobody
"""Module docs."""
import os  # kept

TEXT = """
# not a comment
"""


class A:
    """Class docs.

        Indented.
    """

    # a comment
    def f(self): "inline docs stay"

    def g(self):
        r"""Function docs."""
        return 1
'''


def test_docs_and_code_of_a_module_are_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    parts = split_module(path)
    assert parts["docs"] == "Module docs.\n\nClass docs.\n\nIndented.\n\ninline docs stay\n\nFunction docs."
    assert parts["code"] == (
        'import os  # kept\n\nTEXT = """\n# not a comment\n"""\n\nclass A:\n\n'
        '    def f(self): "inline docs stay"\n\n    def g(self):\n        return 1'
    )


def test_a_file_that_is_not_python_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(b"print 'two'\n")
    assert split_module(path) == {}
    path.write_bytes(b"\xff\xfe\x00")
    assert split_module(path) == {}


@pytest.fixture
def few_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MAX_CHARACTERS", {"docs": 100_000, "code": 100_000, "legal": 50_000})
    embedded._modules.cache_clear()
    embedded._licences.cache_clear()
    yield  # type: ignore[misc]
    embedded._modules.cache_clear()
    embedded._licences.cache_clear()


@pytest.mark.usefixtures("few_modules")
def test_each_part_is_real_text_and_the_same_every_time() -> None:
    for part in ("docs", "code", "legal"):
        first = list(texts(part))
        embedded._modules.cache_clear()
        embedded._licences.cache_clear()
        assert list(texts(part)) == first
        assert sum(len(text) for _, text in first) >= embedded.MAX_CHARACTERS[part]
        assert len({id for id, _ in first}) == len(first)
        for _, text in first:
            text.encode()
    assert any("copyright" in text.lower() for _, text in texts("legal"))
    assert any("def " in text and '"""' not in text for _, text in texts("code"))


def test_other_processes_draw_the_same_and_import_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from scaling.data import embedded; from scaling.identity import digest;"
        "embedded.MAX_CHARACTERS = dict(docs=20_000, code=20_000, legal=20_000);"
        "print([embedded.fingerprint(part) for part in ('docs', 'code', 'legal')],"
        "digest([list(embedded.texts(part)) for part in ('docs', 'code', 'legal')]));"
        "assert not {'torch', 'transformers', 'datasets', 'sympy', 'pandas', 'hydra'} & set(sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)} for seed in "01")
    ]
    assert runs[0] == runs[1]
    monkeypatch.setattr(embedded, "MAX_CHARACTERS", {"docs": 20_000, "code": 20_000, "legal": 20_000})
    assert embedded.fingerprint("docs") in runs[0]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGES", ("no-such-package",))
    embedded._recorded.cache_clear()
    with pytest.raises(ValueError, match="draws on package 'no-such-package', which is not installed"):
        embedded._recorded()
    embedded._recorded.cache_clear()
