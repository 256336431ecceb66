"""A local git repository, the source of the sandbox's applications."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from migrator import errors

BRANCH = "main"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "sandbox",
    "GIT_AUTHOR_EMAIL": "sandbox@localhost",
    "GIT_COMMITTER_NAME": "sandbox",
    "GIT_COMMITTER_EMAIL": "sandbox@localhost",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,  # nobody's signing key, nobody's hooks
}


class Repository:
    """A repository with one branch, `main`.

    Args:
        directory: the work tree; made, with an empty first commit, where there is none.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.url = self.directory.as_uri()
        if not (self.directory / ".git").exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._git("init", "--quiet", f"--initial-branch={BRANCH}")
            self._git("commit", "--quiet", "--allow-empty", "--message", "empty")

    def commit(self, files: Mapping[str, str], message: str = "change") -> str:
        """Writes files, by paths inside the repository, and commits everything; returns the commit, the present one when nothing has changed."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return self.commit_all(message)

    def commit_all(self, message: str = "change") -> str:
        """Commits the work tree as it is; returns the commit, the present one when nothing has changed."""
        self._git("add", "--all")
        if self._git("status", "--porcelain"):
            self._git("commit", "--quiet", "--message", message)
        return self.head

    @property
    def head(self) -> str:
        """The newest commit."""
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        git = shutil.which("git")
        if git is None:
            raise errors.NotFound("a repository needs git, and there is none on PATH", code="sandbox-missing", hint="install git")
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _IDENTITY
        done = subprocess.run([git, *arguments], cwd=self.directory, env=own, capture_output=True, encoding="utf-8", check=False)
        if done.returncode != 0:
            raise errors.Unavailable(f"git {arguments[0]}: {done.stderr.strip()[-500:]}", code="sandbox-start")
        return done.stdout.strip()
