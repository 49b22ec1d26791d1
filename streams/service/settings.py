"""Settings from the environment: read once into frozen dataclasses, with all problems reported at once."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from schemas.keys import Keys
from schemas.topics import Topics
from streams.service.addresses import host_ports, redis_address
from streams.service.tls import wrong_files
from streams.service.values import converter

T = TypeVar("T")


class SettingsError(Exception):
    """The environment does not make valid settings; the text lists everything that is wrong."""

    exit_code = 78  # EX_CONFIG of sysexits: starting again does not help

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "One setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__("\n  ".join([f"{count} wrong:", *problems]))


def setting(
    env: str,
    doc: str,
    *,
    default: Any = dataclasses.MISSING,
    least: float | None = None,
    most: float | None = None,
    secret: bool = False,
    check: Callable[[Any], object] | None = None,
) -> Any:
    """One field of a settings dataclass. A secret is left out of repr and may be given as a file by `<env>_FILE`.

    `check` raises ValueError on a value that cannot be: with a sentence, or with the rest of one that begins with it.
    """
    facts = {"env": env, "doc": doc, "least": least, "most": most, "secret": secret, "check": check}
    return dataclasses.field(default=default, repr=not secret, metadata=facts)


@dataclass(frozen=True)
class Connections:
    """Where Kafka and Redis are, how to get in, and which part of them is ours."""

    kafka: str = setting(
        "KAIROS_KAFKA", "Kafka brokers as host:port, comma-separated.", default="127.0.0.1:9092", check=host_ports
    )
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "KAIROS_KAFKA_SECURITY", "The brokers' security protocol.", default="PLAINTEXT"
    )
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting(
        "KAIROS_KAFKA_SASL_MECHANISM", "How to log in where the protocol has SASL.", default="SCRAM-SHA-512"
    )
    kafka_username: str | None = setting("KAIROS_KAFKA_USERNAME", "SASL user.", default=None)
    kafka_password: str | None = setting("KAIROS_KAFKA_PASSWORD", "SASL password.", default=None, secret=True)
    kafka_ca: Path | None = setting("KAIROS_KAFKA_CA", "CA file; the system's when unset.", default=None)
    kafka_cert: Path | None = setting("KAIROS_KAFKA_CERT", "Client certificate file.", default=None)
    kafka_key: Path | None = setting("KAIROS_KAFKA_KEY", "Key file of the client certificate.", default=None)
    redis: str = setting(
        "KAIROS_REDIS",
        "redis[s]://host:port/db, redis[s]+cluster://host:port,... or redis[s]+sentinel://host:port,.../service.",
        default="redis://127.0.0.1:6379/0",
        secret=True,
        check=redis_address,
    )
    redis_username: str | None = setting("KAIROS_REDIS_USERNAME", "ACL user, before the URL's.", default=None)
    redis_password: str | None = setting("KAIROS_REDIS_PASSWORD", "Password of the user.", default=None, secret=True)
    redis_ca: Path | None = setting("KAIROS_REDIS_CA", "CA file; the system's when unset.", default=None)
    redis_cert: Path | None = setting("KAIROS_REDIS_CERT", "Client certificate file.", default=None)
    redis_key: Path | None = setting("KAIROS_REDIS_KEY", "Key file of the client certificate.", default=None)
    namespace: str = setting("KAIROS_NAMESPACE", "Name inside every Redis key.", default="main", check=Keys)
    topic_prefix: str = setting("KAIROS_TOPIC_PREFIX", "Put before every topic name.", default="", check=Topics)

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix, self.namespace)

    @property
    def keys(self) -> Keys:
        return Keys(self.namespace)

    def within(self, namespace: str) -> "Connections":
        """The same with the keys and the deltas of another namespace."""
        return dataclasses.replace(self, namespace=namespace)

    def problems(self) -> Iterator[str]:
        if self.kafka_security.startswith("SASL") and not (self.kafka_username and self.kafka_password):
            yield f"KAIROS_KAFKA_SECURITY={self.kafka_security} needs KAIROS_KAFKA_USERNAME and KAIROS_KAFKA_PASSWORD."
        for name in ("kafka", "redis"):
            if bool(getattr(self, f"{name}_cert")) != bool(getattr(self, f"{name}_key")):
                yield f"KAIROS_{name.upper()}_CERT and KAIROS_{name.upper()}_KEY go together: set both or none."
            elif wrong := wrong_files(
                name.upper(), *(getattr(self, f"{name}_{file}") for file in ("ca", "cert", "key"))
            ):
                yield wrong


@dataclass(frozen=True)
class Log:
    """How a command writes down what goes wrong."""

    log: Literal["text", "json"] = setting("KAIROS_LOG", "Format of the log lines.", default="text")


@dataclass(frozen=True)
class Shell(Log):
    """What a service shows of itself."""

    http: str = setting(
        "KAIROS_HTTP", "host:port of /live, /ready, /metrics; port 0 = any.", default="127.0.0.1:6066", check=host_ports
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "KAIROS_LOG_LEVEL", "Least level that is logged.", default="info"
    )


def time_zone(name: str) -> ZoneInfo:
    """The zone of that name; raises ValueError with a part of a sentence."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        msg = "is no time zone, which has a name like Europe/Berlin"
        raise ValueError(msg) from None


def read(cls: type[T], env: Mapping[str, str]) -> T:
    """Settings of the class from the environment; raises SettingsError that names all that is wrong.

    A field of the class is a `setting` or itself a dataclass of settings. An empty variable counts as unset.
    A method `problems()` of the class may yield sentences about values that do not go together.
    """
    problems: list[str] = []
    settings = _read(cls, env, problems)
    if settings is None or problems:
        raise SettingsError(problems)
    return settings


class Described(NamedTuple):
    """One line of the documentation of settings."""

    env: str
    default: str
    doc: str


def describe(cls: type[Any]) -> list[Described]:
    """Every variable the class reads, in the order of its fields."""
    lines: list[Described] = []
    for field, kind in _fields(cls):
        if "env" not in field.metadata:
            lines += describe(kind)
            continue
        default = (
            "required" if field.default is dataclasses.MISSING else str("" if field.default is None else field.default)
        )
        lines.append(Described(field.metadata["env"], default, _doc(field, kind)))
    return lines


def help_text(*classes: type[Any]) -> str:
    """The variables of the classes as aligned text for the end of a command's --help."""
    lines = [line for cls in classes for line in describe(cls)]
    width = max(len(line.env) for line in lines)
    return "\n".join(
        ["environment variables:"]
        + [f"  {line.env:<{width}}  {line.doc}{f' [{line.default}]' if line.default else ''}" for line in lines]
    )


def _fields(cls: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(cls)
    return [(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _doc(field: dataclasses.Field[Any], kind: Any) -> str:
    choices = f" One of {', '.join(get_args(kind))}." if get_origin(kind) is Literal else ""
    secret = f" Or a file with it in {field.metadata['env']}_FILE." if field.metadata["secret"] else ""
    return f"{field.metadata['doc']}{choices}{secret}"


def _read(cls: type[T], env: Mapping[str, str], problems: list[str]) -> T | None:
    values: dict[str, Any] = {}
    before = len(problems)
    for field, kind in _fields(cls):
        if "env" not in field.metadata:
            values[field.name] = _read(kind, env, problems)
            continue
        try:
            text = _text(field, env)
            if text is not None:
                values[field.name] = _parse(text, field, kind)
            elif field.default is dataclasses.MISSING:
                problems.append(f"{field.metadata['env']} is not set: {_doc(field, kind)}")
        except ValueError as error:
            problems.append(str(error))
    if len(problems) > before:
        return None
    settings = cls(**values)
    check = cast("Callable[[], Iterator[str]] | None", getattr(settings, "problems", None))
    problems.extend(check() if check else ())
    return settings


def _text(field: dataclasses.Field[Any], env: Mapping[str, str]) -> str | None:
    name = field.metadata["env"]
    text, file = env.get(name, "").strip() or None, env.get(f"{name}_FILE", "") if field.metadata["secret"] else ""
    if not file:
        return text
    if text is not None:
        msg = f"{name} and {name}_FILE are both set: unset one."
        raise ValueError(msg)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        msg = f"{name}_FILE={file} cannot be read: {error.strerror}."
        raise ValueError(msg) from error


def _parse(text: str, field: dataclasses.Field[Any], kind: Any) -> Any:
    env, doc = field.metadata["env"], _doc(field, kind)
    shown = f"{env}=***" if field.metadata["secret"] else f"{env}={text}"
    try:
        value = converter(kind)(text)
    except ValueError as error:
        msg = f"{shown} {error}: {doc}"
        raise ValueError(msg) from None
    check = field.metadata["check"]
    try:
        if check is not None:
            check(value)
    except ValueError as error:
        msg = _complaint(env, shown, str(error), doc)
        raise ValueError(msg) from None
    least, most = field.metadata["least"], field.metadata["most"]
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"at most {most}" if least is None else f"{least} to {most}"
        msg = f"{shown} must be {bounds}: {doc}"
        raise ValueError(msg)
    return value


def _complaint(env: str, shown: str, wrong: str, doc: str) -> str:
    """A sentence of the check's own, or one made of the rest that the check gave."""
    if wrong.startswith(env):
        return wrong
    return f"{shown}: {wrong}" if wrong[0].isupper() else f"{shown} {wrong}: {doc}"
