"""Kernels for code that is not trusted.

Whoever runs notebooks names a kernelspec of KERNELSPECS and gives the kernel a folder to work in (`cwd`), the only one
that it may write. How the kernel comes to life behind that name is the provisioner's business.
"""

from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

KERNELSPECS = Path(__file__).parent / "kernelspecs"
KERNELS = {"bubblewrap": "course-sandbox", "process": "course-process"}  # isolation: kernelspec


def kernelspecs() -> KernelSpecManager:
    """A manager that knows the course's kernelspecs, and no others."""
    return KernelSpecManager(kernel_dirs=[str(KERNELSPECS)], ensure_native_kernel=False)
