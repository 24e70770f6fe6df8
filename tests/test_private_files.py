"""Who may write to what compiled code is loaded from."""

import os
import stat
import types

import pytest

from sce_numba.private_files import NotPrivateError, make_private, read_private

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")


@pytest.fixture
def lists(monkeypatch):
    """Set who is in the group of new files, by the user database and by that of groups."""

    def set_lists(primary=(), members=(), name="staff"):
        import grp
        import pwd

        group = os.getegid()
        users = [types.SimpleNamespace(pw_name=user, pw_gid=group) for user in primary]
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: types.SimpleNamespace(pw_name="me"))
        monkeypatch.setattr(pwd, "getpwall", lambda: users)
        entry = types.SimpleNamespace(gr_mem=list(members), gr_name=name)
        monkeypatch.setattr(grp, "getgrgid", lambda gid: entry)

    return set_lists


def is_used(folder):
    try:
        make_private(str(folder))
    except NotPrivateError:
        return False
    return True


@pytest.mark.parametrize(
    ("mode", "used"), [(0o700, True), (0o755, True), (0o757, False), (0o1777, False)]
)
def test_nobody_else_may_write_to_the_folder(tmp_path, mode, used):
    tmp_path.chmod(mode)
    assert is_used(tmp_path) == used


@pytest.mark.parametrize(("mode", "used"), [(0o755, True), (0o757, False), (0o1777, True)])
def test_nobody_else_may_replace_the_folder(tmp_path, mode, used):
    folder = tmp_path / "folder"
    tmp_path.chmod(mode)
    assert is_used(folder) == used
    assert folder.exists() == used, "where it is not used it is not made"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"primary": ["me"]}, True),
        ({"primary": ["me"], "members": ["me", "root"]}, True),
        ({"primary": ["me", "you"]}, False),
        ({"primary": ["me"], "members": ["you"]}, False),
        ({"name": "me"}, True),  # a directory service, which lists nobody
        ({"name": "students"}, False),
    ],
)
def test_a_group_may_write_in_which_nobody_else_is(tmp_path, lists, given, used):
    lists(**given)
    tmp_path.chmod(0o775)
    assert is_used(tmp_path) == used
    assert is_used(tmp_path / "folder") == used
    file = tmp_path / "file"
    file.write_bytes(b"content")
    file.chmod(0o664)
    if used:
        assert read_private(file) == b"content"
    else:
        with pytest.raises(NotPrivateError, match=r"file may be written to by others"):
            read_private(file)


@pytest.mark.parametrize("which", ["folder", "parent", "link", "behind a link"])
def test_what_belongs_to_another_user_is_not_used(tmp_path, monkeypatch, which):
    target = tmp_path / "parent" / "folder"
    target.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "parent")
    asked, theirs = {
        "folder": (target, target),
        "parent": (target, target.parent),
        "link": (link / "folder", link),
        "behind a link": (link / "folder", target),
    }[which]
    assert is_used(asked)
    real = os.lstat

    def lstat(path, **more):
        found = real(path, **more)
        own = list(found)
        if os.fspath(path) == str(theirs):
            own[stat.ST_UID] = os.geteuid() + 1
        return os.stat_result(own)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(NotPrivateError, match=f"{theirs} belongs to another user"):
        make_private(str(asked))
