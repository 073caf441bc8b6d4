"""The child process that compiles: ``python -P -m extract.compute.compile_worker PARENT``.

It reads from its input what to compile, and leaves the result in ``$TORCHINDUCTOR_CACHE_DIR``. The
weights are random: they are no part of what is compiled. It ends when its parent does, and tells of
a failure in the last line that it prints.
"""

import json
import os
import signal
import sys
import threading
import time
from typing import Any

import torch

from extract.backbones.registry import Backbone, load_network
from extract.compute.compiled import compile_now, first_line
from extract.compute.computer import CubeComputer
from extract.compute.preprocess import preprocessing_for


def end_with_parent(parent: int) -> None:
    """End this process and its children once `parent` is gone; never returns before."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def compile_described(described: dict[str, Any]) -> None:
    """Compile what `describe_compiling` describes."""
    torch.set_num_threads(described["num_threads"])  # is written into the code
    name = described["backbone"]
    network = Backbone(name, load_network(name, trained=False), described["layers"])
    computer = CubeComputer(
        network,
        preprocessing_for(network.config, fit="stretch"),  # of no matter to the network
        device=torch.device(described["device"]),
        batch_size=described["batch_size"],
        precision=described["precision"],
    )
    compile_now(computer.compiled())


def main(parent: int) -> None:
    """Serve the process `parent`."""
    # Schedulers signal every process of a job. The parent alone decides what a signal means.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    try:
        compile_described(json.load(sys.stdin))
    except Exception as err:
        sys.exit(first_line(err))


if __name__ == "__main__":
    main(int(sys.argv[1]))
