"""Every option of the service, once: its type, default, help, and whether it is a secret.

Options keep v1's names where v1 had them. `load` reads them from files into a frozen `Settings`; nothing in the
service sees a global configuration object.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from oslo_config import cfg

from karbor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERAL: list[cfg.Opt] = [
    cfg.StrOpt("state_path", default="/var/lib/karbor", help="Directory for the database, keys and scratch files."),
    cfg.StrOpt("provider_config_dir", default="/etc/karbor/providers.d", help="Directory of the providers' files."),
    cfg.StrOpt("hosts_dir", default="/etc/karbor/hosts.d", help="Directory of the declarations of host applications."),
    cfg.BoolOpt("host_resources", default=False, help="Offer the resources of this host instead of a cloud's."),
    cfg.StrOpt("host", default=socket.gethostname(), sample_default="<hostname>", help="Name of this host."),
    cfg.StrOpt(
        "auth_strategy",
        default="keystone",
        choices=["keystone", "static", "noauth"],
        help="Who authenticates requests. `noauth` is for tests and refuses addresses other than loopback.",
    ),
    cfg.HostAddressOpt("osapi_karbor_listen", default="0.0.0.0", help="Address of the API service."),  # noqa: S104
    cfg.PortOpt("osapi_karbor_listen_port", default=8799, help="Port of the API service."),
    cfg.IntOpt("osapi_max_limit", default=1000, min=1, help="Most records in one answer."),
    cfg.IntOpt("api_threads", default=8, min=1, help="Threads of the embedded API server."),
    cfg.IntOpt("min_interval", default=3600, min=1, help="Least seconds between two times of a trigger."),
    cfg.IntOpt("min_window_time", default=900, min=1, help="Least seconds that a trigger's run may begin late."),
    cfg.IntOpt("max_window_time", default=1800, min=1, help="Most seconds that a trigger's run may begin late."),
    cfg.IntOpt("quota_plans", default=50, min=-1, help="Plans that a project may have; -1 is no limit."),
    cfg.IntOpt("quota_checkpoints", default=-1, min=-1, help="Checkpoints that a project may have; -1 is no limit."),
    cfg.StrOpt(
        "root_key_file", default="", help="Root key of providers that name none. Empty: root.key in state_path."
    ),
    cfg.StrOpt("token_file", default="", help="Token of the static strategy. Empty: token in state_path."),
    cfg.StrOpt("static_project", default="", help="Project id of the static strategy. Empty: project in state_path."),
]
DATABASE: list[cfg.Opt] = [
    cfg.StrOpt(
        "connection",
        default="",
        secret=True,
        help="URL of the database: sqlite, postgresql+psycopg or mariadb+pymysql. Empty: karbor.db in state_path.",
    ),
]
WORKER: list[cfg.Opt] = [
    cfg.IntOpt("threads", default=4, min=1, help="Steps that one worker runs at once."),
    cfg.FloatOpt("lease", default=30.0, min=3.0, help="Seconds after which a silent worker's steps are taken over."),
    cfg.FloatOpt("heartbeat", default=10.0, min=0.5, help="Seconds between a worker's signs of life."),
    cfg.IntOpt(
        "max_tries",
        default=5,
        min=1,
        help="How often a step that failed for a passing reason, or took its worker down, is tried.",
    ),
    cfg.FloatOpt(
        "drain", default=10.0, min=0.0, help="Seconds that running steps get to give themselves back at a stop."
    ),
]
CLOUD: list[cfg.Opt] = [
    cfg.StrOpt("region_name", default="", help="Region of the cloud's services. Empty: the only one."),
    cfg.StrOpt("interface", default="public", choices=["public", "internal", "admin"], help="Which endpoints to use."),
    cfg.FloatOpt("timeout", default=18.0, min=1.0, help="Seconds that one call of a cloud's API may take."),
    cfg.FloatOpt(
        "deadline", default=20.0, min=1.0, help="Seconds that one request to this API may spend asking the cloud."
    ),
]


def groups() -> dict[str | None, list[cfg.Opt]]:
    """Every option by group, for the sample file and the reference."""
    return {None: GENERAL, "database": DATABASE, "worker": WORKER, "cloud": CLOUD}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The options with their values; `config` is handed on to libraries that want a ConfigOpts of their own."""

    state_path: Path
    provider_config_dir: Path
    hosts_dir: Path
    host_resources: bool
    host: str
    auth_strategy: str
    listen: str
    port: int
    max_limit: int
    api_threads: int
    root_key_file: Path
    min_interval: int
    min_window: int
    max_window: int
    quota_plans: int
    quota_checkpoints: int
    token_file: Path
    static_project: str
    connection: str
    worker_threads: int
    lease: float
    heartbeat: float
    max_tries: int
    drain: float
    region_name: str
    interface: str
    cloud_timeout: float
    cloud_deadline: float


def load(files: Sequence[Path]) -> Settings:
    """Read the files, later ones over earlier ones; raises `InvalidInput` naming the option."""
    return from_config(read(files))


def read(files: Sequence[Path]) -> cfg.ConfigOpts:
    """The options as oslo.config holds them."""
    config = cfg.ConfigOpts()
    for group, options in groups().items():
        config.register_opts(options, group=group)
    try:
        config(args=[], project="karbor", default_config_files=[str(path) for path in files])
    except (cfg.Error, ValueError) as error:
        raise InvalidInput(f"the configuration cannot be read: {error}") from error
    return config


def from_config(config: cfg.ConfigOpts) -> Settings:
    """The values."""
    try:
        state = Path(config.state_path)
        return Settings(
            state_path=state,
            provider_config_dir=Path(config.provider_config_dir),
            hosts_dir=Path(config.hosts_dir),
            host_resources=config.host_resources,
            host=config.host,
            auth_strategy=config.auth_strategy,
            listen=config.osapi_karbor_listen,
            port=config.osapi_karbor_listen_port,
            max_limit=config.osapi_max_limit,
            api_threads=config.api_threads,
            root_key_file=Path(config.root_key_file or state / "root.key"),
            min_interval=config.min_interval,
            min_window=config.min_window_time,
            max_window=config.max_window_time,
            quota_plans=config.quota_plans,
            quota_checkpoints=config.quota_checkpoints,
            token_file=Path(config.token_file or state / "token"),
            static_project=config.static_project,
            connection=config.database.connection or f"sqlite:///{state / 'karbor.db'}",
            worker_threads=config.worker.threads,
            lease=config.worker.lease,
            heartbeat=config.worker.heartbeat,
            max_tries=config.worker.max_tries,
            drain=config.worker.drain,
            region_name=config.cloud.region_name,
            interface=config.cloud.interface,
            cloud_timeout=config.cloud.timeout,
            cloud_deadline=config.cloud.deadline,
        )
    except (cfg.Error, ValueError) as error:
        raise InvalidInput(f"the configuration is wrong: {error}") from error
