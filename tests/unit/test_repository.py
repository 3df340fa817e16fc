"""What is in the repository can be read, installed and run anywhere, by anyone."""

import ast
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Folders of code that are not installed.
NOT_PACKAGED = ("tests", "benchmarks")

# Brackets keep these patterns from matching themselves.
UNWANTED = {
    "a path of one machine": r"(?<![\w.~-])/(?:[w]ork|[r]oot|[h]ome/\w+|opt/[w]heels)/",
    "the host of a package registry": r"[p]ypi\.org|[p]ythonhosted|[n]pmjs\.|deb\.[d]ebian\.org",
    "who or what wrote it": r"(?i)[c]laude|[a]nthropic|[c]hatgpt|[c]opilot|\b(ai|code) [a]ssistant",
    "how it came about": r"(?i)\b(?:this|coding|previous) [s]ession\b",
}


@cache
def texts() -> dict[str, str]:
    """Path → content, of every text file that is tracked or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file():
            try:
                found[name] = path.read_text("utf-8")
            except UnicodeDecodeError:  # a picture
                continue
    return found


@cache
def setuptools() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages() -> set[str]:
    """As patterns: `pipeline*` is a package with all below it."""
    return set(setuptools()["packages"]["find"]["include"])


@pytest.mark.parametrize("kind", UNWANTED)
def test_no_file_holds(kind):
    pattern = re.compile(UNWANTED[kind])

    held = [
        f"{name}: {match.group()}"
        for name, text in texts().items()
        for match in pattern.finditer(text)
    ]

    assert not held


def test_every_package_is_listed_and_says_what_it_is_for():
    folders = {
        str(Path(name).parent).replace("/", ".")
        for name in texts()
        if name.endswith(".py") and "/" in name and not name.startswith(NOT_PACKAGED)
    }

    assert {f"{folder.split('.')[0]}*" for folder in folders} == packages()
    for folder in folders:
        source = texts()[f"{folder.replace('.', '/')}/__init__.py"]
        assert ast.get_docstring(ast.parse(source)), folder


def test_files_that_are_not_code_are_packaged():
    """Without this, an editable install works and the image does not."""
    globs = {
        f"{package.replace('.', '/')}/{pattern}"
        for package, patterns in setuptools()["package-data"].items()
        for pattern in patterns
    }
    roots = tuple(f"{package.removesuffix('*')}/" for package in packages())
    data = {name for name in texts() if name.startswith(roots) and not name.endswith(".py")}

    assert {name for name in data if not any(fnmatch(name, glob) for glob in globs)} == set()


def test_every_row_of_the_parity_table_names_tests_that_are_there():
    defined = "".join(text for name, text in texts().items() if name.startswith("tests/"))
    rows = [line for line in (ROOT / "docs/parity.md").read_text().splitlines() if "| `" in line]
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row) + re.findall(r"`(tests/[\w/.]+)`", row)
        assert named, row
        for name in named:
            assert f"def {name}(" in defined or name in texts(), row
