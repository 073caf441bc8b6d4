"""File systems of a test's own, in a mount namespace: a small disk, a read-only one."""

import shutil
import subprocess

import pytest

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not _has_namespaces(), reason="this machine lets nobody mount a small tmpfs"
)


def run_in_namespace(script: str, *arguments: object) -> str:
    """Run a shell script in a mount namespace of its own; return all that it printed."""
    command = [*NAMESPACE, "bash", "-c", script, "-", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout
