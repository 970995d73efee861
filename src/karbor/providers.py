"""The provider registry: what administrators offer, read from `providers.d/*.conf`.

A provider is one bank and one protection plugin per resource type. Each file is an INI file of its own, in the
format and with the names of v1::

    [provider]
    name = Files of this host
    id = 8d1c...
    description = ...
    bank = karbor-fs-bank-plugin
    plugin = karbor-host-directory-plugin
    plugin = karbor-host-database-plugin
    enabled = True

    [karbor-fs-bank-plugin]
    path = /srv/karbor/bank

A plugin's options stand in the section that bears its entry point's name, or the name its class gives as `section`
(v1's banks have several: `sections`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from oslo_config.cfg import ConfigParser
from oslo_config.iniparser import ParseError

from karbor.domain.checkpoint import LOSSES, Loss
from karbor.errors import InvalidInput, KarborError, NotFound, UnsupportedOperation
from karbor.sdk.schema import json_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from karbor.domain.resource import Resource
    from karbor.sdk.bank import Bank
    from karbor.sdk.loading import Loaded
    from karbor.sdk.protection import Protection

Sections = dict[str, dict[str, list[str]]]

CHUNK_SIZES = tuple(1 << bits for bits in range(18, 23))
"""256 KiB to 4 MiB: what `chunk_size` may be."""
_BANK_SURVIVES: frozenset[Loss] = frozenset({"resource", "project", "back end"})


class Provider:
    """One provider: its bank (opened at first use) and its plugins by resource type."""

    def __init__(
        self, sections: Sections, source: str, open_bank: Callable[[], Bank], plugins: list[Protection]
    ) -> None:
        own = sections["provider"]
        self.id = _one(own, "id", source)
        self.name = _one(own, "name", source)
        self.description = own.get("description", [""])[-1]
        self.root_key_file = own.get("root_key_file", [""])[-1]
        self.chunk_size = _chunk_size(own.get("chunk_size", ["262144"])[-1], source)
        self.compression = _level(own.get("compression_level", ["3"])[-1], source)
        self.grace_seconds = _seconds(own.get("delete_grace", [str(7 * 86400)])[-1], source)
        self.survives = _survives(own.get("survives", []), source)
        self.problems: list[str] = []
        self.plugins = plugins
        self._by_type = {kind: plugin for plugin in plugins for kind in plugin.types}
        self._open_bank = open_bank
        self._bank: Bank | None = None

    @property
    def bank(self) -> Bank:
        """The bank, opened now if it was not; raises what the store raises."""
        if self._bank is None:
            self._bank = self._open_bank()
        return self._bank

    @property
    def types(self) -> tuple[str, ...]:
        """Resource types that this provider protects."""
        return tuple(sorted(self._by_type))

    def plugin_for(self, kind: str) -> Protection:
        """The plugin of a resource type; `InvalidInput` where the provider has none."""
        plugin = self._by_type.get(kind)
        if plugin is None:
            allowed = ", ".join(self.types)
            raise InvalidInput(f"provider {self.name} protects no {kind}; it protects: {allowed}", field="resources")
        return plugin

    def check_operation(self, operation: str, resources: Iterable[Resource]) -> None:
        """Raise `UnsupportedOperation` naming the first resource whose plugin lacks the operation."""
        for resource in resources:
            plugin = self.plugin_for(resource.type)
            if operation not in plugin.operations:
                able = ", ".join(sorted(plugin.operations))
                raise UnsupportedOperation(
                    f"{plugin.name} cannot {operation} {resource.key}; it can: {able}", field="resources"
                )

    def runs_commands(self, resources: Iterable[Resource]) -> bool:
        """Whether protecting the resources runs commands that the administrator declared."""
        return any(self.plugin_for(resource.type).runs_commands(resource) for resource in resources)

    def schemas(self) -> dict[str, dict[str, Any]]:
        """v1's ``options_schema``, ``restore_schema``, ``saved_info_schema`` and our ``verify_schema``, by type."""
        found: dict[str, dict[str, Any]] = {name: {} for name in _SCHEMAS}
        for kind, plugin in sorted(self._by_type.items()):
            thing = kind.rsplit("::", 1)[-1]
            empty = getattr(plugin, "schemaless", False)
            for name, (attribute, title) in _SCHEMAS.items():
                options = getattr(plugin, attribute)
                found[name][kind] = {} if empty else json_schema(options, f"{thing} {title}")
            found["saved_info_schema"][kind] = {} if empty else plugin.saved_info
        return found


_SCHEMAS = {
    "options_schema": ("protect_options", "Protection Options"),
    "restore_schema": ("restore_options", "Restore"),
    "verify_schema": ("verify_options", "Verify"),
    "saved_info_schema": ("restore_options", "Saved Info"),
}


class Providers:
    """The providers that loaded, and why others did not."""

    def __init__(self, providers: Iterable[Provider], problems: Mapping[str, str]) -> None:
        self._providers = {provider.id: provider for provider in providers}
        self.problems = dict(problems)
        """By file."""

    def all(self) -> list[Provider]:
        """Every provider, by id."""
        return [self._providers[ident] for ident in sorted(self._providers)]

    def get(self, ident: str) -> Provider:
        """One provider; `NotFound` where there is none."""
        if ident not in self._providers:
            raise NotFound(f"Provider {ident} could not be found.")
        return self._providers[ident]

    def types(self) -> frozenset[str]:
        """Every type that some provider protects."""
        return frozenset(kind for provider in self._providers.values() for kind in provider.types)


def load_providers(
    directory: Path,
    protections: Loaded,
    banks: Loaded,
    defaults: Mapping[str, Mapping[str, str]],
    wrap: Callable[[Bank], Bank] = lambda bank: bank,
) -> Providers:
    """Read every ``*.conf`` of the directory, by name. `defaults` are options by section that files may override;
    `wrap` is put around every bank that is opened.

    A file that cannot be used is a problem of its own: the others are offered all the same.
    """
    found: dict[str, Provider] = {}
    problems: dict[str, str] = {}
    for path in sorted(directory.glob("*.conf")):
        try:
            provider = _load_one(path, protections, banks, defaults, wrap)
        except KarborError as error:
            problems[path.name] = error.message.removeprefix(f"{path.name}: ")
            continue
        if provider is None:
            continue
        if provider.id in found:
            problems[path.name] = f"provider id {provider.id} is used by another file"
            continue
        found[provider.id] = provider
    return Providers(found.values(), problems)


def _load_one(
    path: Path,
    protections: Loaded,
    banks: Loaded,
    defaults: Mapping[str, Mapping[str, str]],
    wrap: Callable[[Bank], Bank],
) -> Provider | None:
    sections = _parse(path)
    own = sections.get("provider")
    if own is None:
        raise InvalidInput("there is no section [provider]")
    if own.get("enabled", ["False"])[-1].strip().lower() not in {"true", "1", "yes", "on"}:
        return None
    bank_name = _one(own, "bank", path.name)
    open_bank = banks.plugins.get(bank_name)
    if open_bank is None:
        raise InvalidInput(f"bank {bank_name}: {banks.problems.get(bank_name, 'no such plugin is installed')}")
    bank_options = _options(sections, defaults, bank_name, open_bank)
    plugins: list[Protection] = []
    broken: list[str] = []
    for name in own.get("plugin", []):
        kind = protections.plugins.get(name)
        if kind is None:
            broken.append(f"plugin {name}: {protections.problems.get(name, 'no such plugin is installed')}")
            continue
        plugins.append(kind(_options(sections, defaults, name, kind)))
    provider = Provider(sections, path.name, lambda: wrap(open_bank(bank_options)), plugins)
    provider.problems.extend(broken)
    return provider


def _parse(path: Path) -> Sections:
    sections: Sections = {}
    try:
        ConfigParser(str(path), sections).parse()
    except (ParseError, OSError) as error:
        raise InvalidInput(f"not readable: {error}") from error
    return sections


def _options(sections: Sections, defaults: Mapping[str, Mapping[str, str]], name: str, plugin: Any) -> dict[str, str]:
    known = [*getattr(plugin, "sections", ()), getattr(plugin, "section", name)]
    given = {key: values[-1] for one in (name, *known) for key, values in sections.get(one, {}).items()}
    usual = {key: value for one in known for key, value in defaults.get(one, {}).items()}
    return {**defaults.get("*", {}), **usual, **given}


def _one(own: Mapping[str, list[str]], key: str, source: str) -> str:
    value = own.get(key, [""])[-1].strip()
    if not value:
        raise InvalidInput(f"{source}: [provider] {key} is missing", field=key)
    return value


def _chunk_size(text: str, source: str) -> int:
    if text not in {str(size) for size in CHUNK_SIZES}:
        allowed = ", ".join(str(size) for size in CHUNK_SIZES)
        raise InvalidInput(f"{source}: [provider] chunk_size is {text}; allowed: {allowed}", field="chunk_size")
    return int(text)


def _level(text: str, source: str) -> int:
    if text not in {str(level) for level in range(1, 20)}:
        raise InvalidInput(
            f"{source}: [provider] compression_level is {text}; allowed: 1 to 19", field="compression_level"
        )
    return int(text)


def _seconds(text: str, source: str) -> float:
    try:
        return msgspec.convert(text, float, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"{source}: [provider] delete_grace is {text}; allowed: seconds", field="delete_grace"
        ) from error


def _survives(values: list[str], source: str) -> frozenset[Loss]:
    if not values:
        return _BANK_SURVIVES
    named = {word.strip() for value in values for word in value.split(",") if word.strip()}
    if not named <= set(LOSSES):
        raise InvalidInput(
            f"{source}: [provider] survives is {', '.join(named)}; allowed: {', '.join(LOSSES)}", field="survives"
        )
    return frozenset(loss for loss in LOSSES if loss in named)
