"""Compression begins where fine-tuning ends: its bench is theirs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "finetune"))
