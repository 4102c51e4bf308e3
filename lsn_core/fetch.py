"""The public BLS-GAN release: downloaded on request, resumed where it was cut, every file checked by its SHA-256.

The release has no licence, so the project ships only facts about it: a manifest with the name and hash of each file.
"""

import csv
import hashlib
import io
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from urllib.response import addinfourl

from tqdm import tqdm

from lsn_core.files import InputError, read_bytes, writing

COMMIT = "1b6163ab53a81083afec3a475e9a843c18381c56"
URL = f"https://github.com/pokeblow/BLS-GAN/archive/{COMMIT}.zip"
PACKAGE = Path(__file__).parent
MANIFESTS = (PACKAGE / "bls_gan_manifest.csv", PACKAGE.parent / "data" / "bls_gan_manifest.csv")  # wheel, checkout
CHUNK = 1 << 18  # bytes taken from a connection at a time
TIMEOUT = 60  # s without a byte, after which a connection counts as cut
Response = HTTPResponse | addinfourl
PARTIAL, NOTHING_THERE = 206, 416  # HTTP: the bytes asked for; the file has no such bytes
TERMS = """\
BLS-GAN is a public release of finger-joint radiographs that carries no licence: nobody has granted the right to copy
it, change it or pass it on. Use it for research, at your own risk; redistribute neither it nor figures drawn from it.
Cite Wang et al., "BLS-GAN: A Deep Layer Separation Framework for Eliminating Bone Overlap in Conventional
Radiographs", AAAI 2025 (arXiv 2409.07304)."""


def fetch(dest: Path, *, url: str = URL, manifest: Path | None = None, force: bool = False) -> str:
    """Make `dest` a complete copy of the release; return a sentence that says so.

    A complete copy is verified and left as it is. In an incomplete one, `force` replaces what is missing or damaged and
    touches nothing else. The archive is verified beside `dest` first: nothing in `dest` changes before every file of
    the release has its hash. A cut download is kept there, and the next call goes on with it. `manifest` is a file with
    the columns path and sha256, by default the shipped one. Raises `InputError` for whatever is in the way.
    """
    dest, hashes = Path(dest), read_hashes(manifest or shipped_manifest())
    wrong = damaged(dest, hashes)
    if not wrong:
        return f"{dest}: complete: {len(hashes)} files verified"
    _refuse(dest, hashes, wrong, force)
    home = Path(os.path.abspath(dest))
    staging = home.with_name(f".{home.name}.fetch")
    with writing(dest):
        try:
            _unpack(_download(url, staging), url, staging / "data", hashes)
            _install(staging / "data", dest, wrong)
            shutil.rmtree(staging)
        finally:
            _tidy(staging)
    return f"{dest}: complete: {len(hashes)} files fetched and verified"


def shipped_manifest() -> Path:
    """Where the manifest of the BLS-GAN release is, in a wheel or in a checkout."""
    return next((path for path in MANIFESTS if path.is_file()), MANIFESTS[0])


def read_hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of each file that a manifest lists, by the file's path.

    Raises `InputError` where the manifest is missing or has no columns path and sha256.
    """
    rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    if not rows or not {"path", "sha256"} <= rows[0].keys():
        raise InputError(f"{path}: not a manifest with the columns path and sha256; install the package again")
    return {row["path"]: row["sha256"] for row in rows}


def damaged(root: Path, hashes: dict[str, str]) -> list[str]:
    """The files of a manifest that are missing below `root` or have another SHA-256."""
    if not root.is_dir():
        return list(hashes)
    return [path for path, expected in hashes.items() if _sha256(root / path) != expected]


def _sha256(path: Path) -> str | None:
    """Hash of a file, None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _refuse(dest: Path, hashes: dict[str, str], wrong: list[str], force: bool) -> None:
    """Raise `InputError` where a release would mix with, or replace, what is there."""
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest}: is a file; give the path of a new folder")
    if not dest.exists() or not any(dest.iterdir()):
        return
    if len(wrong) == len(hashes):
        raise InputError(f"{dest}: holds other files; give the path of a new or empty folder")
    if not force:
        raise InputError(f"{dest}: {_several(wrong)} missing or damaged; fetch what is wrong anew with --force")


def _several(paths: list[str]) -> str:
    """The first of some paths, how many more, and the verb that follows."""
    return f"{paths[0]} and {len(paths) - 1} more are" if len(paths) > 1 else f"{paths[0]} is"


def _download(url: str, staging: Path) -> Path:
    """The archive at `url`, whole, as a file in `staging`."""
    import pooch

    staging.mkdir(parents=True, exist_ok=True)
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}.zip"  # two addresses never share what was cut
    pooch.get_logger().setLevel("WARNING")  # it would tell the archive's hash, which differs from day to day
    resume = partial(_resume, part=staging / f"{name}.part")
    return Path(pooch.retrieve(url, known_hash=None, fname=name, path=staging, downloader=resume))


def _resume(url: str, output_file: str, _pooch: object, *, part: Path) -> None:
    """A downloader for pooch that goes on from the end of `part`. Raises `InputError` for a cut connection."""
    with _open(url, part) as response:
        resumed = response.status == PARTIAL
        part.with_suffix(".version").write_text(_version(response))
        have = part.stat().st_size if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        _check_room(part.parent, int(length or 0))
        bar = tqdm(total=total, initial=have, desc="downloading", unit="B", unit_scale=True)
        with part.open("ab" if resumed else "wb") as file, bar:
            for chunk in _chunks(response, url, part):
                bar.update(file.write(chunk))
    if total is not None and part.stat().st_size < total:
        raise _cut(url, part, "it ended early")
    os.replace(part, output_file)


def _open(url: str, part: Path) -> Response:
    """A connection that delivers what follows `part`, or all of it if the server cannot or has another file by now."""
    if part.is_file() and (have := part.stat().st_size):
        response = _request(url, have)
        same = _version(response) == part.with_suffix(".version").read_text()
        follows = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status not in (PARTIAL, NOTHING_THERE) or (same and follows):
            return response
        response.close()
    return _request(url, 0)


def _request(url: str, start: int) -> Response:
    """Ask for a file from byte `start` on. Raises `InputError` where the server cannot be reached or refuses."""
    headers = {"User-Agent": "lsn-core"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if start and error.status == NOTHING_THERE:
            return error
        error.close()
        refusal = f"{url}: the server answers {error.status} {error.reason}"
        raise InputError(f"{refusal}; try again later, or give another address with --url") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"{url}: cannot be reached ({reason}); check the connection and the address") from error


def _version(response: Response) -> str:
    """What tells one version of a file from the next, empty if the server does not say."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _chunks(response: Response, url: str, part: Path) -> Iterator[bytes]:
    """The bytes of a connection. Raises `InputError` where it is cut."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _cut(url, part, str(error)) from error


def _cut(url: str, part: Path, reason: str) -> InputError:
    """The error for a connection that ended before the file did."""
    size = f"{part.stat().st_size / 1e6:.1f} MB"
    return InputError(f"{url}: the connection was cut after {size} ({reason}); run the same command again to go on")


def _check_room(folder: Path, needed: int) -> None:
    """Raise `InputError` if the disk has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        room = f"{needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB free"
        raise InputError(f"{folder.parent}: {room}; free some space or choose another folder")


def _unpack(archive: Path, url: str, folder: Path, hashes: dict[str, str]) -> None:
    """Write the files of the manifest, and no others, below `folder`; `InputError` unless all have their hash."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = _members(packed)
            lacking = [path for path in hashes if path not in members]
            if lacking:
                raise zipfile.BadZipFile(f"{_several(lacking)} not in it")
            _check_room(folder.parent, sum(members[path].file_size for path in hashes))
            for path in tqdm(hashes, desc="unpacking", unit="file"):
                _write_member(packed, members[path], folder / path)
        if wrong := damaged(folder, hashes):
            raise zipfile.BadZipFile(f"{_several(wrong)} not what the release holds, by SHA-256")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        archive.unlink()  # else the next call would find it again
        raise InputError(f"{url}: unusable archive: {error}; try again, or give another address with --url") from error


def _members(packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by their paths below its one top folder. Raises `BadZipFile` for a dangerous name."""
    members = {}
    for info in packed.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        outside = not parts or parts[0] == "/" or ":" in parts[0] or ".." in parts
        if outside or stat.S_ISLNK(info.external_attr >> 16):
            raise zipfile.BadZipFile(f"{info.filename!r} in it is a link, or points outside")
        members["/".join(parts[1:])] = info
    return members


def _write_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Write one member of an archive to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(info) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file)


def _tidy(staging: Path) -> None:
    """Keep only what the next call can go on with: a download, cut or whole."""
    downloads = [*staging.glob("*.zip"), *staging.glob("*.part")]
    shutil.rmtree(staging / "data" if downloads else staging, ignore_errors=True)


def _install(new: Path, dest: Path, wrong: list[str]) -> None:
    """Put a verified copy in place: as a whole if `dest` is absent or empty, else the files that were wrong."""
    if not dest.exists() or not any(dest.iterdir()):
        os.replace(new, dest)
        return
    for path in wrong:
        (dest / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / path, dest / path)
