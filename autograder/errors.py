"""What the instructor can mend. In a module of its own, which imports nothing, since everything imports it."""


class CourseError(Exception):
    """Something the instructor can mend: said in one or two sentences, shown without a traceback."""
