"""What the first call of a process waits for, each in a process of its own.

The cache of compiled code is a folder of the benchmark's own, empty or filled before.
"""

import os
import shutil
import subprocess
import sys
import tempfile

IMPORT = "import sce_numba"
CALL = """
import numpy as np
import sce_numba as sce
sce.sigmoid_cross_entropy(np.ones((32, 10), np.float32), np.zeros((32, 10), np.float32))
"""


def timeraw_import():
    """Import the package, and Numba and NumPy with it."""
    return IMPORT


timeraw_import.repeat = 5


class FirstCall:
    """Import and the first small call."""

    params = (["empty", "filled"],)
    param_names = ("cache",)
    repeat = 3

    def setup(self, cache):
        self.folder = tempfile.mkdtemp()
        if cache == "filled":
            environment = os.environ | {"NUMBA_CACHE_DIR": self.folder}
            subprocess.run([sys.executable, "-c", CALL], env=environment, check=True)

    def teardown(self, cache):
        shutil.rmtree(self.folder)

    def timeraw_first_call(self, cache):
        return CALL, f"import os; os.environ['NUMBA_CACHE_DIR'] = {self.folder!r}"

    def track_compiled_code(self, cache):
        """Return the size of what is kept on disk."""
        environment = os.environ | {"NUMBA_CACHE_DIR": self.folder}
        subprocess.run([sys.executable, "-c", CALL], env=environment, check=True)
        return sum(
            os.path.getsize(os.path.join(folder, name))
            for folder, _, names in os.walk(self.folder)
            for name in names
        )

    track_compiled_code.unit = "bytes"
