"""Imported by the server that workers are forked from (`autograder.workers`): all that they import, and a zygote to share.

The zygote comes first, so that its imports run beside those of the server.
"""

import gc

from autograder.kernel.sandbox import Limits, nursery, sandbox_trouble

if not sandbox_trouble():
    nursery(Limits()).warm_up()

import autograder.batch
import autograder.feedback  # noqa: F401

gc.freeze()  # no worker looks for garbage among what was imported, nor copies the memory that it lies in by doing so
