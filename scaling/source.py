"""Where text comes from: the Python installation, local files, the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scaling.part import Part


class Embedded(Part):
    """Text that the Python installation already holds: docstrings, source code or licences."""

    kind: Literal["embedded"] = "embedded"
    part: Literal["docs", "code", "legal"]


class Local(Part):
    """Local files: jsonl, json, csv, parquet or txt, also compressed; a file, a folder or a glob.

    text, id, group: the columns that hold the text, a stable id, and what must not be split between
    training and validation. Without `id`, the id is the hash of the text.
    unit: what one document of a txt file is.
    encoding: of txt, csv and json files. licence: a note for the data card.
    """

    kind: Literal["local"] = "local"
    path: str = Field(min_length=1)
    unit: Literal["document", "paragraph", "line"] = "document"
    text: str = "text"
    id: str | None = None
    group: str | None = None
    encoding: str = "utf-8"
    licence: str | None = None


class Hub(Part):
    """A dataset of the Hugging Face hub. `revision` is pinned to a commit before the first run."""

    kind: Literal["hub"] = "hub"
    repo: str = Field(min_length=1)
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    text: str = "text"
    id: str | None = None
    group: str | None = None
    max_documents: int | None = Field(default=None, ge=1)
    licence: str | None = None


Source = Annotated[Embedded | Local | Hub, Field(discriminator="kind")]

SOURCES: dict[str, type[Embedded] | type[Local] | type[Hub]] = {"embedded": Embedded, "local": Local, "hub": Hub}
