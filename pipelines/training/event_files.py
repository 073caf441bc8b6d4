"""Learning curves of a run folder as TensorBoard has them."""

from __future__ import annotations

from pathlib import Path

from features_store.errors import ContractError, UsageError
from features_store.format.outputs import make_folder
from features_store.paths import RUN
from train.protocol.run_folder import RunFolder, read_fit


def write_event_files(run: Path, out: Path) -> int:
    """Write an event file for each fit that is done; return how many there are.

    Raises:
        UsageError: TensorBoard is not installed.
        ContractError: no fit is done, or a folder to be written is a link.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "tensorboard is not installed; install cubereel with the extra 'tensorboard'"
        ) from None
    records = RunFolder(RUN.require(run)).records()
    if not records:
        raise ContractError(f"{run} holds no fit that is done yet; run 'cubereel train' on")
    out.mkdir(parents=True, exist_ok=True)
    for head, paths in records.items():
        for path in paths:
            fit = read_fit(path)
            make_folder(out / head / path.stem, below=out)
            with SummaryWriter(str(out / head / path.stem)) as writer:
                for epoch, loss in enumerate(fit.train_losses, 1):
                    writer.add_scalar("loss/train", loss, epoch)
                for epoch, (score, loss) in enumerate(fit.curve, 1):
                    writer.add_scalar("loss/validation", loss, epoch)
                    writer.add_scalar("score/validation", score, epoch)
    return sum(map(len, records.values()))
