"""What strangers wrote is shown, and a terminal obeys none of it."""

import os
import subprocess
import sys

import pytest

from features_store.manifest import ManifestRow, write_manifest
from pipelines.terminal import in_a_line, print_program, printable, printable_streams
from tests.stores import header, make_store

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.exe\u2066\x7f\u2028"


def obeyed(text):
    """The characters of a text that a terminal would not just show."""
    return {sign for sign in text if not sign.isprintable()} - {"\n"}


def test_ids_and_labels_of_a_store(cubereel, tmp_path):
    make_store(tmp_path / "s", {f"a{HOSTILE}": 2})
    write_manifest(tmp_path / "s" / "manifest.csv", [ManifestRow(f"a{HOSTILE}", "p", HOSTILE)])
    make_store(tmp_path / "t", {"b": 2}, store_header=header(versions={HOSTILE: HOSTILE}))

    for verb in (("ls", tmp_path / "s"), ("info", tmp_path / "t"), ("diff", tmp_path / "s",
                 tmp_path / "t"), ("verify", tmp_path / f"no{HOSTILE}")):  # fmt: skip
        cubereel("store", *verb)
        assert not obeyed(cubereel.out + cubereel.err)
    cubereel("store", "ls", tmp_path / "s")
    assert r"a\x1b[2J" in cubereel.out
    assert r"\u202egnp.exe" in cubereel.out


def test_errors_and_usage(cubereel, tmp_path):
    for arguments in (("train", tmp_path / HOSTILE, "--head", "mean-pool"), (HOSTILE,),
                      ("train", tmp_path, "--head", HOSTILE)):  # fmt: skip
        assert cubereel(*arguments) in (2, 3)
        assert not obeyed(cubereel.err)


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_process_on_a_terminal(tmp_path, locale):
    pty, terminal = os.openpty()
    code = "from pipelines.cli import main; main()"
    arguments = ["train", str(tmp_path / HOSTILE), "--head", "mean-pool"]
    environment = {**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    shown = os.read(pty, 2**16).decode()

    assert done.returncode in (2, 3)
    assert not obeyed(shown.replace("\r\n", "\n"))
    assert "Traceback" not in shown


def test_one_line_stays_one(capsys):
    assert in_a_line("a\nb\tc") == r"a\x0ab\x09c"
    assert printable("a\nb\tc – ü 漢") == "a\nb\tc – ü 漢"
    assert printable("\udcff") == r"\udcff"
    with printable_streams():
        print_program(f"# {HOSTILE}\n")  # no terminal: a file that bash will read
    assert capsys.readouterr().out == f"# {HOSTILE}\n"


def test_a_newline_in_a_name_does_not_split_a_prediction(cubereel, monkeypatch, tmp_path):
    from pipelines.training import evaluate

    found = evaluate.Prediction("/a\nb\t.mp4", "dark\nbright", {"dark\nbright": 1.0})
    monkeypatch.setattr(evaluate, "predict", lambda *_, **__: [found])
    for name in ("c.json", "a.mp4"):
        (tmp_path / name).touch()

    assert cubereel("predict", tmp_path / "c.json", tmp_path / "a.mp4") == 0
    _, line = cubereel.out.splitlines()
    assert line.split()[:2] == [r"/a\x0ab\x09.mp4", r"dark\x0abright"]
