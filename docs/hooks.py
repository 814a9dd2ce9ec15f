"""Pages that follow from the code: one a command, some of the API, one a recipe; see ``mkdocs.yml``."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import tomllib
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docstring_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from msdet.cli import COMMANDS, load_command

ROOT = Path(__file__).parents[1]
API = {
    "msdet": ["msdet"],
    "arrays and conventions": ["msdet.arrays", "msdet.conventions"],
    "scenes and data": [
        "msdet.scenes.distribution", "msdet.scenes.sampling", "msdet.scenes.rendering", "msdet.data.simulate",
        "msdet.data.scene_set", "msdet.data.dataset", "msdet.data.example", "msdet.corpora",
    ],
    "models": [
        "msdet.models.config", "msdet.models.joint", "msdet.models.checkpoint", "msdet.models.encoders",
        "msdet.models.frontends", "msdet.models.heads", "msdet.models.sharing",
    ],
    "losses and tasks": [
        "msdet.losses.separation", "msdet.losses.doa", "msdet.losses.assignment", "msdet.losses.weighting",
        "msdet.losses.torchjd", "msdet.tasks", "msdet.tasks.labels",
    ],
    "training": ["msdet.training.config", "msdet.training.objective", "msdet.training.run"],
    "inference": ["msdet.inference.model", "msdet.inference.blocks", "msdet.inference.streaming"],
    "methods": ["msdet.methods", "msdet.methods.base", "msdet.methods.beamformers", "msdet.methods.blind"],
    "scoring": [
        "msdet.scoring.score", "msdet.scoring.submission", "msdet.scoring.summary",
        "msdet.scoring.comparison", "msdet.scoring.separation_metrics", "msdet.scoring.doa_metrics",
        "msdet.scoring.statistics",
    ],
}  # fmt: skip
"""Pages of the API: what a program is likely to use, by module."""

RECIPES, PAGES = ROOT / "recipes", ROOT / "docs" / "pages"
EXAMPLES = tomllib.loads((ROOT / "docs" / "commands.toml").read_text("utf-8"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    recipes = ["recipes/index.md", *({path.parent.name: page_of(path)} for path in recipe_pages())]
    commands = [{f"msdet {name}": command_path(name)} for name in COMMANDS]
    api = [{title: api_path(title)} for title in API]
    config.nav += [{"Recipes": recipes}, {"Commands": commands}, {"API": api}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {command_path(name): command_page(name) for name in COMMANDS}
    pages |= {api_path(title): api_page(title) for title in API}
    pages |= {page_of(path): recipe_page(path) for path in [RECIPES / "README.md", *recipe_pages()]}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, "scene.png", content=(ROOT / "docs" / "scene.png").read_bytes()))
    for path in RECIPES.glob("*/**/*.png"):
        files.append(File.generated(config, page_of(path), content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **of_the_page: Any) -> str:
    """Links from pages into the recipes' folders lead to their pages and figures."""
    path = PAGES / page.file.src_uri
    return with_links(markdown, path) if path.is_file() else markdown


def recipe_pages() -> list[Path]:
    """The recipes' own descriptions."""
    return sorted(RECIPES.glob("*/**/README.md"))


def recipe_page(path: Path) -> str:
    """A recipe's description and its results."""
    results = path.with_name("RESULTS.md")
    text = path.read_text("utf-8").replace("[RESULTS.md](RESULTS.md)", "its results, below")
    if results.is_file():
        text += "\n" + results.read_text("utf-8").replace("# ", "## ", 1)
    return with_links(text, path)


def page_of(path: Path) -> str:
    """Where a file of the pages or of the recipes is on the site."""
    if path.is_relative_to(PAGES):
        return path.relative_to(PAGES).as_posix()
    if path.name not in ("README.md", "RESULTS.md"):
        return path.relative_to(ROOT).as_posix()
    return "recipes/index.md" if path.parent == RECIPES else path.parent.relative_to(ROOT).as_posix() + ".md"


def with_links(text: str, path: Path) -> str:
    """A file's text, its links to pages and into recipes as they are on the site."""

    def on_site(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(path.parent / link[1]))
        is_known = target.is_relative_to(PAGES) or target.is_relative_to(RECIPES)
        if not is_known or target.suffix not in (".md", ".png") or not target.is_file():
            return link[0]
        return f"]({os.path.relpath(page_of(target), Path(page_of(path)).parent)}"

    return re.sub(r"\]\(([^():#]+)", on_site, text)


def api_path(title: str) -> str:
    """Where a page of the API is."""
    return f"api/{title.split()[0]}.md"


def api_page(title: str) -> str:
    """What is public in some modules."""
    return f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in API[title]) + "\n"


def command_path(name: str) -> str:
    """Where a command's page is."""
    return f"commands/{name.replace(' ', '-')}.md"


def command_page(name: str) -> str:
    """A command's purpose and options."""
    function = load_command(name)
    about = docstring_parser.parse(inspect.getdoc(function) or "")
    rows = list(option_rows(function, ""))
    lines = [f"# msdet {name}", "", about.short_description or "", "", about.long_description or "", ""]
    lines += ["```sh", EXAMPLES[name].strip(), "```", ""]
    lines += ["| option | default | |", "|---|---|---|"]
    lines += [f"| `--{option}` | {default} | {text} |" for option, default, text in rows]
    return "\n".join(lines) + "\n\nAny of these can stand in a YAML file given by `--config`.\n"


def option_rows(source: Callable[..., Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Option, default and description of each parameter, those of settings in settings too."""
    about = docstring_parser.parse(inspect.getdoc(source) or "")
    said = {p.arg_name: " ".join((p.description or "").split()) for p in about.params}
    hints = typing.get_type_hints(source.__init__ if inspect.isclass(source) else source)
    for name, parameter in inspect.signature(source).parameters.items():
        kinds = [k for k in (hints[name], *typing.get_args(hints[name])) if dataclasses.is_dataclass(k)]
        if kinds and not typing.get_args(hints[name]):
            yield from option_rows(kinds[0], f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", _default(parameter), said.get(name, "").replace("|", "\\|")


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if dataclasses.is_dataclass(value) or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return ""
    return "" if value is None else f"`{value}`"
