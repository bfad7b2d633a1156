"""Documents of a dataset of the Hugging Face hub, streamed through `datasets`, which is imported on first use."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from scaling.data.rows import InputError, check_columns, first_line, to_document, wanted_columns
from scaling.document import Document
from scaling.source import Hub

COMMIT = re.compile(r"[0-9a-f]{40}")
CONVERTED = "refs/convert/"
"""Where the hub keeps what it has converted to Parquet: one folder per config, and no README to say so."""

ROWS_AT_ONCE = 256


def pin(source: Hub) -> Hub:
    """The source with its revision resolved to a commit; one that is a commit already needs no network."""
    if source.revision is not None and COMMIT.fullmatch(source.revision):
        return source
    from huggingface_hub import HfApi

    wanted = source.revision or "main"
    try:
        commit = HfApi().dataset_info(source.repo, revision=wanted).sha
        converted = wanted.startswith(CONVERTED) and source.config is None
        files = HfApi().list_repo_files(source.repo, repo_type="dataset", revision=commit) if converted else []
    except Exception as error:  # the hub has no error of its own for "cannot be reached"
        raise ValueError(
            f"repo={source.repo!r} revision={wanted!r} cannot be resolved ({first_line(error)}): "
            "give a revision of 40 hex digits, or a network"
        ) from error
    configs = sorted({file.split("/")[0] for file in files if "/" in file})
    if len(configs) > 1:  # read together they would be one domain of all languages
        raise ValueError(
            f"repo={source.repo!r} revision={wanted!r} has several configs: wanted config to be one of {configs}"
        )
    return source.model_copy(update={"revision": commit})


def read_hub(domain: str, source: Hub) -> Iterator[Document]:
    """The documents of a split in order, max_documents at most. Raises ValueError of one line."""
    number = 0
    try:
        for number, row in enumerate(_rows(source), start=1):
            yield to_document(domain, source, row)
            if number == source.max_documents:
                return
    except InputError as error:
        at = f"row {number} " if number else ""
        raise ValueError(f"repo={source.repo!r} {at}{error}") from None
    except Exception as error:
        raise ValueError(f"repo={source.repo!r} cannot be read: {first_line(error)}") from error


def _rows(source: Hub) -> Iterator[dict[str, Any]]:
    table = open_table(source.repo, source.config, source.split, source.revision)
    if table.column_names is not None:
        check_columns(wanted_columns(source), table.column_names)
        table = table.select_columns(wanted_columns(source))
    for batch in table.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        check_columns(wanted_columns(source), batch.column_names)
        yield from batch.to_pylist()


def open_table(repo: str, config: str | None, split: str, revision: str | None) -> Any:
    """A streamed `datasets.IterableDataset`; a row group of Parquet is in memory at a time."""
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs what it raises
    named = _config(repo, config, revision)
    return datasets.load_dataset(repo, split=split, revision=revision, streaming=True, **named)


def _config(repo: str, config: str | None, revision: str | None) -> dict[str, str]:
    """Where a README names the configs, one of them; else the folder of that name."""
    import datasets

    if config is None:
        return {}
    configs = datasets.get_dataset_config_names(repo, revision=revision)
    is_folder = configs == ["default"] and config not in configs
    return {"data_dir" if is_folder else "name": config}
