"""Learning curves of a run folder as TensorBoard has them."""

from __future__ import annotations

from pathlib import Path

from features_store.errors import ContractError, UsageError
from train.protocol.run_folder import RunFolder, read_fit


def write_event_files(run: Path, out: Path) -> int:
    """Write an event file for each fit that is done; return how many there are.

    Raises:
        UsageError: TensorBoard is not installed.
        ContractError: no fit is done.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "tensorboard is not installed; install cubereel with the extra 'tensorboard'"
        ) from None
    records = RunFolder(run).records()
    if not records:
        raise ContractError(f"{run} holds no fit of `cubereel train`; give its run folder")
    for head, paths in records.items():
        for path in paths:
            fit = read_fit(path)
            with SummaryWriter(str(out / head / path.stem)) as writer:
                for epoch, loss in enumerate(fit.train_losses, 1):
                    writer.add_scalar("loss/train", loss, epoch)
                for epoch, (score, loss) in enumerate(fit.curve, 1):
                    writer.add_scalar("loss/validation", loss, epoch)
                    writer.add_scalar("score/validation", score, epoch)
    return sum(map(len, records.values()))
