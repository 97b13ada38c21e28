"""The report for people: a table for the terminal, and Markdown."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from robench.audit.finding import Finding, Report
from robench.core.threat import format_eps

HEAD = ("test", "what should hold", "result", "found", "alarm")
_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "not_run": "dim"}
_SAYS = {
    "masked": "a decisive test failed: do not quote the robust accuracy before it is explained",
    "suspicious": "a supporting test failed: explain it before quoting the robust accuracy",
    "no masking found": "no test failed; that is no proof of robustness",
    "unfinished": "nothing failed, but these tests were cut off: no clearance",
}


def found_text(finding: Finding) -> str:
    """`3/64 (4.7 %)` for a share, else the value."""
    if finding.value is None:
        return "-"
    if finding.n is not None:
        return f"{finding.count}/{finding.n} ({100 * finding.value:.1f} %)"
    return f"{finding.value:.3g}"


def alarm_text(finding: Finding) -> str:
    """`> 0.5 %` or `< 0.06`: where the test alarms."""
    if finding.threshold is None:
        return "-"
    side = ">" if finding.alarm == "above" else "<"
    if finding.n is not None:
        return f"{side} {100 * finding.threshold:g} %"
    return f"{side} {finding.threshold:.3g}"


def title(report: Report) -> str:
    """What was audited, how."""
    shown = f"{report.clean_correct} of {report.n} images of {report.dataset}"
    ball = f"{report.threat.norm} {format_eps(report.threat.eps)}"
    return f"{report.defense}: {shown}, {ball}, budget {report.budget['name']}"


def verdict(report: Report) -> str:
    """The label, what decides it, and what it says."""
    decided = f" ({', '.join(report.because)})" if report.because else ""
    cut = "; interrupted, so this is not all" if report.interrupted else ""
    return f"{report.label}{decided}: {_SAYS[report.label]}{cut}"


def remarks(report: Report) -> list[str]:
    """A line for each test that did not pass: what it means and what to do, or why not run."""
    lines = []
    for finding in report.findings:
        because = f" ({finding.reason})" if finding.reason else ""
        if finding.status == "not_run":
            lines.append(f"{finding.id} not run: {finding.reason}")
        elif finding.status != "pass":
            lines.append(
                f"{finding.id} {finding.status}: {finding.means}{because}. To do: {finding.remedy}."
            )
    return lines


def cells(finding: Finding) -> tuple[str, str, str, str, str]:
    """One line of the table, under HEAD."""
    result = finding.status.replace("_", " ")
    return finding.id, finding.name, result, found_text(finding), alarm_text(finding)


def terminal(report: Report) -> RenderableType:
    """Title, table, remarks, label. Cells are `Text`: rich would read brackets as markup."""
    table = Table(*HEAD, box=None)
    for finding in report.findings:
        style = _STYLES[finding.status]
        texts = [Text(cell) for cell in cells(finding)]
        texts[2].stylize(style)
        table.add_row(*texts)
    lines = [Text(line) for line in remarks(report)]
    return Group(Text(title(report), "bold"), table, *lines, Text(verdict(report), "bold"))


def markdown(report: Report) -> str:
    """The same as a section of Markdown."""
    rows = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    rows += [
        "| " + " | ".join(_escape(cell) for cell in cells(finding)) + " |"
        for finding in report.findings
    ]
    parts = [
        f"## Audit of {_escape(title(report))}",
        f"**{_escape(verdict(report))}**",
        "\n".join(rows),
        "\n".join(f"- {_escape(line)}" for line in remarks(report)),
        f"Fingerprint `{report.fingerprint[:12]}`, seed {report.seed}, {report.device_kind}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _escape(text: str) -> str:
    return "".join(f"\\{c}" if c in r"\`*_[]<>|" else c for c in text)
