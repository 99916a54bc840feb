"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

import pytest

from factories import fill_disk
from kstock_batch.errors import DiskFull
from kstock_batch.files import disk_full_is_named, rename_into_place, sha256, write_atomically


def test_a_written_file_holds_the_bytes_and_may_be_read_by_others(tmp_path):
    path = tmp_path / "new" / "pointer.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["pointer.json"]


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_beside_them(tmp_path, monkeypatch):
    path = tmp_path / "pointer.json"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError(errno.EIO, "the disk broke")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk broke"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["pointer.json"]


def test_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    temp, path, done = tmp_path / "temp", tmp_path / "final", []
    temp.write_bytes(b"whole")
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    rename_into_place(temp, path)
    assert done == ["fsync", "replace", "fsync"]  # the file, its name, the folder that holds the name


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_is_one_sentence_with_its_own_exit_code(code, tmp_path):
    with (
        pytest.raises(DiskFull, match=r"no space left on the disk of .*model") as caught,
        disk_full_is_named(tmp_path / "model"),
    ):
        raise OSError(code, "full")
    assert caught.value.exit_code == 12


def test_other_failures_of_the_disk_keep_their_own_name(tmp_path):
    with pytest.raises(PermissionError), disk_full_is_named(tmp_path):
        raise PermissionError(errno.EACCES, "not yours")


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part_of_the_new(small_disk):
    path = small_disk / "pointer.json"
    write_atomically(path, b"old")
    filler = fill_disk(small_disk, leave=8192)
    with pytest.raises(DiskFull):
        write_atomically(path, b"x" * 100_000)
    assert path.read_bytes() == b"old"
    filler.unlink()
    assert os.listdir(small_disk) == ["pointer.json"]


def test_a_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
