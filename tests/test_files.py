"""Files are read and written the same way on every computer, and appear whole or not at all."""

from __future__ import annotations

import ast
import codecs
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundle.errors import CaseError
from bundle.files import JSON_DEPTH, BoundedFile, opened_zip, read_json, read_json_object, write_atomically, write_text

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for room in ("bundle", "monailabel_app", "scripts") for path in sorted((ROOT / room).rglob("*.py"))]
# Methods and functions that use the locale's encoding where none is named.
TEXT_CALLS = {"read_text", "write_text", "open", "fdopen"}


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "Bäll"}'.encode(),
        codecs.BOM_UTF8 + '{"name": "Bäll"}'.encode(),
        '{"name": "Bäll"}'.encode("utf-16"),
        b'{\r\n"name": "B\\u00e4ll"}\r\n',
    ],
    ids=["UTF-8", "with a mark", "UTF-16", "Windows lines"],
)
def test_json_is_read_as_it_was_meant(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    assert read_json(tmp_path / "a.json") == {"name": "Bäll"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deep, at most 100 brackets"),
        (b"[" * 101 + b"]" * 101, "nested 101 deep, at most 100 brackets"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": "\xed\xa0\x80"}', "can't decode"),
        (b"1" * 5000, "digits"),
    ],
    ids=["brackets without an end", "too many brackets", "half a letter", "half a letter in bytes", "a long number"],
)
def test_json_that_could_not_be_handled_is_refused_as_it_is_read(content, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_json_may_be_nested_as_deep_as_the_limit_and_hold_any_letter(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[" * JSON_DEPTH + b'"\\ud83d\\ude00"' + b"]" * JSON_DEPTH)
    assert "\U0001f600" in str(read_json(tmp_path / "a.json"))


def test_a_file_reads_no_more_than_it_has(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with BoundedFile(tmp_path / "a") as file:
        assert file.read(4) == b"0123"
        assert file.read(2**62) == b"456789"
        assert file.read(2**62) == file.read() == b""
        file.seek(8)
        assert file.read() == b"89"


def test_a_record_of_a_zip_is_read_as_far_as_the_file_goes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data", b"12345")
    content = (tmp_path / "a.zip").read_bytes()
    length = content.rindex(b"PK\1\2") + 20  # where the directory says how long the record is in the file
    (tmp_path / "a.zip").write_bytes(content[:length] + b"\xff\xff\xff\x7f" + content[length + 4 :])
    with opened_zip(tmp_path / "a.zip") as archive:
        assert isinstance(archive.fp, BoundedFile)  # zipfile asks it for 2 GB
        assert archive.read("data")[:5] == b"12345"


def test_the_locale_does_not_matter(tmp_path):
    (tmp_path / "a.json").write_bytes('{"name": "Bäll"}'.encode())
    program = (
        "from pathlib import Path; from bundle.files import read_json, write_text; "
        f"write_text(Path({str(tmp_path / 'b.txt')!r}), read_json(Path({str(tmp_path / 'a.json')!r}))['name'])"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert (tmp_path / "b.txt").read_bytes() == "Bäll".encode()


def test_a_text_replaces_the_file_before_or_leaves_it(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "é")
    assert path.read_bytes() == "é".encode()
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda partial: 1 / 0)
    assert path.read_bytes() == "é".encode() and list(path.parent.iterdir()) == [path]


def is_binary(call: ast.Call) -> bool:
    words = [node for part in (*call.args, *(k.value for k in call.keywords)) for node in ast.walk(part)]
    modes = [word.value for word in words if isinstance(word, ast.Constant)]
    return any(isinstance(mode, str) and "b" in mode and len(mode) <= 3 for mode in modes)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_text_names_its_encoding(path):
    for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        of_other = isinstance(call.func, ast.Attribute) and NO_FILE.search(ast.unparse(call.func.value))
        if name not in TEXT_CALLS or is_binary(call) or of_other:
            continue
        named = any(keyword.arg == "encoding" for keyword in call.keywords)
        positional = name in ("read_text", "write_text") and len(call.args) > (name == "write_text")
        ours = name == "write_text" and isinstance(call.func, ast.Name)  # bundle.files.write_text
        assert named or positional or ours, f"{path.name}:{call.lineno}: {ast.unparse(call)}"


# `.open` of what is no file, or gives bytes.
NO_FILE = re.compile(r"^(archive|gzip|os|Image)$|[sS]egmenter|_sessions$")


def test_configs_are_ascii_because_monai_reads_them_in_the_locale():
    for path in (ROOT / "configs").rglob("*.json"):
        assert path.read_bytes().isascii(), path


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), ("{", "is not JSON: "), ("[]", "must hold one JSON object, got a list")],
)
def test_a_file_that_holds_no_json_object_is_refused_in_the_words_of_its_reader(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(CaseError, match=f"the names {message}"):
        read_json_object(tmp_path / "a.json", "the names", CaseError)
