"""Shipped code opens, writes and parses files by `format/inputs.py` and `format/outputs.py`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("features_store", "extract", "train", "pipelines")
WATCHED = {
    "open", "fdopen", ".write_text", ".write_bytes", ".read_text", ".read_bytes", "save_file",
    "savefig", "tofile", "truncate", "NamedTemporaryFile", "json.load", "json.loads", "np.load",
    "np.savez", "np.savez_compressed", "torch.load", "torch.save", "tomllib.load", "tomllib.loads",
    "load_file", "safe_open", "shutil.copy", "shutil.move",
}  # fmt: skip
# Which calls a file may make, and why they are no way round.
ALLOWED = {
    # the mechanism itself, and what HDF5 writes and reads
    "features_store/format/inputs.py": {"open", "fdopen", "json.loads", "tomllib.load"},
    "features_store/format/outputs.py": {"open", "fdopen", "truncate"},
    "features_store/format/disk.py": {"open", "fdopen"},
    "features_store/format/regular_file.py": {"open"},
    "features_store/shards/reader.py": {"open", "json.loads"},
    "features_store/shards/writer.py": {"open"},
    "features_store/shards/copy.py": {"truncate"},
    "features_store/verbs/mender.py": {"truncate"},
    "features_store/index.py": {"open"},
    "features_store/listing.py": {"open"},
    # locks, leases and notes, after `check_own`
    "features_store/locking.py": {"open", "fdopen", "truncate"},
    "features_store/claim.py": {"open", "json.loads"},
    "features_store/ledger.py": {"open", "json.loads"},
    # texts and not files
    "features_store/plain.py": {"json.loads"},
    "features_store/exchange/annotation_file.py": {"json.loads"},
    "features_store/exchange/export_folder.py": {"open", "json.loads"},
    "features_store/exchange/array_files.py": {"open"},
    "extract/decode/connection.py": {"json.loads"},
    "extract/compute/compile_worker.py": {"json.load"},
    "train/protocol/run_folder.py": {"json.loads"},
    "pipelines/extraction/header_cache.py": {"json.loads"},  # lines of a bounded file
    # after `open_regular`, or checks of their own
    "extract/backbones/weights.py": {"load_file", "torch.load", "open"},
    "extract/backbones/pickled.py": {"open"},
    "train/fitting/checkpoint.py": {"load_file", "safe_open"},
    "pipelines/statistics/result.py": {"safe_open"},
    "pipelines/training/pictures.py": {"savefig"},  # into a file that is open
    "pipelines/explain": {"savefig", "open"},
    # videos
    "extract/video": {"open"},
    "pipelines/extraction/twins.py": {"open"},
    "pipelines/extraction/adapters/video_files.py": {"open"},
    "pipelines/measure/plain.py": {"open"},
    # files that come with Cubereel, of the machine, or in a new temporary folder
    "extract/compute/machine.py": {"read_text"},
    "train/protocol/table.py": {"read_text", "tomllib.loads"},
    "pipelines/machine/golden_clip.py": {"np.load", "np.savez_compressed", "open"},
    "pipelines/recipes/paper_numbers.py": {"read_text", "tomllib.loads"},
    "pipelines/recipes/demo.py": {"shutil.copy"},
    "pipelines/training/evaluate.py": {"write_text"},
    "pipelines/measure": {"save_file", "write_text", "open"},
}


def calls(path):
    """Yield the watched calls of a module, and their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        written = ast.unparse(node.func)
        last = written.rpartition(".")[2]
        for name in (written, last, f".{last}" if "." in written else ""):
            if name in WATCHED:
                yield name.lstrip("."), node.lineno
                break


def test_no_file_is_opened_beside_the_two_modules():
    beside = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            if "/tests/" in place:
                continue
            allowed = [names for name, names in ALLOWED.items() if place.startswith(name)]
            may = set().union(*allowed)
            beside += [f"{place}:{line} {name}" for name, line in calls(path) if name not in may]

    assert beside == [], "use features_store/format/inputs.py and outputs.py"
