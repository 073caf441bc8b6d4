"""The folder of compiled code: whoever else could write on the way to it could run code here."""

import os

import pytest

from extract.compute.own_folder import require_own_folder
from features_store.errors import MachineError


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "a" / "b" / "compiled"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "inner").mkdir()
    (folder / "inner" / "code.so").write_text("code")
    return folder


def test_a_folder_of_ones_own(cache):
    require_own_folder(cache)
    require_own_folder(cache / "not" / "there" / "yet")


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_on_the_way_that_others_may_write(cache, depth, mode):
    place = [cache, *cache.parents][depth]
    place.chmod(mode)

    with pytest.raises(MachineError, match="others than you may write"):
        require_own_folder(cache)
    if depth:
        place.chmod(0o1777)  # as /tmp is: others add to it and take nothing away
        require_own_folder(cache)


def test_a_folder_that_all_may_write_is_none_even_with_the_sticky_bit(cache):
    cache.chmod(0o1777)
    with pytest.raises(MachineError, match="others than you may write"):
        require_own_folder(cache)


def test_a_link_of_ones_own_leads_to_what_is_seen_too(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.parent)
    require_own_folder(tmp_path / "link" / "compiled")
    cache.parent.chmod(0o777)
    with pytest.raises(MachineError, match="others than you may write"):
        require_own_folder(tmp_path / "link" / "compiled")


def test_a_link_in_it(cache, tmp_path):
    (cache / "inner" / "more.so").symlink_to(tmp_path / "elsewhere.so")
    with pytest.raises(MachineError, match=r"more\.so"):
        require_own_folder(cache)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to others")
@pytest.mark.parametrize("name", [".", "..", "inner", "inner/code.so"])
def test_what_belongs_to_somebody_else(cache, name):
    os.chown(cache / name, 12345, -1)
    with pytest.raises(MachineError, match="or have written"):
        require_own_folder(cache)


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="machine code"):
        require_own_folder(tmp_path / "file")
