"""The proof: Karbor's contract suite over a small world with one real repository.

karbor plugin test karbor_git.contract:GitContract
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from karbor.sdk.contract.protection import ProtectionContract
from karbor.sdk.contract.vault import MemoryVault
from karbor_git import git
from karbor_git.protection import GitProtection
from karbor_git.repositories import Repositories


class World:
    """A folder with a repository of one commit."""

    children = parents = ()
    secrets = ()

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.root = self.home / "git"
        self.root.mkdir()
        git.run("init", "--quiet", "--bare", "--initial-branch=main", "shop.git", within=self.root)
        tree = git.run("write-tree", within=self.root / "shop.git").strip()
        who = ("-c", "user.name=Example", "-c", "user.email=example@example.org")
        commit = git.run(*who, "commit-tree", "-m", "first", tree, within=self.root / "shop.git").strip()
        git.run("update-ref", "refs/heads/main", commit, within=self.root / "shop.git")
        options = {"root": str(self.root)}
        self.plugin = GitProtection(options)
        [self.resource] = Repositories(options).list(None)  # type: ignore[arg-type]  # it asks nobody
        self.vault = MemoryVault()
        self.options: dict[str, dict[str, Any]] = {"restore": {"restore_name": "again.git"}}

    def observe(self) -> Any:
        """Names of everything in the folder, and the trees that the repositories hold: dates differ by chance."""
        return {
            path.name: git.run("log", "--all", "--format=%T %s", within=path) if path.suffix == ".git" else None
            for path in sorted(self.root.iterdir())
        }

    def comparable(self, document: dict[str, Any]) -> Any:
        """All of it."""
        return document

    def lose(self) -> None:
        """The repository is deleted."""
        shutil.rmtree(self.root / "shop.git")

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.home)


class GitContract(ProtectionContract):
    """The suite over that world."""

    def open_world(self) -> World:
        """A fresh world."""
        return World()
