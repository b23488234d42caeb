"""The list of planted bugs fits the library as it is, and no known trap is missing from it."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MUTANTS = tomllib.loads((TESTS / "mutants.toml").read_text(encoding="utf-8"))["mutant"]
TRAPS = range(1, 35)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant["bug"])
def test_a_planted_bug_has_its_place_and_its_test(mutant: dict[str, str]) -> None:
    text = (TESTS.parent / mutant["file"]).read_text(encoding="utf-8")
    assert text.count(mutant["old"]) == 1
    assert mutant["old"] != mutant["new"]
    path, *names = mutant["test"].split("::")
    tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
    assert {name.partition("[")[0] for name in names} <= defined


def test_every_known_trap_is_planted_and_stands_in_the_table() -> None:
    planted = {int(mutant["trap"]) for mutant in MUTANTS if mutant["trap"]}
    table = (TESTS / "README.md").read_text(encoding="utf-8").partition("## Known traps")[2]
    rows = dict(re.findall(r"^\| (\d+) \|(.*)$", table, re.MULTILINE))
    assert planted == set(TRAPS) == set(map(int, rows))
    for mutant in MUTANTS:
        if mutant["trap"]:
            assert mutant["test"].removeprefix("tests/") in rows[mutant["trap"]]
