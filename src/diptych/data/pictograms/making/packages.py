"""Reads npm packages: from ``.tgz`` files as ``npm pack`` leaves them, fetching with ``npm pack`` what is missing."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError


def tarball(folder: Path, package: str, version: str) -> Path:
    """The package's ``.tgz`` in ``folder``; runs ``npm pack`` there when it is missing.

    Raises:
        DiptychError: npm is absent, offline, or does not know the package.
    """
    path = folder / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
    if path.exists():
        return path
    command = ["npm", "pack", "--silent", f"{package}@{version}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DiptychError(f"package {package} {version}", f"{path} is missing and npm is not installed", "Install npm") from error
    if done.returncode or not path.exists():
        raise DiptychError(f"package {package} {version}", f"`{' '.join(command)}` failed in {folder}", "Put the .tgz there by hand")
    return path


class Package:
    """The files of one ``.tgz``, read into memory.

    Args:
        path: the tarball.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with tarfile.open(path) as tar:
            self.files = {
                member.name.removeprefix("package/"): tar.extractfile(member).read()  # type: ignore[union-attr]
                for member in tar
                if member.isfile()
            }

    def json(self, name: str) -> Any:
        """A JSON file of the package; :class:`DiptychError` when it is not there."""
        if name not in self.files:
            raise DiptychError(f"package {self.path}", f"{name} is not in it", "Take the version that the style table names")
        return json.loads(self.files[name])

    def licence(self) -> str:
        """SPDX identifier as the package's own metadata declare it (the icon set's, where it has one)."""
        if "info.json" in self.files:
            return self.json("info.json")["license"]["spdx"]
        return self.json("package.json")["license"]
