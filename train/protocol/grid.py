"""A grid: the heads of one table, each with its layers and its training, as a TOML file.

    about = "…"
    [defaults]                    # of every row
    layers = [-1]
    [[rows]]
    head = "pyramid-attention:fusion=max"
    layers = [-3, -2, -1]         # names, or places counted from the top
    epochs = 10

What the user says, by flag or configuration file, wins over the grid. Heads and their options are
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
from train.heads.choice import HeadChoice

if TYPE_CHECKING:
    from train.fitting.config import TrainConfig

# Of a row. What makes clips and splits is the same in all rows, or they would not compare.
ROW_OPTIONS = (
    "choose_layer", "epochs", "batch_size", "optimiser", "learning_rates", "weight_decays",
    "class_weights", "schedule", "clip_gradients", "budget", "patience", "aggregate", "last_n",
)  # fmt: skip


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


def grid_names() -> dict[str, str]:
    """Return the grids that come with Cubereel, name to what they are about."""
    folder = files("train.protocol") / "grids"
    return {
        path.name.removesuffix(".toml"): str(tomllib.loads(path.read_text()).get("about", ""))
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".toml")
    }


def load_grid(name: str, options: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """Return the rows of a grid of ours by name, or of a TOML file by path.

    Raises:
        UsageError: there is no such grid, or it says what no grid can.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        known = list(grid_names())
        if name not in known:
            raise UsageError(f"no grid {name!r}; {nearest_name(name, known)}, or a .toml file")
        path = Path(str(files("train.protocol") / "grids" / f"{name}.toml"))
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise UsageError(f"grid {name} cannot be read: {err}") from err
    return parse_grid(document, name=name, options=options)


def parse_grid(
    document: Mapping[str, Any], *, name: str, options: Sequence[tuple[str, str]] = ()
) -> list[Row]:
    """Return the rows of a grid; `options` are given to every head.

    Raises:
        UsageError: it says what no grid can, names an unknown head, or gives one what it does not
            take.
    """
    _require_known(document, ("about", "defaults", "rows"), f"grid {name}")
    defaults, tables = document.get("defaults", {}), document.get("rows", [])
    is_list = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    if not isinstance(defaults, dict) or not is_list or not tables:
        raise UsageError(f"grid {name} needs [[rows]], and [defaults] may be given once")
    rows = [_parse_row({**defaults, **table}, name, options) for table in tables]
    labels = [row.label for row in rows]
    if double := next((label for label in labels if labels.count(label) > 1), None):
        raise UsageError(f"grid {name} has two rows {double!r}; give one a 'name'")
    for row in rows:
        row.choice.check()
    from train.fitting.config import parse_config

    for row in rows:
        parse_config(dict(row.settings))
    return rows


def _parse_row(table: Mapping[str, Any], grid: str, options: Sequence[tuple[str, str]]) -> Row:
    where = f"grid {grid}: row {table.get('name', table.get('head'))!r}"
    _require_known(table, ("head", "name", "layers", *ROW_OPTIONS), where)
    head, layers = table.get("head"), table.get("layers", [])
    if not isinstance(head, str) or not isinstance(table.get("name", ""), str):
        raise UsageError(f'{where} needs head = "NAME" or "NAME:option=value"')
    if not isinstance(layers, list) or not all(type(la) in (str, int) for la in layers):
        raise UsageError(f"{where}: layers must be names or places such as -1, got {layers!r}")
    settings = {key: table[key] for key in ROW_OPTIONS if key in table}
    choice = HeadChoice.parse(head, options)
    if not any(sign.isalnum() for sign in table.get("name", choice.label)):
        raise UsageError(f"{where}: a name needs a letter or a digit")
    return Row(table.get("name", choice.label), choice, tuple(layers), settings)


def _require_known(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where} has {key!r}; {nearest_name(key, list(known))}")
