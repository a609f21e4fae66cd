"""Rows for the declared extra figure "+ gold, in-domain": a tenth of MMLU to adapt with, the rest to measure on.

    python -m research.gold --output gold
    routellm train mf --from default --data gold/gold_train.jsonl --test gold/gold_test.jsonl --output gold/static \
        --strong-model gpt-4-1106-preview --weak-model mixtral-8x7b-instruct-v0.1

The split is the shared data's own (``optional_gold_split.csv``). Rows that RouteLLM lists as contaminated are left out.
Nothing that ships is trained on these rows.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Final

from research.pool import shared_folder
from routellm_core._optional import import_extra

__all__ = ["main", "write_gold_rows"]

logger = logging.getLogger(__name__)
_FILES: Final = {"gold_train": "gold_train.jsonl", "test": "gold_test.jsonl"}
_QUALITY: Final = {"gpt-4-1106-preview": "strong", "mistralai/Mixtral-8x7B-Instruct-v0.1": "weak"}


def write_gold_rows(output: Path, *, folder: Path | None = None) -> dict[str, int]:
    """Write both splits as strong/weak rows.

    Args:
        output: the folder to write, created if need be.
        folder: the benchmark files; ``data/routellm_benchmarks`` of the shared folder by default.

    Returns:
        rows by file name.
    """
    pandas = import_extra("pandas", extra="train", purpose="Reading the benchmarks")
    folder = shared_folder() / "data" / "routellm_benchmarks" if folder is None else folder
    split = pandas.read_csv(folder / "optional_gold_split.csv").set_index("prompt_id")["fold"]
    mmlu = pandas.read_parquet(folder / "mmlu.parquet")
    mmlu = mmlu[~mmlu["contaminated"]].rename(columns=_QUALITY)
    fold = mmlu["prompt_id"].map(split)
    output.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, file in _FILES.items():
        rows = mmlu.loc[fold == name, ["prompt", "strong", "weak"]].assign(licence="MIT")
        rows.to_json(output / file, orient="records", lines=True)
        counts[file] = len(rows)
    return counts


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the rows of the declared in-domain figure.")
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args(arguments).output
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for file, rows in write_gold_rows(output).items():
        logger.info("%s: %d rows", file, rows)


if __name__ == "__main__":
    main()
