"""`kairos`: one table of sub-commands, each imported when it is called, so that no image needs another's libraries."""

import difflib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from deploy import extras
from streams.service.variables import unknown

OURS = ("schemas", "streams", "model_server", "deploy")
INTERRUPTED = 130


class Command(NamedTuple):
    """Where a sub-command lives: `function(argv) -> int` in `module`, which is imported on call.

    `extra`: the optional extra without which it does not start, or empty. `logs`: what it says goes to a log.
    """

    module: str
    function: str
    about: str
    extra: str = ""
    logs: bool = False


GROUPS: dict[str, dict[str, Command]] = {
    "Try it": {
        "demo": Command("deploy.demo.cli", "demo", "watch a shop's events become push candidates"),
        "up": Command("deploy.stack.cli", "up", "run real Kafka and Valkey here, without Docker, until Ctrl-C"),
    },
    "Run it": {
        "topics": Command("streams.cli", "topics", "create the topics and what their offsets mean, or check them"),
        "worker": Command(
            "streams.cli", "worker", "events in, features in Redis: one worker of the stream group", logs=True
        ),
        "model": Command(
            "model_server.cli",
            "model",
            "affected users in, push candidates out: one batching worker",
            "model",
            logs=True,
        ),
        "train": Command(
            "model_server.cli", "train", "learn the ranker from a topic or a log and write a bundle", "model"
        ),
        "models": Command(
            "model_server.models",
            "verb",
            "which bundles there are, how good; bring one into force, go back",
            "model",
        ),
        "evaluate": Command(
            "model_server.cli", "evaluate", "judge every ranker on a topic or a log, by one harness", "evaluate"
        ),
    },
    "Operate it": {
        "replay": Command("streams.replay.replay", "replay", "read events again, into rows beside the live ones"),
        "backfill": Command(
            "streams.replay.backfill", "backfill", "fold files of events into rows beside the live ones"
        ),
        "dead-letters": Command(
            "streams.operations.dead_letters", "verb", "list and show what could not be used; put it back, once"
        ),
        "lag": Command("streams.operations.lag", "lag", "how far the rows are behind, and who waits for an answer"),
        "doctor": Command("deploy.doctor", "doctor", "all that is wrong, and what to do about it, on one page"),
        "capacity": Command(
            "streams.operations.capacity", "capacity", "what a user and an event cost, and a load needs"
        ),
        "analyze": Command(
            "streams.operations.analyze", "analyze", "what is in a log or a topic, before it is imported"
        ),
        "parity": Command("streams.operations.parity_page", "verb", "compare the rows of two namespaces"),
        "promote": Command(
            "streams.operations.promote_page", "verb", "bring a run into force in the place of the live namespace"
        ),
        "erase": Command("streams.operations.erase", "verb", "remove a person from the rows, and keep the person away"),
        "export": Command("streams.operations.export", "verb", "write down all that is kept of a person, as JSON"),
    },
    "Ask it": {
        "inspect": Command("streams.cli", "inspect", "show what is known of a user, readable"),
        "why": Command("model_server.cli", "why", "show why a user got a push, or did not"),
        "version": Command("deploy.cli", "show_version", "show the versions of Kairos and of what it stands on"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command and return the exit status: 0, 1 (it says why), 2 (typed wrongly), 78 (wrong settings), 130.

    Services have more: see ARCHITECTURE.md.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(usage(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name in {"-V", "--version"}:
        name = "version"
    command = COMMANDS.get(name)
    if command is None:
        return _complain(f"kairos has no command '{name}'.{_suggest(name)} See kairos --help.", 2)
    return _run(command, rest)


def usage(*, colour: bool = False) -> str:
    """Return the help page."""
    strong, plain = ("\033[1m", "\033[0m") if colour else ("", "")
    width = max(map(len, COMMANDS)) + 2
    lines = [f"{strong}kairos{plain} COMMAND [OPTIONS]: live behaviour in, the right push at the right moment out"]
    for title, commands in GROUPS.items():
        lines += ["", f"{strong}{title}{plain}"]
        lines += [f"  {strong}{name:<{width}}{plain}{command.about}" for name, command in commands.items()]
    lines += ["", "kairos COMMAND --help shows a command's options. Settings come from KAIROS_* variables."]
    return "\n".join(lines)


def show_version(argv: Sequence[str]) -> int:
    """Print our version and those of the libraries whose inside we depend on."""
    if argv:
        return _complain("kairos version prints versions and takes no arguments.", 0 if "--help" in argv else 2)
    print(f"kairos {installed_version(extras.DISTRIBUTION)}")
    print(f"python {sys.version.split()[0]}")
    for name in ("faust-streaming", "mode-streaming", "aiokafka", "redis", "numpy", "torch", "transformers"):
        print(f"{name} {installed_version(name)}")
    return 0


def installed_version(distribution: str) -> str:
    """Return a distribution's version, or words for its absence."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def _run(command: Command, arguments: list[str]) -> int:
    try:
        extras.require(command.extra)
        if not command.logs:
            _name_unknown_variables()
        function: Callable[[list[str]], int] = getattr(importlib.import_module(command.module), command.function)
        status = function(arguments)
        sys.stdout.flush()  # a reader that has gone is met here, not while the interpreter closes
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain about it once more while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as problem:
        missing = extras.explain_missing(problem.name or "")
        if missing is None:
            raise
        return _ended(missing, 1, arguments)
    except Exception as problem:
        if (sentence := _sentence(problem)) is None:
            raise
        if "KAIROS_TRACEBACK" in os.environ:
            traceback.print_exc()
        if command.logs:  # there was no log yet
            _name_unknown_variables()
        return _ended(sentence, getattr(problem, "exit_code", 1), arguments)


def _ended(sentence: str, status: int, arguments: list[str]) -> int:
    """Say why a command did not come to its own end; to programs by the object that they wait for."""
    if "--json" in arguments:
        print(json.dumps({"error": sentence, "status": status}))
    return _complain(sentence, status)


def _sentence(problem: Exception) -> str | None:
    """What to tell instead of a traceback; None for a fault of the program.

    Errors of our own are sentences that name the way out, and where a file cannot be used its name and the reason are
    enough: where they were raised interests only who looks for it.
    """
    if type(problem).__module__.partition(".")[0] in OURS:
        return str(problem)
    if isinstance(problem, OSError) and problem.filename:
        return f"{problem.filename}: {problem.strerror}."
    return None


def _name_unknown_variables() -> None:
    for sentence in unknown(os.environ):
        _complain(sentence, 0)


def _complain(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


def _suggest(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


if __name__ == "__main__":
    sys.exit(main())
