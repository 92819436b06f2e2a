"""The documentation's site: its links work, and what its pages name exists."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from pydantic.fields import FieldInfo

from deploy.cli import main
from shared.settings import COMMAND_LINE_VARIABLES, PREFIX, Settings
from tests.deploy.pages import PAGES, REPOSITORY

FOREIGN = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\" >]+")
TEXTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(PAGES.rglob("*.md"))]
INCIDENTS = PAGES / "incidents"
PATH = re.compile(r"`((?:api|worker|shared|deploy|tests)/[\w./-]+?)/?(?::[^`]*)?`")
ROW = re.compile(rf"^\| `({PREFIX}\w+)` \| (.+?) \|", re.MULTILINE)
SETTING = re.compile(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b(?!_)")
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | set(COMMAND_LINE_VARIABLES)
CALL = re.compile(r"(?:^|`)(?:\.venv/bin/)?dermqueue ([a-z][^`#|&>\n]*)", re.MULTILINE)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def in_each(pattern: re.Pattern[str]) -> dict[Path, set[str]]:
    return {file: set(pattern.findall(file.read_text())) for file in TEXTS}


def test_the_site_is_built_without_a_broken_link_and_loads_nothing_from_foreign_hosts(tmp_path):
    built = build(REPOSITORY / "deploy" / "mkdocs.yml", tmp_path)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(PAGES.rglob("*.md")))
    assert {page: FOREIGN.findall(page.read_text()) for page in pages} == {page: [] for page in pages}


BOTH = ["index.md", "other.md"]


@pytest.mark.parametrize(
    ("text", "nav", "exit_code"),
    [
        ("[a page](other.md#a-place)", BOTH, 0),
        ("[a page](nowhere.md)", BOTH, 1),
        ("[a place](other.md#nowhere)", BOTH, 1),
        ("![a picture](nowhere.png)", BOTH, 1),
        ("[a file](../nowhere.yaml)", BOTH, 1),
        ("Its page is not there.", [*BOTH, "nowhere.md"], 1),
        ("Nothing leads to the other one.", ["index.md"], 1),
    ],
)
def test_a_site_with_a_broken_link_or_a_page_that_nothing_leads_to_is_not_built(tmp_path, text, nav, exit_code):
    config = yaml.safe_load((REPOSITORY / "deploy" / "mkdocs.yml").read_text()) | {"nav": nav}
    config["hooks"] = [str(REPOSITORY / "deploy" / "site_links.py")]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{text}\n")
    (tmp_path / "docs" / "other.md").write_text("# Another page\n\n## A place\n")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode == exit_code


def test_each_alert_names_its_page_and_each_page_has_its_alert():
    groups = yaml.safe_load((REPOSITORY / "deploy" / "monitoring" / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"]: REPOSITORY / rule["annotations"]["runbook"] for group in groups for rule in group["rules"]}
    assert set(alerts.values()) == set(INCIDENTS.glob("*.md")) - {INCIDENTS / "index.md"}
    assert [name for name, page in alerts.items() if f"Alert: `{name}`" not in page.read_text()] == []
    listed = re.findall(r"^\| \[(\w+)\]\(([\w-]+\.md)\)", (INCIDENTS / "index.md").read_text(), re.MULTILINE)
    assert {name: INCIDENTS / page for name, page in listed} == alerts


def test_every_file_that_a_page_names_is_there():
    named = in_each(PATH)
    assert sum(map(len, named.values())) > 30
    assert [(page, path) for page, paths in named.items() for path in paths if not (REPOSITORY / path).exists()] == []


def test_every_setting_that_a_page_names_exists():
    named = in_each(SETTING)
    assert sum(map(len, named.values())) > 30
    assert {page: names - SETTINGS for page, names in named.items() if names - SETTINGS} == {}


def test_the_settings_page_lists_every_setting_with_its_default():
    listed = dict(ROW.findall((PAGES / "settings.md").read_text()))
    assert set(listed) == SETTINGS
    defaults = {f"{PREFIX}{name.upper()}": default_of(field) for name, field in Settings.model_fields.items()}
    assert {name: listed[name].partition(":")[0].strip("`") for name in defaults} == defaults


def test_the_readme_gives_the_settings_it_names_the_settings_pages_defaults():
    text = (REPOSITORY / "README.md").read_text()
    given = dict(ROW.findall(text[text.index("| variable | default | meaning |") :]))
    assert given
    listed = dict(ROW.findall((PAGES / "settings.md").read_text()))
    assert given == {name: listed[name] for name in given}


def default_of(field: FieldInfo) -> str:
    """Return how the settings page writes a field's default."""
    if field.is_required():
        return "embedded"
    return "unset" if field.default is None else json.dumps(field.default).strip('"')


def test_every_command_that_a_page_names_exists_with_its_options():
    calls = [(page, call) for page, found in in_each(CALL).items() for call in found]
    assert len(calls) > 30
    assert [(page, call) for page, call in calls if not is_ours(call)] == []


def is_ours(call: str) -> bool:
    """Tell whether the first words are a command's name, and the options those of the command."""
    command, words = main, call.split()
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.commands.get(words.pop(0))
    known = {name for option in command.params for name in option.opts} | {"--help"} if command else set()
    return command is not None and {word for word in words if word.startswith("-")} <= known
