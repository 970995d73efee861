"""Resources: what can be named, protected and restored."""

from __future__ import annotations

from typing import Any

import msgspec

PROJECT = "OS::Keystone::Project"
SERVER = "OS::Nova::Server"
VOLUME = "OS::Cinder::Volume"
IMAGE = "OS::Glance::Image"
NETWORK = "OS::Neutron::Network"
SHARE = "OS::Manila::Share"
DATABASE = "OS::Trove::Instance"
POD = "OS::Kubernetes::Pod"
V1_TYPES = (PROJECT, SERVER, VOLUME, IMAGE, NETWORK, SHARE, DATABASE, POD)

HOST_APPLICATION = "Karbor::Host::Application"
HOST_DIRECTORY = "Karbor::Host::Directory"
HOST_DISK_IMAGE = "Karbor::Host::DiskImage"
HOST_DATABASE = "Karbor::Host::Database"
HOST_TYPES = (HOST_APPLICATION, HOST_DIRECTORY, HOST_DISK_IMAGE, HOST_DATABASE)

LAYERS = ("web", "application", "database")
"""The order in which an application is quiesced; it is restored in the reverse order."""


# gc=False, here and on the other records that pages are made of: they hold no cycles, and without it the collections
# that a page sets off cost more than decoding it.
class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something in a cloud or on a host. Two resources are the same when type and id are; names may differ.

    `extra_info` holds scalars, objects or lists as v1 shows them. `layer` is one of `LAYERS` or empty.
    """

    type: str
    id: str
    name: str = ""
    extra_info: dict[str, Any] | None = None
    layer: str = ""

    @property
    def key(self) -> str:
        """``type#id``, the name of the resource in graphs, parameters and journals."""
        return f"{self.type}#{self.id}"


def split_key(key: str) -> tuple[str, str]:
    """Type and id of a resource key; the id is empty where the key names a type alone."""
    kind, _, ident = key.partition("#")
    return kind, ident
