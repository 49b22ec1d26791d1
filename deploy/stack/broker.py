"""A real Apache Kafka broker (KRaft, broker and controller in one) as a child process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from deploy.stack import fetch, ports
from deploy.stack.child import Child
from deploy.stack.errors import StackError
from deploy.stack.protocol import kafka_answers, listens
from deploy.stack.quorum import Seat, cluster_id
from deploy.stack.server import Server

JVM = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
SETTINGS: Mapping[str, str] = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.retention.ms": "-1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
}
_LOG = """
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class Broker(Server):
    """One broker with its data folder; `stop`, `kill` and `start` again keep data and port.

    config     server properties over SETTINGS
    listeners  further listeners by name, with their security protocol: {"SECURE": "SASL_SSL"}; see `addresses`
    users      passwords by user for SCRAM-SHA-512, created when the data folder is
    seat       its place in a quorum of several; see KafkaCluster
    """

    name = "Kafka"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        seat: Seat | None = None,
        jvm: tuple[str, ...] = JVM,
        say: fetch.Say = lambda _: None,
    ) -> None:
        super().__init__(folder)
        self.port = ports.claim(port, "Kafka")
        self.seat = seat or Seat(1, {1: ports.free_port()}, cluster_id())
        self._protocols = dict(listeners or {})
        self._ports = {name: ports.free_port() for name in self._protocols}
        self._config, self._users = dict(config or {}), dict(users or {})
        self._jvm, self._say = jvm, say

    @property
    def address(self) -> str:
        """host:port of the plain listener, as KAIROS_KAFKA takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def addresses(self) -> dict[str, str]:
        """host:port of every further listener by its name."""
        return {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}

    def start(self, timeout_s: float = 60) -> Self:
        """Start (formatting the data folder the first time) and block until the broker answers."""
        self.launch()
        self.wait_ready(timeout_s)
        return self

    def launch(self) -> None:
        """Start and return at once; one of several answers only when most of them run."""
        if self.running:
            return
        jars, java = fetch.kafka_jars(self._say), fetch.java()
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self._write_settings()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(java, jars, properties)
        self._child = Child.start(
            self.name, self._command(java, jars, "kafka.Kafka", properties), folder=self.folder, log=self.log
        )

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Block until the broker answers and every further listener is open: Kafka opens them one after the other."""
        further = self._ports.values()
        self.child.wait_ready(lambda: kafka_answers(self.port) and all(map(listens, further)), timeout_s)

    def _command(self, java: Path, jars: Path, main: str, *arguments: str | Path) -> list[str | Path]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [java, *self._jvm, logging, "-cp", f"{jars}/*", main, *arguments]

    def _format(self, java: Path, jars: Path, properties: Path) -> None:
        users = [
            f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]" for name, password in self._users.items()
        ]
        arguments: list[str | Path] = ["format", "--cluster-id", self.seat.cluster, "--config", properties, *users]
        command = self._command(java, jars, "kafka.tools.StorageTool", *arguments)
        formatting = Child.start("Kafka's StorageTool", command, folder=self.folder, log=self.log)
        if formatting.finish(timeout_s=60) != 0:
            msg = f"Kafka could not format {self.folder / 'data'}; its log {self.log} closes with:\n{formatting.tail()}"
            raise StackError(msg)

    def _write_settings(self) -> Path:
        """Write server.properties and the log settings; return the first."""
        plain = {"PLAINTEXT": self.port, **self._ports}
        protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **self._protocols}
        public = ",".join(f"{name}://127.0.0.1:{port}" for name, port in plain.items())
        lines = {
            "process.roles": "broker,controller",
            "node.id": str(self.seat.node),
            "controller.quorum.voters": self.seat.voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "listeners": f"{public},CONTROLLER://{self.seat.address}",
            "advertised.listeners": public,
            "log.dirs": str(self.folder / "data"),
            **SETTINGS,
            **self._config,
        }
        (self.folder / "log4j2.properties").write_text(_LOG)
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={_escape(value)}\n" for name, value in lines.items()))
        return properties


def _escape(value: str) -> str:
    """Write a value of a Java properties file: backslashes doubled, line ends as escapes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
