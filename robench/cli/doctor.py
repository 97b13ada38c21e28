"""`robench doctor`: what is here, what is missing, what to do."""

from robench.cli.options import Json


def doctor(
    json: Json = False,
) -> None:
    """Show environment, devices, data and known traps, each with what to do.

    Example:

      robench doctor
    """
    import sys

    import msgspec
    from rich.console import Console
    from rich.table import Table

    from robench.evaluation.doctor import examine

    findings = examine()
    if json:
        sys.stdout.write(msgspec.json.encode({"findings": findings}).decode() + "\n")
        return
    table = Table("what", "state", "found", "what to do", box=None)
    for finding in findings:
        table.add_row(finding.what, finding.state, finding.found, finding.remedy)
    Console().print(table)
