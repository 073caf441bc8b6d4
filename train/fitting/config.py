"""What a training run is told, validated: unknown keys are refused with the nearest name."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features_store.errors import UsageError, nearest_name
from features_store.views import CENTER
from train.data.kinds import Aggregate, ScheduleKind, WindowKind, refuse_votes

if TYPE_CHECKING:
    from train.data.windows import WindowPlan

MOST_EPOCHS = 50


class TrainConfig(BaseModel):
    """Options of `cubereel train`, the same as flags, in a TOML file and in Python.

    Attributes:
        multi_label: a video has any number of the classes, not one.
        learning_rates: tried on the validation videos, as are `weight_decays`; empty means the
            head's own rate, a third of it and three times it, and the head's own decay.
        choose_layer: each layer is tried alone on the validation videos; else a head gets them all.
        view: of the picture that cubes and differences are of.
        split_seed: of the shuffle that makes folds and validation parts.
        order_seed: of the order of batches, which all fits have in common.
        schedule: how the rate goes on; see `train.fitting.schedules`.
        clip_gradients: largest norm of all gradients of a step together; None is any.
        epochs: of each fit; with `budget` the most, which is then `MOST_EPOCHS` unless given.
        budget: core-seconds (on a GPU, seconds) that all fits of a head may take, from which the
            number of epochs follows before the first fit.
        patience: validation chooses the number of epochs too, and a fit ends when so many epochs
            were no better than the best; None is that all fits have all epochs.
        inner_folds: rounds of validation within the videos that are not for testing.
        last_n: average probabilities over the last n steps of a clip instead of all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    multi_label: bool = False
    layers: tuple[str, ...] = ()
    choose_layer: bool = False
    view: str = CENTER
    windows: WindowKind = "even"
    clip_frames: int = Field(default=16, ge=1, le=2**16)
    frame_stride: int = Field(default=1, ge=1, le=2**16)
    window_stride: int = Field(default=1, ge=1, le=2**31)
    epochs: int = Field(default=15, ge=1, le=10**6)
    batch_size: int = Field(default=32, ge=1, le=2**16)
    optimiser: Literal["adam", "adamw"] = "adamw"
    learning_rates: tuple[Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)], ...] = ()
    weight_decays: tuple[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)], ...] = ()
    class_weights: bool = True
    schedule: ScheduleKind = "cosine"
    clip_gradients: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    budget: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    patience: int | None = Field(default=None, ge=1, le=10**6)
    split_seed: int = Field(default=0, ge=0, lt=2**32)
    order_seed: int = Field(default=0, ge=0, lt=2**32)
    inner_folds: int = Field(default=1, ge=1, le=2**16)
    aggregate: Aggregate = "mean"
    last_n: int | None = Field(default=None, ge=1, le=2**16)

    @property
    def window_plan(self) -> "WindowPlan":
        """How videos are cut into clips."""
        from train.data.windows import WindowPlan

        return WindowPlan(self.windows, self.clip_frames, self.frame_stride, self.window_stride)

    @property
    def most_epochs(self) -> int:
        """Epochs that a budget may come to."""
        return self.epochs if "epochs" in self.model_fields_set else MOST_EPOCHS

    def check(self) -> None:
        """Raise `UsageError` for options that do not go together."""
        refuse_votes(multi_label=self.multi_label, aggregate=self.aggregate)


def _is_one_of_several(name: str, value: object) -> bool:
    is_several = get_origin(TrainConfig.model_fields[name].annotation) is tuple
    return is_several and not isinstance(value, list | tuple)


def parse_config(values: dict[str, Any]) -> TrainConfig:
    """Return a validated configuration.

    Raises:
        UsageError: naming each key or value that is wrong.
    """
    known = list(TrainConfig.model_fields)
    for name in values:
        if name not in known:
            raise UsageError(f"no training option {name!r}; {nearest_name(name, known)}")
    several = {name: [value] for name, value in values.items() if _is_one_of_several(name, value)}
    try:
        return TrainConfig(**values | several)
    except ValidationError as err:
        raise UsageError(validation_problems(err)) from None


def validation_problems(error: ValidationError) -> str:
    """Say in a line what is wrong, where, and what stands there."""
    said = []
    for each in error.errors(include_url=False, include_context=False):
        name = ".".join(part for part in each["loc"] if isinstance(part, str))
        said.append(f"`{name}`: {each['msg']}, got {each['input']!r:.200}")
    return "; ".join(said)
