"""Figures that are said to be measured, in lectures and notebooks, are those of `results.json`."""

import re

import pytest

from tests.conftest import ROOT
from tests.figures.claims import WEEKS, Claim, claims, on_one_line, plain, prose, results

ALL = [(week, claim) for week in WEEKS for claim in claims(week)]
MEASURED = re.compile(r"measured in this course|measured here", re.IGNORECASE)


@pytest.mark.parametrize("week, claim", ALL, ids=[f"{week[:6]}-{claim.text[:40]}" for week, claim in ALL])
def test_the_text_gives_what_was_measured(week: str, claim: Claim):
    assert claim.filled_in(week) in on_one_line(claim.document)
    assert len(claim.figures(results(week))) > 0 and re.search(r"\{[^}]*\}", claim.text)


@pytest.mark.parametrize("week", WEEKS)
def test_what_a_lecture_calls_measured_is_compared(week: str):
    document = f"course/{week}/lecture.ipynb"
    known = [claim.filled_in(of) for of, claim in ALL if claim.document == document]
    paragraphs = [plain(text) for text in prose(document).split("\n\n")]
    measured = [text for text in paragraphs if MEASURED.search(text) and re.search(r"\d", MEASURED.split(text, 1)[1])]
    assert [text for text in measured if not any(piece in text for piece in known)] == []


def test_claims_are_of_documents_that_there_are():
    assert [claim for _, claim in ALL if not (ROOT / claim.document).is_file()] == []
