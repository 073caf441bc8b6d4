"""A reader of feature stores, format version 2, written from FORMAT.md alone."""

import hashlib
import importlib
import json
import pathlib
import re
import stat
import sys
from collections import namedtuple
from contextlib import contextmanager

import h5py
import numpy as np
import xxhash

ZSTD = 32015
UNIT = re.compile(r"[A-Za-z0-9_.-]+-[1-9][0-9]*")
Store = namedtuple("Store", "path info revisions shards superseded")  # shards: name -> entry


class StoreError(Exception):
    """The store is damaged, unsafe, or of another format; a reader must refuse it."""


def require(condition, *message):
    """Refuse the store unless the condition holds."""
    if not condition:
        raise StoreError(" ".join(str(part) for part in message))


def sha256_json(value, before=b""):
    """SHA-256 of some bytes and the canonical JSON of a value, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(before + text.encode()).hexdigest()


def open_store(path, revision=None):
    """Read and check store.json and the catalogue, as of `revision` (the newest if None)."""
    for file in pathlib.Path(path).rglob("*"):
        kind = stat.S_IFMT(file.lstat().st_mode)
        require(kind in (stat.S_IFREG, stat.S_IFDIR), "link, device or pipe:", file)
    info = json.loads(pathlib.Path(path, "store.json").read_text("utf-8"))
    require(info.get("format_version") == 2, "format version", info.get("format_version"))
    digest = sha256_json(info["spec"])
    require(digest == info["spec_digest"] and info["sources"], "spec digest or sources")
    files = {f.name for f in pathlib.Path(path, "shards").glob("*")}  # before the catalogue
    catalogue = json.loads(pathlib.Path(path, "catalogue.json").read_text("utf-8"))
    require(catalogue["spec_digest"] == digest, "spec digest of the catalogue")
    entries, revisions = catalogue["entries"], [digest]
    for entry in entries:
        require(UNIT.fullmatch(entry["name"]), "unit name", entry["name"])
        revisions.append(sha256_json(entry, bytes.fromhex(revisions[-1])))
    require(revisions[-1] == catalogue["revision"], "revision chain", revisions[-1])
    strange = {f for f in files if f.endswith(".h5")} - {e["name"] + ".h5" for e in entries}
    require(not strange, "shards that no entry names:", sorted(strange))
    count = len(entries)
    while count and entries[count - 1]["identity"] is not None:  # leave out what is being added
        name = entries[count - 1]["name"] + ".h5"
        if name in files or not {name + ".partial", name + ".sealing"} & files:
            break
        count -= 1
    if revision is not None:
        require(revision in revisions[: count + 1], "no such revision:", revision)
        count = revisions.index(revision)
    shards, superseded = {}, set()
    for entry in entries[:count]:
        shards[entry["name"]] = entry
        for unit, ids in (entry.get("supersedes") or {}).items():
            superseded.update((unit, video_id) for video_id in ids)
    shards = {name: entry for name, entry in shards.items() if entry["identity"] is not None}
    store = Store(path, info, revisions[: count + 1], shards, superseded)
    for name, entry in shards.items():
        require(name + ".h5" in files, "missing shard", name)
        require(shard_path(store, name).stat().st_size == entry["bytes"], "size of", name)
    return store


def shard_path(store, name):
    """Path of the shard of a unit."""
    return pathlib.Path(store.path, "shards", name + ".h5")


def check_whole_file(store, name):
    """Compare the checksum of a whole shard with its entry in the catalogue."""
    digest = xxhash.xxh3_128_hexdigest(shard_path(store, name).read_bytes())
    require(digest == store.shards[name]["xxh3_128"], "checksum of", name)


def _zstd_content_size(path, offset):
    with pathlib.Path(path).open("rb") as raw:
        raw.seek(offset)
        head = raw.read(18).ljust(18, b"\0")
    single, kind = head[4] >> 5 & 1, head[4] >> 6
    size = (single, 2, 4, 8)[kind]
    require(head[:4] == b"\x28\xb5\x2f\xfd" and size, "zstd frame without content size")
    start = 5 + (1 - single) + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[start : start + size], "little") + (256 if size == 2 else 0)


def _check_dataset(data, path, size, may_compress):
    """Refuse what a dataset must not be, before any of it is read."""
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    require(not data.dtype.hasobject and data.shape is not None, path, "variable length")
    require(data.dtype == data.dtype.newbyteorder("<"), path, "is big-endian")
    require(filters == [] or (filters == [ZSTD] and may_compress), path, "filters", filters)
    require(not data.is_virtual and plist.get_external_count() == 0, path, "data elsewhere")
    row_bytes = int(np.prod(data.shape[1:], dtype=object)) * data.dtype.itemsize
    bytes_all = row_bytes * data.shape[0]
    require(bytes_all <= size * (20000 if filters else 1), path, "is larger than the file")
    if not data.chunks:
        start = data.id.get_offset()
        require(bytes_all == 0 or (start and start + bytes_all <= size), path, "not in the file")
        return
    count, chunk_bytes = data.id.get_num_chunks(), row_bytes * data.chunks[0]
    whole = data.chunks[1:] == data.shape[1:] and count == -(-data.shape[0] // data.chunks[0])
    require(whole, path, "chunks are missing or not of whole rows")
    for chunk in map(data.id.get_chunk_info, range(count)):
        fits = chunk.byte_offset + chunk.size <= size and (filters or chunk.size == chunk_bytes)
        require(fits and chunk.filter_mask == 0, path, "chunk outside the file, or filter mask")
        if filters:
            content = _zstd_content_size(data.file.filename, chunk.byte_offset)
            require(content <= chunk_bytes, path, "zstd frame larger than its chunk")


def _check_tree(node, size, compression, path="", depth=0):
    """Walk over a file: hard links alone, no deeper than a store is, safe datasets alone."""
    require(depth <= 3, "groups too deep:", path)
    for name in node.attrs:
        text = h5py.h5a.open(node.id, name.encode()).get_type().dtype
        require(not text.hasobject, "attribute of variable length:", path, name)
    if isinstance(node, h5py.Dataset):
        per_frame = path.split("/")[1] in ("cubes", "diffs", "diff_cubes")
        _check_dataset(node, path, size, per_frame and compression == "zstd")
        return
    for name in node:
        require(isinstance(node.get(name, getlink=True), h5py.HardLink), "link", path, name)
        _check_tree(node[name], size, compression, f"{path}/{name}", depth + 1)


@contextmanager
def _open_safely(path, compression):
    if compression == "zstd":
        importlib.import_module("hdf5plugin")  # registers the filter
    with h5py.File(path, "r") as file:
        require(file.userblock_size == 0, "user block", path)
        _check_tree(file, path.stat().st_size, compression)
        yield file


def array_paths(info):
    """Paths of the per-frame arrays that store.json promises."""
    kinds = ["cubes"] + ["diff_cubes"] * info["has_diff_cubes"]
    layers = [layer["name"] for layer in info["layers"]]
    paths = [f"{kind}/{v}/{layer}" for kind in kinds for v in info["views"] for layer in layers]
    paths += [f"diffs/{view}" for view in info["views"]] * info["has_diffs"]
    return paths + ["pts_seconds", "frame_index"] + ["window"] * info["has_windows"]


@contextmanager
def open_shard(store, name):
    """Open a shard that counts, checked; yields (file, paths of arrays, records in use)."""
    with _open_safely(shard_path(store, name), store.info["compression"]) as file:
        records = file["videos"][:]
        head = records.tobytes()[:65536]
        found = {"offset": file["videos"].id.get_offset(), "bytes": len(head)}
        found["xxh3_128"] = xxhash.xxh3_128_hexdigest(head)
        require(found == store.shards[name]["identity"], "identity of", name, found)
        told = file.attrs["format_version"], file.attrs["spec_digest"].decode()
        require(told == (2, store.info["spec_digest"]), "format version or spec of", name)
        paths = json.loads(bytes(file.attrs["arrays"]))
        require(sorted(paths) == sorted(array_paths(store.info)), "arrays of", name, paths)
        require(len({file[path].shape[0] for path in paths}) == 1, "rows of", name)
        records = records[: max(np.flatnonzero(records["id"] != b""), default=-1) + 1]
        _check_records(store, records, file[paths[0]].shape[0])
        yield file, paths, records


def _check_records(store, records, num_rows):
    next_row, sources = 0, {source["id"] for source in store.info["sources"]}
    for record in records:
        video_id = record["id"].decode()
        require(not {"", ".", ".."} & set(video_id.split("/")), "id", repr(video_id))
        found = xxhash.xxh3_64_intdigest(record.tobytes()[:-8] + bytes(8))  # it is the last field
        require(found == record["record_checksum"], "record checksum of", video_id)
        fits = record["offset"] == next_row and 0 <= record["length"] <= num_rows - next_row
        next_row += int(record["length"])
        known = record["source"].decode() in sources and record["status"] in (b"ok", b"partial")
        require(fits and known, "rows, source or status of", video_id)
        draws = record["draws"] if "draws" in record.dtype.names else np.zeros(0)
        require(((draws >= 0) & (draws < record["length"])).all(), "draws of", video_id)


def list_videos(store):
    """Map each id that counts to (unit, row in `videos`, record), in the order of bytes."""
    found = {}
    for name in store.shards:
        with open_shard(store, name) as (_, _, records):
            for row, record in enumerate(records):
                video_id = record["id"].decode()
                if (name, video_id) not in store.superseded:
                    require(video_id not in found, "in two shards:", video_id)
                    found[video_id] = (name, row, record)
    return dict(sorted(found.items(), key=lambda item: item[0].encode()))


def check_index(store, videos):
    """Whether index.h5 agrees with the records; None where it is absent, torn or stale."""
    path = pathlib.Path(store.path, "index.h5")
    body = path.read_bytes() if path.exists() else b""
    if xxhash.xxh3_64_digest(body[:-8]) != body[-8:]:
        return None
    with _open_safely(path, "none") as file:
        names = [name.decode() for name in file["shards"][:]]
        columns = [file[key][:] for key in ("ids", "shard", "row", "length", "is_partial")]
    if names != sorted(name + ".h5" for name in store.shards):
        return None
    truth = [
        (video_id.encode(), names.index(name + ".h5"), row, r["length"], r["status"] == b"partial")
        for video_id, (name, row, r) in videos.items()
    ]
    return list(zip(*columns, strict=True)) == truth


def read_video(store, video, check=True):
    """Read a video's arrays: cubes as (N, K, K, D), 8-bit ones decoded; checked if `check`."""
    name, row, record = video
    arrays = {"draws": record["draws"]} if "draws" in record.dtype.names else {}
    with open_shard(store, name) as (file, paths, records):
        require(records[row].tobytes() == record.tobytes(), "record has changed")
        rows = slice(int(record["offset"]), int(record["offset"] + record["length"]))
        for path, checksum in zip(paths, record["checksums"], strict=True):
            data, scales = file[path][rows], None
            hasher = xxhash.xxh3_64(data.tobytes())
            if "cubes/" in path and store.info["dtype"] == "8bit":
                scales = file[path.replace("cubes/", "scales/", 1)][:]
                hasher.update(scales.tobytes())
                data = data.transpose(0, 2, 3, 1).astype(np.float32) * scales
            require(not check or hasher.intdigest() == checksum, "checksum:", record["id"], path)
            arrays[path] = data
    return arrays


if __name__ == "__main__":  # check each store in full and print one line on it
    for store in map(open_store, sys.argv[1:]):
        for name in store.shards:
            check_whole_file(store, name)
        videos = list_videos(store)
        count = sum(len(read_video(store, video)["pts_seconds"]) for video in videos.values())
        print(store.path, len(videos), "videos", count, "frames, index", check_index(store, videos))
