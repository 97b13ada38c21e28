"""A report as Markdown; its pictures are files beside it."""

from collections.abc import Iterator

from robench.boards.markdown import bullets, escape, table
from robench.boards.report.content import Report, Section


def files(report: Report, name: str) -> dict[str, bytes]:
    """The Markdown and the pictures that it shows, by file name. name: of the page, `report`."""
    pages = [f"# {escape(report.title)}{f' ({escape(report.said)})' if report.said else ''}"]
    found: dict[str, bytes] = {}
    for place, section in enumerate(report.sections):
        images = {
            picture.name: f"{name}-{place}-{picture.name}.svg" for picture in section.pictures
        }
        found |= {images[picture.name]: picture.svg for picture in section.pictures}
        pages += _blocks(section, images)
    text = "\n\n".join(block for block in pages if block) + "\n"
    return {f"{name}.md": text.encode(), **found}


def _blocks(section: Section, images: dict[str, str]) -> Iterator[str]:
    yield f"## {escape(section.title)}"
    if section.grid is not None:
        yield table(section.grid.header, [[*map(escape, line)] for line in section.grid.lines])
    yield bullets(section.sentences)
    for picture in section.pictures:
        yield f"![{escape(picture.caption)}]({images[picture.name]})"
    if section.commands:
        yield "\n".join(["```sh", *section.commands, "```"])
