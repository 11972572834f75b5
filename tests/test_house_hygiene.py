"""What files point at: nothing that exists on one machine only, and in the documents nothing that is not there.

Of one machine only are absolute paths on its disk, and the host of its package index.
"""

from __future__ import annotations

import re

import pytest
from house import ROOT, repository_files

MACHINE_PATH = re.compile(r"(?<![\w.~*/}-])/(?:root|work|home|Users|mnt|opt|tmp|var)/[\w.]")
INDEX_HOST = re.compile(
    r"(?:pypi|pythonhosted|npmjs|download\.pytorch)\.(?:org|com)|https?://[\w.-]*(?:mirror|artifactory)"
)

# This file spells out what it looks for.
OWN_NAME = "tests/test_house_hygiene.py"


def machine_words(text: str) -> list[str]:
    """Return each match with what follows it on its line."""
    matches = [*MACHINE_PATH.finditer(text), *INDEX_HOST.finditer(text)]
    return [text[match.start() :].split()[0] for match in matches]


def test_no_file_names_one_machine() -> None:
    found = {}
    for file in repository_files():
        path, content = file.relative_to(ROOT).as_posix(), file.read_bytes()
        # A zero byte is how git tells a binary file.
        if path != OWN_NAME and b"\0" not in content and (words := machine_words(content.decode("utf-8"))):
            found[path] = words
    assert found == {}


def test_links_of_the_documents_lead_somewhere() -> None:
    broken = []
    for file in repository_files():
        if file.suffix == ".md":
            targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text(encoding="utf-8"))
            broken += [
                f"{file.relative_to(ROOT)}: {target}"
                for target in targets
                if "://" not in target and not (file.parent / target).exists()
            ]
    assert broken == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("see '/root/x'", ["/root/x'"], id="a home folder"),
        pytest.param("cd /tmp/run", ["/tmp/run"], id="a scratch folder"),  # noqa: S108  # only looked for
        pytest.param("model=/home/me/model", ["/home/me/model"], id="behind a sign"),
        pytest.param("pip install --index-url https://pypi.org/simple", ["pypi.org/simple"], id="an index"),
        pytest.param("output/tmp/x, ../work/y, ~/home/z, {folder}/opt/v", [], id="not absolute"),
        pytest.param("https://example.org/root/x", [], id="an address"),
        pytest.param("in /tmp or elsewhere", [], id="no file in it"),
    ],
)
def test_such_words_are_found(text: str, words: list[str]) -> None:
    assert machine_words(text) == words
