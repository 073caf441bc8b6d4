"""A table of heads, each with its layers and its training, as a TOML file.

    about = "…"
    [defaults]                    # of every row
    layer = [-1]
    [[rows]]
    head = "pyramid-attention:fusion=max"
    layer = [-3, -2, -1]          # names, or places counted from the top
    batch-size = 10               # as the flag --batch-size

What the user says, by flag or configuration file, wins over the table. Heads and their options are
checked before settings: those need pydantic, which takes as long to import as all the rest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features_store.errors import UsageError, nearest_name
from features_store.format.inputs import read_toml
from features_store.paths import TABLE
from train.heads.choice import HeadChoice

if TYPE_CHECKING:
    from train.fitting.config import TrainConfig

MAX_LABEL_BYTES = 240  # file systems allow 255; names of pictures are longer
# Of a row, by the name of its flag. What makes clips and splits is the same in all rows, or they
# would not compare.
ROW_OPTIONS = {
    "choose-layer": "choose_layer", "epochs": "epochs", "batch-size": "batch_size",
    "optimiser": "optimiser", "lr": "learning_rates", "weight-decay": "weight_decays",
    "class-weights": "class_weights", "schedule": "schedule", "clip-gradients": "clip_gradients",
    "budget": "budget", "patience": "patience", "aggregate": "aggregate", "last-n": "last_n",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One head of a table.

    Attributes:
        label: unique in a table; the head as it is written, and what else tells rows apart.
        layers: names, or places counted from the top layer (−1); none for those of the run.
        settings: training options of this row.
    """

    label: str
    choice: HeadChoice
    layers: tuple[str | int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_bytes = len(self.label.encode(errors="replace"))
        if num_bytes > MAX_LABEL_BYTES or not self.label.isprintable():
            raise UsageError(
                f"row {self.label[:80]!r} cannot name a folder: it has {num_bytes} bytes of at "
                f"most {MAX_LABEL_BYTES}, or a control character; give the row another 'name'"
            )

    @classmethod
    def parse(cls, head: str, options: Sequence[tuple[str, str]] = ()) -> Row:
        """Return the row of a head that is written ``NAME[:option=value,…]``."""
        choice = HeadChoice.parse(head, options)
        return cls(choice.label, choice)

    def config(self, run: TrainConfig) -> TrainConfig:
        """Return the run's configuration with this row's options where the user says nothing."""
        from train.fitting.config import parse_config

        said = {name: getattr(run, name) for name in run.model_fields_set}
        return parse_config({**self.settings, **said})

    def layer_names(self, known: Sequence[str]) -> list[str]:
        """Return the names of its layers among those of the run, the top last.

        Raises:
            UsageError: there is no such layer.
        """
        names = []
        for layer in self.layers or known:
            if isinstance(layer, int) and not -len(known) <= layer <= -1:
                raise UsageError(
                    f"{self.label} needs layer {layer} counted from the top, but there are only "
                    f"{len(known)}: {', '.join(known)}; extract with more `layers`"
                )
            if isinstance(layer, str) and layer not in known:
                raise UsageError(
                    f"{self.label}: no layer {layer!r}; {nearest_name(layer, list(known))}"
                )
            names.append(known[layer] if isinstance(layer, int) else layer)
        if len(set(names)) < len(names):
            raise UsageError(f"{self.label}: a layer is asked for twice: {', '.join(names)}")
        return names


def folder_name(label: str) -> str:
    """Return the folder of a head's label.

    >>> folder_name("mean-pool:motion=both")
    'mean-pool-motion-both'
    """
    return "".join("-" if sign in ":=,/ " else sign for sign in label)


def table_names() -> dict[str, str]:
    """Return the tables that come with Cubereel, name to what they are about."""
    folder = files("train.protocol") / "tables"
    return {
        path.name.removesuffix(".toml"): str(tomllib.loads(path.read_text()).get("about", ""))
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".toml")
    }


def load_table(name: str, options: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """Return the rows of a table of ours by name, or of a TOML file by path.

    Raises:
        UsageError: there is no such table, or it says what no table can.
    """
    if name.endswith(".toml"):
        path = TABLE.require(name)
    else:
        known = list(table_names())
        if name not in known:
            raise UsageError(f"no table {name!r}; {nearest_name(name, known)}, or a .toml file")
        path = Path(str(files("train.protocol") / "tables" / f"{name}.toml"))
    try:
        document = read_toml(path)
    except (OSError, ValueError) as err:
        raise UsageError(f"table {name} cannot be read: {err}") from err
    return parse_table(document, name=name, options=options)


def parse_table(
    document: Mapping[str, Any], *, name: str, options: Sequence[tuple[str, str]] = ()
) -> list[Row]:
    """Return the rows of a table; `options` are given to every head.

    Raises:
        UsageError: it says what no table can, names an unknown head, or gives one what it does not
            take.
    """
    _require_known(document, ("about", "defaults", "rows"), f"table {name}")
    defaults, said = document.get("defaults", {}), document.get("rows", [])
    is_list = isinstance(said, list) and all(isinstance(row, dict) for row in said)
    if not isinstance(defaults, dict) or not is_list or not said:
        raise UsageError(f"table {name} needs [[rows]], and [defaults] may be given once")
    rows = [_parse_row({**defaults, **row}, name, options) for row in said]
    labels = [row.label for row in rows]
    if double := next((label for label in labels if labels.count(label) > 1), None):
        raise UsageError(f"table {name} has two rows {double!r}; give one a 'name'")
    for row in rows:
        row.choice.check()
    from train.fitting.config import parse_config

    for row in rows:
        parse_config(dict(row.settings))
    return rows


def _parse_row(said: Mapping[str, Any], table: str, options: Sequence[tuple[str, str]]) -> Row:
    where = f"table {table}: row {said.get('name', said.get('head'))!r}"
    _require_known(said, ("head", "name", "layer", *ROW_OPTIONS), where)
    head, layers = said.get("head"), said.get("layer", [])
    if not isinstance(head, str) or not isinstance(said.get("name", ""), str):
        raise UsageError(f'{where} needs head = "NAME" or "NAME:option=value"')
    if not isinstance(layers, list) or not all(type(la) in (str, int) for la in layers):
        raise UsageError(
            f"{where}: `layers` must be a list of names or of places such as -1, got {layers!r}"
        )
    settings = {name: said[key] for key, name in ROW_OPTIONS.items() if key in said}
    choice = HeadChoice.parse(head, options)
    if not any(sign.isalnum() for sign in said.get("name", choice.label)):
        raise UsageError(f"{where}: a name needs a letter or a digit")
    return Row(said.get("name", choice.label), choice, tuple(layers), settings)


def _require_known(said: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in said:
        if key not in known:
            raise UsageError(f"{where} has {key!r}; {nearest_name(key, list(known))}")
