"""Stage 2: heads on cached cubes. Never sees a pixel.

What a head of one's own needs is here, and imported when it is first used: torch takes seconds.
"""

from typing import TYPE_CHECKING

from features_store.lazy import lazy_names

if TYPE_CHECKING:
    from train.data.ahead import Epoch as Epoch
    from train.data.batch import Batch as Batch
    from train.data.batch import HeadOutput as HeadOutput
    from train.data.batch import InputShape as InputShape
    from train.data.clips import Clips as Clips
    from train.data.windows import WindowPlan as WindowPlan
    from train.fitting.checkpoint import Checkpoint as Checkpoint
    from train.fitting.checkpoint import load_checkpoint as load_checkpoint
    from train.fitting.checkpoint import save_checkpoint as save_checkpoint
    from train.fitting.config import TrainConfig as TrainConfig
    from train.fitting.loop import fit as fit
    from train.fitting.predicting import predict as predict
    from train.fitting.seeding import seeded as seeded
    from train.fitting.state import Candidate as Candidate
    from train.fitting.state import candidates as candidates
    from train.fitting.state import training_loss as training_loss
    from train.fitting.tasks import task_of as task_of
    from train.heads.base import Head as Head
    from train.heads.choice import HeadChoice as HeadChoice
    from train.heads.names import list_heads as list_heads
    from train.heads.options import check_option as check_option
    from train.heads.registry import build_head as build_head
    from train.heads.registry import head_class as head_class
    from train.heads.registry import head_options as head_options
    from train.heads.registry import register_head as register_head
    from train.protocol.labelled import load_labelled as load_labelled
    from train.protocol.labelled import make_splits as make_splits
    from train.protocol.table import load_table as load_table
    from train.scores.metrics import Metrics as Metrics
    from train.scores.metrics import score as score

_MODULES = {
    "data.batch": ("Batch", "HeadOutput", "InputShape"),
    "data.ahead": ("Epoch",),
    "data.clips": ("Clips",),
    "data.windows": ("WindowPlan",),
    "fitting.checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "fitting.config": ("TrainConfig",),
    "fitting.loop": ("fit",),
    "fitting.predicting": ("predict",),
    "fitting.state": ("Candidate", "candidates", "training_loss"),
    "fitting.seeding": ("seeded",),
    "fitting.tasks": ("task_of",),
    "heads.base": ("Head",),
    "heads.choice": ("HeadChoice",),
    "heads.names": ("list_heads",),
    "heads.options": ("check_option",),
    "heads.registry": ("build_head", "head_class", "head_options", "register_head"),
    "protocol.table": ("load_table",),
    "protocol.labelled": ("load_labelled", "make_splits"),
    "scores.metrics": ("Metrics", "score"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
