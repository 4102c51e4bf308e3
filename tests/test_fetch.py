"""A release is fetched whole and right, or not at all; a cut download goes on; nothing is written outside."""

import csv
import hashlib
import io
import random
import re
import socket
import stat
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest

from lsn_core.data import COLUMNS
from lsn_core.fetch import TERMS, damaged, fetch, read_hashes, shipped_manifest
from lsn_core.files import InputError

FILES = {f"Data/joint_{k}/{name}": random.Random(f"{k}{name}").randbytes(40_000) for k in (1, 2) for name in "abc"}
NAME = "Data/joint_1/a"


def zipped(files: dict[str, bytes], top: str = "release-1b6163ab/") -> bytes:
    """An archive as a forge makes it: everything below one folder, and more than the manifest names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"README.md": b"not in the manifest", **files}.items():
            archive.writestr(top + name, data)
    return buffer.getvalue()


@dataclass
class Server:
    """What a server has and how it behaves, and the Range that each request asked for."""

    url: str = ""
    body: bytes = field(default_factory=lambda: zipped(FILES))
    version: str = '"1"'
    cut: int | None = None  # bytes after which it closes the connection, once
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send what follows the start of the Range, or all of it."""
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if request.path != "/release.zip":
            return request.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.body):
            return request.send_error(416)
        request.send_response(206 if start else 200)
        request.send_header("ETag", self.version)
        request.send_header("Content-Length", str(len(self.body) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        request.end_headers()
        end, self.cut = self.cut, None
        request.wfile.write(self.body[start:end])


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """A server on this machine."""
    monkeypatch.setenv("no_proxy", "*")
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.answer(self)

        def log_message(self, *_) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    told.url = f"http://127.0.0.1:{http.server_port}/release.zip"
    yield told
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def manifest(tmp_path) -> Path:
    """The hashes of FILES."""
    path = tmp_path / "manifest.csv"
    lines = [f"{name},{hashlib.sha256(data).hexdigest()},image" for name, data in FILES.items()]
    path.write_text("\n".join(["path,sha256,kind", *lines]) + "\n")
    return path


@pytest.fixture
def dest(tmp_path) -> Path:
    """A folder that does not exist yet, alone in another one."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "bls"


def held(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_is_fetched_verified_and_then_left_alone(server, manifest, dest):
    told = fetch(dest, url=server.url, manifest=manifest)
    assert "6 files fetched and verified" in told
    assert held(dest) == FILES, "the files of the manifest, and no others"
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]
    assert "complete: 6 files verified" in fetch(dest, url=server.url, manifest=manifest)
    assert server.asked == [None], "the second call asks nobody"


def test_an_empty_folder_is_filled_and_a_local_archive_is_as_good(manifest, dest, tmp_path):
    dest.mkdir()
    (tmp_path / "copy.zip").write_bytes(zipped(FILES))
    fetch(dest, url=(tmp_path / "copy.zip").as_uri(), manifest=manifest)
    assert held(dest) == FILES


@pytest.mark.parametrize("cut", [1, 100_000, -1])
def test_a_cut_connection_goes_on_where_it_stopped(server, manifest, dest, cut):
    server.cut = cut % len(server.body)
    with pytest.raises(InputError, match=r"release\.zip: the connection was cut after .* run the same command again"):
        fetch(dest, url=server.url, manifest=manifest)
    assert not dest.exists()
    fetch(dest, url=server.url, manifest=manifest)
    assert server.asked == [None, f"bytes={cut % len(server.body)}-"]
    assert held(dest) == FILES
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_a_server_without_ranges_begins_again(server, manifest, dest):
    server.cut, server.ranges = 50_000, False
    with pytest.raises(InputError, match="cut"):
        fetch(dest, url=server.url, manifest=manifest)
    fetch(dest, url=server.url, manifest=manifest)
    assert server.asked == [None, "bytes=50000-"]
    assert held(dest) == FILES


def test_halves_of_two_archives_are_not_joined(server, manifest, dest):
    """A forge packs anew at any time; then what came before is of no use."""
    server.cut = 50_000
    with pytest.raises(InputError, match="cut"):
        fetch(dest, url=server.url, manifest=manifest)
    server.version, server.body = '"2"', zipped(dict(reversed(FILES.items())))
    fetch(dest, url=server.url, manifest=manifest)
    assert server.asked == [None, "bytes=50000-", None]
    assert held(dest) == FILES


def test_a_download_that_was_whole_when_it_was_stopped(server, manifest, dest):
    server.cut = 50_000
    with pytest.raises(InputError, match="cut"):
        fetch(dest, url=server.url, manifest=manifest)
    next(dest.parent.glob(".bls.fetch/*.part")).write_bytes(server.body)
    fetch(dest, url=server.url, manifest=manifest)
    assert held(dest) == FILES


def test_what_was_cut_elsewhere_is_not_mixed_in(server, manifest, dest):
    server.cut = 50_000
    with pytest.raises(InputError, match="cut"):
        fetch(dest, url=server.url, manifest=manifest)
    fetch(dest, url=server.url.replace("127.0.0.1", "localhost"), manifest=manifest)
    assert server.asked == [None, None]
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


def refused(dest: Path, **asked) -> str:
    """The sentence with which a fetch is refused, after which there is nothing new."""
    before = sorted(dest.parent.rglob("*")) if dest.parent.is_dir() else None
    with pytest.raises(InputError) as error:
        fetch(dest, **asked)
    assert before is None or sorted(dest.parent.rglob("*")) == before
    return str(error.value)


def test_a_wrong_file_leaves_nothing(server, manifest, dest):
    server.body = zipped(FILES | {NAME: b"something else"})
    said = refused(dest, url=server.url, manifest=manifest)
    assert server.url in said and f"{NAME} is not what the release holds" in said and "--url" in said


def test_a_missing_file_leaves_nothing(server, manifest, dest):
    server.body = zipped({name: data for name, data in FILES.items() if "joint_1" not in name})
    said = refused(dest, url=server.url, manifest=manifest)
    assert server.url in said and f"{NAME} and 2 more are not in it" in said


@pytest.mark.parametrize("body", [b"<html>Please log in</html>", zipped(FILES)[:-30], b" "])
def test_what_is_no_archive_leaves_nothing(server, manifest, dest, body):
    server.body = body
    assert "unusable archive" in refused(dest, url=server.url, manifest=manifest)


def test_a_damaged_archive_leaves_nothing(server, manifest, dest):
    middle = len(server.body) // 2
    server.body = server.body[:middle] + bytes(64) + server.body[middle + 64 :]
    assert "unusable archive" in refused(dest, url=server.url, manifest=manifest)


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "..\\evil", "C:/evil", "top/C/../../../evil"])
def test_an_archive_that_points_outside_is_refused(server, manifest, dest, name):
    buffer = io.BytesIO(server.body)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, b"evil")
    server.body = buffer.getvalue()
    said = refused(dest, url=server.url, manifest=manifest)
    assert "points outside" in said and "evil" in said


def test_an_archive_with_a_link_is_refused(server, manifest, dest):
    link = zipfile.ZipInfo("release/Data")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO(server.body)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(link, "/etc")
    server.body = buffer.getvalue()
    assert "'release/Data' in it is a link" in refused(dest, url=server.url, manifest=manifest)


def test_a_server_that_has_it_not(server, manifest, dest):
    said = refused(dest, url=server.url + "x", manifest=manifest)
    assert f"{server.url}x: the server answers 404" in said and "--url" in said


def test_nobody_there(manifest, dest, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/release.zip"
    said = refused(dest, url=url, manifest=manifest)
    assert f"{url}: cannot be reached" in said and "refused" in said and "check the connection" in said


@pytest.mark.parametrize("url", ["release.zip", "ftp:", "http://", "http://a b/"])
def test_no_address(manifest, dest, url):
    assert f"{url}: cannot be reached" in refused(dest, url=url, manifest=manifest)


def test_other_content_is_never_touched(server, manifest, dest):
    dest.mkdir()
    (dest / "thesis.txt").write_text("mine")
    for force in (False, True):
        said = refused(dest, url=server.url, manifest=manifest, force=force)
        assert f"{dest}: holds other files; give the path of a new or empty folder" in said
    said = refused(dest / "thesis.txt", url=server.url, manifest=manifest)
    assert "thesis.txt: is a file" in said
    assert server.asked == []


def test_where_nothing_can_be_written(server, manifest, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    said = refused(tmp_path / "file" / "bls", url=server.url, manifest=manifest)
    assert "bls: cannot be written" in said


def test_a_full_disk_is_foreseen(server, manifest, dest, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    said = refused(dest, url=server.url, manifest=manifest)
    assert f"{dest.parent}: 0 MB are needed and 0 MB free; free some space" in said


def test_a_disk_that_fills_later_does_not_cost_the_download(server, manifest, dest, monkeypatch):
    frees = iter([10**9, 1000, 10**9])
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=next(frees)))
    with pytest.raises(InputError, match="free some space"):
        fetch(dest, url=server.url, manifest=manifest)
    assert not dest.exists()
    fetch(dest, url=server.url, manifest=manifest)
    assert held(dest) == FILES and server.asked == [None]


def test_damage_is_named_and_mended_by_force(server, manifest, dest):
    fetch(dest, url=server.url, manifest=manifest)
    (dest / NAME).write_bytes(b"damaged")
    (dest / "Data" / "joint_2" / "c").unlink()
    (dest / "manifest.csv").write_text("mine")
    untouched = (dest / "Data" / "joint_1" / "b").stat()
    said = refused(dest, url=server.url, manifest=manifest)
    assert f"{dest}: {NAME} and 1 more are missing or damaged" in said and "--force" in said
    fetch(dest, url=server.url, manifest=manifest, force=True)
    assert held(dest) == FILES | {"manifest.csv": b"mine"}
    assert (dest / "Data" / "joint_1" / "b").stat() == untouched


def test_what_is_no_manifest(tmp_path):
    (tmp_path / "list.csv").write_text("name,hash\na,b\n")
    for name, said in (("list.csv", "not a manifest"), ("none.csv", "no such file")):
        with pytest.raises(InputError, match=rf"{name}: {said}"):
            read_hashes(tmp_path / name)


def test_the_command_tells_the_terms_and_needs_the_whole_release(server, dest, lsn):
    told = lsn("data", "fetch", "bls-gan", dest, "--url", server.url)
    assert TERMS in told.out and "no licence" in TERMS and "redistribute" in TERMS and "Cite" in TERMS
    assert told.code == 1 and not dest.exists()
    assert "and 4774 more are not in it" in told.err
    assert lsn("data", "fetch", "another", dest).code == 2


def listed() -> list[dict[str, str]]:
    """The rows of the shipped manifest."""
    return list(csv.DictReader(shipped_manifest().read_text().splitlines()))


def test_the_shipped_manifest_names_files_below_data_once_each():
    rows = listed()
    assert list(rows[0]) == ["path", "sha256", "kind", "joint", "finger", "side", "split", "overlap_px"]
    hashes = read_hashes(shipped_manifest())
    assert len(rows) == len(hashes) == 4775
    assert all(path.startswith("Data/") and ".." not in path for path in hashes)
    assert all(len(bytes.fromhex(value)) == 32 for value in hashes.values())


def test_the_shipped_manifest_is_that_of_the_radiographs(bls_gan):
    """A copy may hold fewer joints, and lists that say so; no image or mask of it may differ."""
    hashes = {path: value for path, value in read_hashes(shipped_manifest()).items() if path.endswith((".jpg", ".bmp"))}
    differ = damaged(bls_gan, {path: value for path, value in hashes.items() if (bls_gan / path).is_file()})
    assert differ == [] and len(hashes) == 4767


def card(heading: str) -> list[list[str]]:
    """The cells of the data card's table whose header begins with a word, without the header."""
    lines = (Path(__file__).parents[1] / "data" / "README.md").read_text().splitlines()
    start = next(k for k, line in enumerate(lines) if line.strip().startswith(f"| {heading} "))
    table = takewhile(lambda line: line.strip().startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table]


def test_the_data_card_counts_what_the_manifest_lists():
    """Per finger: radiographs, left, right, joints, train, test, those that overlap."""
    images = [row for row in listed() if row["kind"] == "image"]
    for finger, *told in card("finger"):
        rows = [row for row in images if finger in (row["finger"], "all")]
        sides = [sum(row["side"] == side for row in rows) for side in "LR"]
        splits = [sum(row["split"] == split for row in rows) for split in ("train", "test")]
        overlap = sum(int(row["overlap_px"]) >= 20 for row in rows)
        counts = [len(rows), *sides, len({row["joint"] for row in rows}), *splits, overlap]
        assert list(map(int, told)) == counts, finger


def test_the_data_card_names_the_masks_that_are_wrong():
    wrong = [row for row in listed() if int(row["overlap_px"] or 0) > 15_000]
    named = [[row["joint"], Path(row["path"]).name[:8], row["split"]] for row in wrong]
    assert sorted(card("joint")) == sorted(named) and len(named) == 8


def test_the_data_card_explains_every_column():
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text()
    ours = text.partition("## Your own radiographs")[2].partition("\n## ")[0]
    release = text.partition("### The manifest's columns")[2].partition("\n## ")[0]
    assert set(COLUMNS) <= set(re.findall(r"`(\w+)`", ours))
    assert set(listed()[0]) <= set(re.findall(r"`(\w+)`", release))
