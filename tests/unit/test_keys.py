"""The file of keys: what it keeps, who may change it when, and what the api learns of it."""

import hmac
import io
import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import main
from cli.preflight import locked
from pipeline.base.errors import KeysUnavailable, NotFound
from pipeline.base.keys import ROLES, KeyFile, Keys, includes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "keys.json")


def test_each_role_may_do_what_the_ones_before_it_may():
    assert [[includes(role, needed) for needed in ROLES] for role in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_of_a_key_only_a_hash_is_kept_and_only_for_its_owner(file):
    key, text = file.create("ward 3", "search")

    kept = file.path.read_text()
    assert text.startswith(f"kindred_{key.id}_")
    assert text.rpartition(f"{key.id}_")[2] not in kept
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert file.read() == (key,)


def test_a_key_opens_and_nothing_near_it_does(file):
    key, text = file.create("ward 3", "ingest")
    other, _ = file.create("ward 4", "admin")
    keys = Keys(file, ())

    assert keys.find(text) == key
    secret = text.split("_", 2)[2]
    for wrong in (
        text[:-1], f"{text}x", secret, "", "kindred", "kindred__", f"kindred_{key.id}_",
        f"kindred_{other.id}_{secret}", f"kindred_00000000_{secret}", f"other_{key.id}_{secret}",
        f"kindred_{key.id}_{key.sha256}", "schlüssel",
    ):  # fmt: skip
        assert keys.find(wrong) is None, wrong


def test_a_reader_learns_of_every_change_and_reads_only_then(file, monkeypatch):
    reads = []
    read = KeyFile.read
    keys = Keys(file, ())
    monkeypatch.setattr(KeyFile, "read", lambda self: reads.append(1) or read(self))
    assert not keys.needed

    key, text = file.create("ward 3", "search")
    before = len(reads)
    assert [keys.find(text) for _ in range(5)] == [key] * 5
    assert len(reads) == before + 1
    _, newer = file.create("ward 3", "search")
    assert keys.find(newer)
    assert keys.by_id(key.id)
    file.revoke(key.id)
    assert keys.find(text) is None
    assert keys.by_id(key.id) is None
    assert keys.find(newer)


def test_a_key_that_has_expired_is_none(file):
    key, text = file.create("a guest", "search", days=2)
    _, past = file.create("a guest", "search", days=0)
    keys = Keys(file, ())

    assert keys.find(text)
    assert timedelta(days=1) < key.expires - datetime.now(UTC) < timedelta(days=2)
    assert keys.find(past) is None


def test_once_there_were_keys_nothing_opens_without_one(file):
    key, _ = file.create("ward 3", "search")
    file.revoke(key.id)
    keys = Keys(file, ())

    assert keys.needed
    file.path.unlink()
    assert keys.needed
    assert not Keys(file, ()).needed


def test_a_broken_file_shuts_the_door(file):
    _, text = file.create("ward 3", "search")
    keys = Keys(file, ("plain-key-of-the-environment",))
    file.path.write_text('{"keys": [{}]}')

    with pytest.raises(KeysUnavailable, match=r"keys\.json"):
        keys.find(text)
    with pytest.raises(KeysUnavailable):
        file.create("another", "admin")
    assert file.path.read_text() == '{"keys": [{}]}'


def test_secrets_are_compared_in_constant_time_and_as_often_for_an_unknown_id(file, monkeypatch):
    key, text = file.create("ward 3", "search")
    keys = Keys(file, ("first-plain-key-of-two", "second-plain-key-of-two"))
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(1) or real(a, b))

    counts = []
    for given in (
        text,
        f"kindred_{key.id}_wrong",
        "kindred_00000000_wrong",
        "first-plain-key-of-two",
    ):
        compared.clear()
        keys.find(given)
        counts.append(len(compared))

    assert counts == [3, 3, 3, 3]


def test_keys_of_the_environment_are_admins_with_an_id_that_names_them_alone(file):
    first, second = "first-plain-key-of-two", "second-plain-key-of-two"
    keys = Keys(file, (first, second))

    found = keys.find(first)
    assert found.role == "admin"
    assert keys.by_id(found.id) == found
    assert keys.find(second).id != found.id
    assert Keys(file, (second,)).by_id(found.id) is None
    assert first not in repr(found)


def test_several_writers_lose_nothing_of_each_other(file):
    """Processes, since a lock of a file is one of processes. They wait for each other to begin."""
    program = (
        "import sys; from pathlib import Path; from pipeline.base.keys import KeyFile\n"
        "print('here', flush=True); sys.stdin.read()\n"
        "for n in range(40): KeyFile(Path(sys.argv[1])).create(f'{sys.argv[2]} {n}', 'search')"
    )
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(file.path), name], cwd=ROOT, stdin=pipe, stdout=pipe
        )
        for name in ("one", "two", "three")
    ]
    assert [writer.stdout.readline() for writer in writers] == [b"here\n"] * 3
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()

    names = {key.name for key in file.read()}
    assert names == {f"{name} {n}" for name in ("one", "two", "three") for n in range(40)}


def test_revoking_twice_keeps_the_first_time_and_an_unknown_key_is_named(file):
    key, _ = file.create("ward 3", "search")
    assert file.revoke(key.id) == file.revoke(key.id)
    with pytest.raises(NotFound, match="00000000"):
        file.revoke("00000000")


# --- kindred keys --------------------------------------------------------------------------------


def test_the_command_line_makes_lists_and_revokes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KINDRED_DATA", str(tmp_path))
    keys = Keys(KeyFile(tmp_path / "keys.json"), ())

    assert main.run(["keys", "create", "ward 3", "--role", "ingest", "--expires", "30"]) == 0
    text = capsys.readouterr().out.strip()
    key = keys.find(text)
    assert (key.name, key.role) == ("ward 3", "ingest")

    assert main.run(["keys", "list", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["keys"]
    assert listed["id"] == key.id
    assert "sha256" not in listed
    assert main.run(["keys", "revoke", key.id]) == 0
    assert keys.find(text) is None
    assert main.run(["keys", "list"]) == 0
    assert "revoked" in capsys.readouterr().out


def test_the_first_key_says_what_it_changes_and_where_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KINDRED_SOURCES", raising=False)
    make = ["keys", "create", "ward 3", "--role", "search", "--data", str(tmp_path / "data")]

    assert main.run(make) == 0
    first = capsys.readouterr().err
    assert main.run(make) == 0
    second = capsys.readouterr().err
    monkeypatch.setenv("KINDRED_SOURCES", "/srv/images")
    assert main.run([*make[:-1], str(tmp_path / "other")]) == 0
    named = capsys.readouterr().err

    for told in (first, second):
        assert f"in {tmp_path}/data/keys.json" in told
    assert "every call needs a key" in first and "every call" in named
    assert "KINDRED_SOURCES" in first and "KINDRED_SOURCES" not in named
    assert "every call" not in second


@pytest.mark.parametrize("answer", ["y", "n"])
def test_in_a_folder_where_nothing_runs_it_asks(tmp_path, capsys, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))

    code = main.run(["keys", "create", "ward 3", "--role", "search", "--data", str(tmp_path)])

    assert code == (0 if answer == "y" else 1)
    assert f"Nothing runs in {tmp_path}" in capsys.readouterr().err
    assert (tmp_path / "keys.json").exists() is (answer == "y")


def test_in_a_folder_where_a_system_runs_it_asks_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal(""))
    make = ["keys", "create", "ward 3", "--role", "search", "--data", str(tmp_path)]

    with locked(tmp_path, print):
        assert main.run(make) == 0
    monkeypatch.setenv("KINDRED_REDIS_URL", "redis://:secret-of-redis@redis")  # as in a container
    assert main.run(make) == 0
    assert "Nothing runs" not in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["create", "ward 3"], "--role", 2),
        (["create", "ward 3", "--role", "boss"], "search, ingest, admin", 2),
        (["create", "two\nlines", "--role", "admin"], "one line", 2),
        (["revoke", "00000000"], "no key 00000000", 1),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, says, code):
    assert main.run(["keys", *arguments, "--data", str(tmp_path)]) == code

    told = capsys.readouterr().err
    assert says in told
    assert len(told.strip().splitlines()) == 1
