"""The `jaxmerge` command: finds the subcommand's module when it is called, and turns every error into an exit code.

Only typer is imported to answer `--help`; a subcommand's module imports what it needs inside its function.
"""

import os
import signal
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from types import FrameType

import typer

from jaxmerge.errors import Interrupted, JaxmergeError, error_lines
from jaxmerge.runtime.compilation_cache import keep_compilations

COMMANDS = (
    *("merge", "evolve", "evaluate", "convert", "inspect", "diff", "export", "extract-lora"),
    *("transplant-tokens", "moe"),
    *("report", "watch", "launch", "demo"),
)
# Those whose last folder is what they write.
WITH_OUT = ("merge", "evolve", "export", "extract-lora", "transplant-tokens", "moe", "report", "demo")

INTERRUPTED = "interrupted; the same command goes on"


def app() -> typer.Typer:
    """The command line with all its subcommands, one module of this package each."""
    cli = typer.Typer(
        name="jaxmerge",
        help="Merge models and evolve the merge.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_options)
    for name in COMMANDS:
        cli.command(name)(import_module(f"jaxmerge.cli.{name.replace('-', '_')}").command)
    return cli


def _print_version(wanted: bool) -> None:
    if wanted:
        from jaxmerge import __version__

        typer.echo(__version__)
        raise typer.Exit()


def _options(
    debug: bool = typer.Option(False, "--debug", help="Print a traceback when something fails."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    pass


def run() -> None:
    """Entry point of the console script. Ends the process with the exit codes of the contract."""
    keep_compilations()
    code = main(sys.argv[1:])
    if "jaxmerge.runtime.distributed" in sys.modules:
        from jaxmerge.runtime.distributed import leave

        leave(code)
    sys.exit(code)


def main(arguments: list[str]) -> int:
    """Run one command and give its exit code: 0 done, 1 defect, 2 wrong input, 3 bad checkpoint, 75 interrupted."""
    # `--debug` is understood anywhere on the line, before or after the subcommand; what follows `--` is another's.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    own = [argument for argument in arguments[:end] if argument != "--debug"]
    arguments = [*own, *arguments[end:]] or ["--help"]
    received: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        raise KeyboardInterrupt

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, interrupt)
    warnings.formatwarning = lambda message, *where, **more: f"jaxmerge: warning: {message}\n"
    try:
        code = app()(args=arguments, standalone_mode=False) or 0
        # typer turns an interrupt into an exit code of its own.
        return code if code != 130 else _fail(INTERRUPTED, Interrupted.exit_code, debug)
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED, Interrupted.exit_code, debug)
    except JaxmergeError as error:
        *others, last = error_lines(error)
        for line in others:
            print(f"jaxmerge: {line}", file=sys.stderr)
        return _fail(last, error.exit_code, debug)
    except Exception as error:
        # Code between here and the signal may have turned the interrupt into an error of its own.
        if received:
            return _fail(INTERRUPTED, Interrupted.exit_code, debug)
        return _unexpected(error, arguments, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print("jaxmerge: " + " ".join(message.split()), file=sys.stderr)
    return code


def _unexpected(error: Exception, arguments: list[str], debug: bool) -> int:
    # click's usage errors are the user's input; looked up by name, for typer brings a click of its own.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        command = f"jaxmerge {arguments[0]}" if arguments[0] in COMMANDS else "jaxmerge"
        return _fail(f"{error.format_message()} (see {command} --help)", 2, debug)
    # The folders that other commands are given are models, which are nobody's place for a log.
    given = arguments if arguments[0] in WITH_OUT else []
    folder = next((Path(a) for a in reversed(given) if Path(a).is_dir() and os.access(a, os.W_OK)), Path.cwd())
    log = folder / "crash.log"
    try:
        log.write_text("".join(traceback.format_exception(error)))
        where = f"traceback in {log}"
    except OSError:
        where = "rerun with --debug for the traceback"
    return _fail(f"{type(error).__name__}: {error} (a defect of jaxmerge; {where})", 1, debug)
