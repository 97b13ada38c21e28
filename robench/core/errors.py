"""One class per exit code; `cli.main` maps them, nothing else does."""


class RobenchError(Exception):
    """Base of every error whose one-line message is meant for the user."""

    exit_code = 3


class RequirementNotMet(RobenchError):
    """A `--require` line or a verification did not hold."""

    exit_code = 1


class InputError(RobenchError):
    """What was given cannot be used: the message says what was expected and what to type."""

    exit_code = 2


class RunError(RobenchError):
    """Something failed while running; what was judged before is kept."""

    exit_code = 3
