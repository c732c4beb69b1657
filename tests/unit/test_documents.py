"""What the documents name exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(?:tests/)?((?:unit|integration|lan)/test_\w+\.py)?::(test_\w+)`")


FILE = re.compile(r"`((?:docs|tests|scripts|examples|benchmarks|grav_actors|transports|discovery)/[\w./-]+)`")


def test_every_file_that_a_document_names_by_its_path_exists() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]
    named = {(document.name, path) for document in documents for path in FILE.findall(document.read_text("utf-8"))}
    assert len(named) > 40
    assert not {(document, path) for document, path in named if not (ROOT / path).exists()}


def test_every_test_that_the_guarantees_name_exists() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    file = ""
    missing: list[str] = []
    count = 0
    for match in NAMED.finditer(text):
        file = match[1] or file
        count += 1
        if f"def {match[2]}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8"):
            missing.append(f"{file}::{match[2]}")
    assert count > 40
    assert not missing
