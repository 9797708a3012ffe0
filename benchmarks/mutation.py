"""Mutation score of the promotion package (mutmut): which changes of one operator, number or text do its tests notice?

``python -m benchmarks.mutation --comparisons`` plays the mutants whose comparison operators differ from the original,
``--sample 200`` a random sample of all, without either every mutant that has not been played. ``--seconds`` ends the
run in time; what is left is played next time. Run it in a checkout of its own: mutmut writes ``mutants/`` there.
Its configuration stands in ``pyproject.toml``.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

PACKAGE = Path("mutants/health_pipeline/promotion")
KILLED, SURVIVED, NO_TESTS = (1, 3), (0,), (5, 33)
"""Exit codes of mutmut; every other one is a time limit."""


def comparisons(module: Path) -> list[str]:
    """Mutants of a module that differ from their original in a comparison operator."""
    functions = {
        node.name: node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }
    found = []
    for name, node in functions.items():
        original = functions.get(re.sub(r"__mutmut_\d+$", "__mutmut_orig", name))
        if original is not None and not name.endswith("_orig") and _operators(node) != _operators(original):
            found.append(f"health_pipeline.promotion.{module.stem}.{name}")
    return found


def _operators(function: ast.FunctionDef) -> list[str]:
    compares = (node for node in ast.walk(function) if isinstance(node, ast.Compare))
    return [type(operator).__name__ for compare in compares for operator in compare.ops]


def results() -> dict[str, int | None]:
    """Exit code of every mutant by name; None where it has not been played."""
    found: dict[str, int | None] = {}
    for file in sorted(PACKAGE.glob("*.meta")):
        found.update(json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"])
    return found


def play(names: list[str], seconds: float | None) -> None:
    """Let mutmut play some mutants, for some time."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # with the mutant at play; results so far are on disk
        process.wait()


def show(chosen: set[str]) -> None:
    """Score by module."""
    print("| module | mutants | played | killed | timed out | survived | no test |\n|---|---|---|---|---|---|---|")
    rows: dict[str, Counter[str]] = {}
    for name, code in results().items():
        if name in chosen:
            rows.setdefault(name.split(".")[2], Counter()).update(["mutants", _verdict(code)])
    rows["all"] = sum(rows.values(), Counter())
    for module, counts in rows.items():
        played = counts["mutants"] - counts["not played"]
        cells = (counts["mutants"], played, *(counts[word] for word in ("killed", "timed out", "survived", "no test")))
        print(f"| `{module}` | " + " | ".join(map(str, cells)) + " |")
    for name, code in results().items():
        if name in chosen and code is not None and code in (*SURVIVED, *NO_TESTS):
            print(f"{_verdict(code)}: {name}")


def _verdict(code: int | None) -> str:
    if code is None:
        return "not played"
    named = ((KILLED, "killed"), (SURVIVED, "survived"), (NO_TESTS, "no test"))
    return next((word for codes, word in named if code in codes), "timed out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", action="store_true", help="only mutants of comparison operators")
    parser.add_argument("--sample", type=int, help="only so many, drawn at random")
    parser.add_argument("--module", default="*", help="only mutants of this module")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    arguments = parser.parse_args()
    if not results():
        play(["health_pipeline.promotion.policy.x_policy_of__mutmut_1"], None)  # writes all mutants
    everything = set(results())
    chosen = (
        {name for file in PACKAGE.glob("*.py") for name in comparisons(file)} if arguments.comparisons else everything
    )
    if arguments.sample:
        chosen = set(random.Random(0).sample(sorted(chosen), arguments.sample))
    if arguments.module != "*":
        chosen = {name for name in chosen if name.split(".")[2] == arguments.module}
    left = sorted(name for name in chosen if results().get(name) is None)
    if left:
        play(left, arguments.seconds)
    show(chosen)


if __name__ == "__main__":
    main()
