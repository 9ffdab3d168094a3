"""Every week's drives reach its solutions without the operators that they forbid to students."""

import pytest

from autograder.week import Week, weeks_of
from course.drives import Student, Tripwire, drive_of
from tests.conftest import ROOT
from tests.course.drives.conftest import cases_of

FORBIDDING = [(week, exercise.name) for week in weeks_of(ROOT) for exercise in week.exercises if exercise.forbid]


@pytest.mark.parametrize(("of", "exercise"), FORBIDDING, ids=[f"{of.name}-{exercise}" for of, exercise in FORBIDDING])
def test_drives_do_not_trip_the_wire_themselves(of: Week, exercise: str):
    with Tripwire(of.exercise(exercise).forbid) as tripwire:
        drive_of(of.name, exercise)(Student(of.namespace()), cases_of(of, exercise)[0])
    assert tripwire.hits == []
