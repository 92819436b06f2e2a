"""The documentation's site."""

import os
import re
import subprocess
import sys

from deploy.site_links import REPOSITORY

FOREIGN = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\" >]+")


def test_the_site_is_built_without_a_broken_link_and_loads_nothing_from_foreign_hosts(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        "deploy/mkdocs.yml",
        "-d",
        str(tmp_path),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)

    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert pages
    assert {page.name: FOREIGN.findall(page.read_text()) for page in pages} == {page.name: [] for page in pages}
