"""The templates of pages: one file each that loads nothing and runs nothing."""

from __future__ import annotations

import importlib.resources

import jinja2

from pipeline.reporting import words


def template(name: str, *styles: str) -> jinja2.Template:
    """Return a page's template; every value that it puts in is escaped.

    Args:
        name: of the template, a file of this package.
        styles: style sheets, files of this package; the template has them as ``css``.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"whole": words.whole, "ratio": words.ratio, "percent": words.percent}
    environment.globals["css"] = "\n".join(_resource(style) for style in styles)
    return environment.from_string(_resource(name))


def _resource(name: str) -> str:
    return (importlib.resources.files("pipeline.reporting") / name).read_text("utf-8")
