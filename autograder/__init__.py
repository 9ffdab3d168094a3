"""The instructor's side of the course: release, validate, grade, explain, report."""

from autograder.exercise import Artifact, Exercise, Mistake

__all__ = ["Artifact", "Exercise", "Mistake"]
