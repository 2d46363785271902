"""`densem`: the sub-commands, and how errors reach a person.

Exit codes: 0 done, 1 finished but something is missing or failed, 2 refused (one line says why),
130 interrupted.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from densem import __version__
from densem.errors import DensemError, DensemWarning, IncompleteError

INTERRUPTED = 130
UsageError: type[Any] = typer.BadParameter.__mro__[1]  # typer may bring its own copy of click

app = typer.Typer(
    name="densem",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a stack of electron-microscopy images to a labelled volume, a score and a page of figures.",
    epilog="First steps:  densem demo   |   densem new STUDY --schema platelet",
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"densem {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more while working.")] = False,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.WARNING)
    logging.getLogger("densem").setLevel(logging.DEBUG if verbose else logging.INFO)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Densem's own warnings are for people; those of libraries are for `--verbose`."""
    if issubclass(category, DensemWarning):
        typer.echo(f"densem: warning: {message}", err=True)
    else:
        logging.getLogger("densem.libraries").debug("%s:%s: %s", filename, lineno, message)


def main() -> None:
    """Run the command line; every refusal is one line on stderr."""
    _heed_signals()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    from densem.cli import (  # noqa: F401  registers the commands
        benchmark,
        datasets,
        doctor,
        export,
        meshes,
        modelling,
        networks,
        object_scoring,
        objects,
        objects_report,
        quantization,
        render,
        results,
        studies,
        viewing,
    )

    try:
        code = app(arguments, standalone_mode=False)
        return _ended(code if isinstance(code, int) else 0)
    except IncompleteError as error:
        return _say(error, 1)
    except DensemError as error:
        return _say(error, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say(OSError(f"{error.filename or 'disk'}: {error.strerror or error}"), 2)
    except UsageError as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _ended(INTERRUPTED)


def _heed_signals() -> None:
    """SIGTERM and a closed terminal end a command as Ctrl-C does; what is ignored (nohup) stays so."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _ended(code: int) -> int:
    """Newer versions of typer turn Ctrl-C into this exit code, older ones pass it on."""
    if code == INTERRUPTED:
        typer.echo("densem: interrupted; run the same command again to go on", err=True)
    return code


def _say(error: Exception, code: int) -> int:
    typer.echo(f"densem: error: {' '.join(str(error).split())}", err=True)
    return code
