"""The HTTP side of a service: /live, /ready and /metrics, on the loopback unless told otherwise."""

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from streams.service.addresses import host_ports

Check = Callable[[], Mapping[str, str]]
"""What is missing, each with a sentence; empty when all is well."""
About = Callable[[], Mapping[str, object]]


class Server:
    """A running probe server; `address` is where it really listens."""

    def __init__(self, runner: web.AppRunner, address: str) -> None:
        self._runner = runner
        self.address = address

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(address: str, *, live: Check, ready: Check, registry: CollectorRegistry, about: About = dict) -> Server:
    """Serve the probes at host:port (port 0 = any free one): 200 when the check finds nothing missing, else 503.

    `about` is what /ready tells besides.
    """
    app = web.Application()
    app.router.add_get("/live", _probe(live, "live", dict))
    app.router.add_get("/ready", _probe(ready, "ready", about))
    app.router.add_get("/metrics", _metrics(registry))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    ((host, port),) = host_ports(address)
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        msg = f"Nothing can listen on KAIROS_HTTP={address}: {error.strerror}; set another port, or 0 for any free one."
        raise OSError(error.errno, msg) from error
    host, port = runner.addresses[0][:2]
    return Server(runner, f"{host}:{port}")


def _probe(check: Check, name: str, about: About) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        missing = dict(check())
        told = {name: not missing, "waiting_for": missing, **about()}
        body = orjson.dumps(told, option=orjson.OPT_INDENT_2)
        return web.Response(
            body=body + b"\n", status=503 if missing else 200, content_type="application/json", charset="utf-8"
        )

    return answer


def _metrics(registry: CollectorRegistry) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
