"""In every process of a chaos run: opening a video takes a while, and one crashes the decoder."""

import os
import signal
import sys
import time
from importlib.abc import MetaPathFinder
from pathlib import Path


class _Patched(MetaPathFinder):
    """Patches PyAV when it is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "extract.video.container":
            return
        sys.meta_path.remove(self)
        import av

        av.open = _slowly(av.open)
        return


def _slowly(opened):
    def slow(file, *arguments, **options):
        time.sleep(float(os.environ.get("CHAOS_SECONDS", "0")))
        descriptor = (options.get("options") or {}).get("fd")
        if descriptor and "segfault" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            os.kill(os.getpid(), signal.SIGSEGV)
        return opened(file, *arguments, **options)

    return slow


sys.meta_path.insert(0, _Patched())
