"""The app, and the one place where errors become exit codes."""

import signal
import sys
from types import FrameType

import typer

from robench.cli.audit import audit_command
from robench.cli.compare import compare
from robench.cli.data import app as data_app
from robench.cli.doctor import doctor
from robench.cli.eval import evaluate_command
from robench.cli.export import export
from robench.cli.history import history
from robench.cli.init import init
from robench.cli.leaderboard import leaderboard
from robench.cli.listing import list_things
from robench.cli.plot import plot
from robench.cli.report import report
from robench.cli.train import train_command
from robench.cli.verify import verify
from robench.core.errors import InputError, RobenchError

INTERRUPTED = 130

app = typer.Typer(
    name="robench",
    help="How robust is this defense? Scores it under attack and gives its W-Robust table.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("eval")(evaluate_command)
app.command("train")(train_command)
app.command("history")(history)
app.command("leaderboard")(leaderboard)
app.command("compare")(compare)
app.command("plot")(plot)
app.command("report")(report)
app.command("audit")(audit_command)
app.command("verify")(verify)
app.command("export")(export)
app.command("list")(list_things)
app.add_typer(data_app, name="data")
app.command("doctor")(doctor)
app.command("init")(init)


def main() -> None:
    """Run the command line; exits 0, 1, 2, 3 or 130 (product.md section 3)."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except RobenchError as error:
        code = _say(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except typer.TyperException as error:  # a usage error: unknown option, missing value
        code = _say(error.format_message(), InputError.exit_code)
    if code == INTERRUPTED:  # Typer turns Ctrl-C inside a command into this code
        _say("interrupted: what is done is kept, the same command goes on", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(message: str, code: int) -> int:
    typer.echo(f"robench: {' '.join(message.split())}", err=True)
    return code
