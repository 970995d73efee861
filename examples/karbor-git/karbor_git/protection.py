"""How a repository is protected: one bundle of everything its references reach, streamed into the vault."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from karbor.domain.preflight import PreflightItem
from karbor.errors import KarborError, Refused, ResourceFailed
from karbor.sdk.protection import Protection
from karbor.sdk.schema import parse
from karbor_git import git
from karbor_git.repositories import GIT_REPOSITORY, Repositories, resource_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from karbor.sdk.op import Look, Op

_TAG = "karbor.tag"
"""The configuration entry by which a restored repository is found again."""


class GitRestore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a restore; v1 clients see them as a JSON schema."""

    restore_name: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.git$")] | None,
        msgspec.Meta(title="Restore name", description="Name of the new repository; without it the one it had."),
    ] = None


class GitProtection(Protection):
    """Repositories in one folder; the option `root` names it."""

    name = "example-git-plugin"
    types = (GIT_REPOSITORY,)
    restore_options = GitRestore
    saved_info: ClassVar[dict[str, Any]] = {
        "title": "Saved Info",
        "type": "object",
        "properties": {
            "name": {"type": "string", "title": "Name", "description": "Of the repository."},
            "head": {"type": "string", "title": "Head", "description": "The reference that HEAD stands for."},
        },
        "required": ["name", "head"],
    }

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._repositories = Repositories(options)

    # --- protect

    def preflight_protect(self, op: Look) -> Iterable[PreflightItem]:
        """What would be read, or why it cannot be."""
        try:
            path = self._protectable(op)
        except KarborError as error:
            return [_item(op, "refuse", op.resource.name, error.message)]
        size = sum(file.stat().st_size for file in (path / "objects").rglob("*") if file.is_file())
        return [_item(op, "read", path.name, size=size)]

    def protect_main(self, op: Op) -> None:
        """Store the bundle, and the little that a bundle does not hold."""
        path = self._protectable(op)
        head = op.read("head", lambda: git.run("symbolic-ref", "HEAD", within=path).strip())
        op.vault.write_stream(
            git.stream("bundle", "create", "--quiet", "-", "--all", within=path), progress=op.progress
        )
        op.save({"name": path.name, "head": head}, location="bank", consistency="application")

    def _protectable(self, op: Look | Op) -> Path:
        path = self._repositories.path(op.resource)
        if not git.run("for-each-ref", "--count=1", within=path):
            raise Refused(f"{path.name} has no commits: there is nothing to protect")
        return path

    # --- restore

    def preflight_restore(self, op: Look) -> Iterable[PreflightItem]:
        """What would be made, or why it cannot be."""
        target = self._target(op)
        if target.exists():
            return [_item(op, "refuse", target.name, "it exists; give another restore_name")]
        return [_item(op, "create", target.name)]

    def restore_main(self, op: Op) -> None:
        """Make the repository from the bundle. The tag is given with the very call that makes it."""
        target = self._target(op)
        op.once("repository", lambda tag: self._clone(op, target, tag), lambda tag: self._find(target, tag))
        op.register(resource_of(target))

    def restore_undo(self, op: Op) -> None:
        """Remove the repository that was made."""
        made = op.made("repository")
        if made is not None and self._find(self._target(op), made["tag"]):
            shutil.rmtree(self._target(op))

    def _clone(self, op: Op, target: Path, tag: str) -> dict[str, str]:
        beside = target.with_name(f".{tag}")
        shutil.rmtree(beside, ignore_errors=True)  # what an attempt that died has left
        bundle = op.scratch / "bundle"
        with bundle.open("wb") as file:
            file.writelines(op.vault.read_stream())
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, beside, ignore_errors=True)
            tagged = ("--config", f"{_TAG}={tag}")
            git.run("clone", "--quiet", "--mirror", *tagged, str(bundle), str(beside), within=target.parent)
            git.run("remote", "remove", "origin", within=beside)  # it would lead to the bundle
            git.run("symbolic-ref", "HEAD", op.saved["head"], within=beside)
            try:
                beside.rename(target)
            except OSError as error:
                raise ResourceFailed(f"{target.name}: {error.strerror}", hint="give another restore_name") from error
        return {"tag": tag}

    def _find(self, target: Path, tag: str) -> dict[str, str] | None:
        with contextlib.suppress(ResourceFailed, FileNotFoundError):
            if git.run("config", "--local", _TAG, within=target).strip() == tag:
                return {"tag": tag}
        return None

    def _target(self, op: Look | Op) -> Path:
        options = parse(GitRestore, op.options, field="parameters")
        return self._repositories.root / (options.restore_name or op.saved["name"])

    # --- verify

    def verify_main(self, op: Op) -> None:
        """Read back every byte. There is no `delete_main`: what lies in the bank the service removes itself."""
        op.vault.verify(progress=op.progress)


def _item(op: Look, action: Any, what: str, reason: str = "", size: int = 0) -> PreflightItem:
    return PreflightItem(resource=op.resource.key, action=action, what=what, reason=reason, estimated_bytes=size)
