"""A report as one HTML file that needs nothing else."""

import base64
from pathlib import Path

from markupsafe import Markup

from robench.boards.html import environment, policy_hash
from robench.boards.report.content import Report

_FOLDER = Path(__file__).parent


def render(report: Report) -> str:
    """The page, pictures inside; all text is escaped, and the same report gives the same bytes."""
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    pictures = {
        picture.svg: base64.b64encode(picture.svg).decode()
        for section in report.sections
        for picture in section.pictures
    }
    template = environment(_FOLDER).get_template("report.html")
    return template.render(
        report=report, pictures=pictures, style=Markup(style), style_hash=policy_hash(style)
    )
