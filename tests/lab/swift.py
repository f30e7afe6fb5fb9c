"""The configuration of an OpenStack Swift of one disk: what the four servers read, and the rings that name the disk.

Run as a program it does what needs Swift's own library: `python -m tests.lab.swift FOLDER KIND=PORT ...` writes the
rings, and without ports it brings the lists of objects up to date.
The storage servers listen on loopback only: they trust whoever connects; the proxy alone checks signatures.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from pathlib import Path

STORAGE = ("account", "container", "object")
_HASHES = "[swift-hash]\nswift_hash_path_suffix = lab\n[storage-policy:0]\nname = one\ndefault = yes\n"
_COMMON = """[DEFAULT]
bind_ip = {address}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
recon_cache_path = {folder}
"""
_STORAGE = """[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
[{kind}-updater]
"""
_FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "s3api", "tempauth", "copy", "slo")
_OPTIONS = {"tempauth": "user_{account}_{name} = {secret} .admin\n"}
_PROXY = """[pipeline:main]
pipeline = {filters} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def write_configuration(
    folder: Path, seen_as: Path, address: str, ports: Mapping[str, int], key: str, secret: str
) -> None:
    """Write what all servers read.

    Args:
        folder: where to write it.
        seen_as: the same folder, as the servers see it.
        address: where the proxy listens.
        ports: of the proxy and of each storage server.
        key: the access key that is let in: `account:name`.
        secret: its secret.
    """
    (folder / "devices" / "disk").mkdir(parents=True)
    (folder / "swift.conf").write_text(_HASHES)
    common = {"user": getpass.getuser(), "folder": seen_as}
    for kind in STORAGE:
        text = _COMMON.format(address="127.0.0.1", port=ports[kind], **common) + _STORAGE.format(kind=kind)
        (folder / f"{kind}.conf").write_text(text)
    account, _, name = key.partition(":")
    proxy = _COMMON.format(address=address, port=ports["proxy"], **common) + _PROXY.format(filters=" ".join(_FILTERS))
    for part in _FILTERS:
        proxy += f"[filter:{part}]\nuse = egg:swift#{part}\n"
        proxy += _OPTIONS.get(part, "").format(account=account, name=name, secret=secret)
    file = folder / "proxy.conf"
    file.touch(mode=0o600)
    file.write_text(proxy)


def write_ring(folder: Path, kind: str, port: int) -> None:
    """Say where the one disk is that has everything of a kind."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1.0, "meta": ""}
    builder.add_dev({**place, "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


def catch_up(folder: Path) -> None:
    """Put into the lists what was stored in the moment of a kill."""
    from swift.common import utils
    from swift.obj.updater import main

    utils.set_swift_dir(str(folder))
    sys.argv = ["swift-object-updater", str(folder / "object.conf"), "once"]
    main()


if __name__ == "__main__":
    where, *pairs = sys.argv[1:]
    for pair in pairs:
        write_ring(Path(where), pair.partition("=")[0], int(pair.partition("=")[2]))
    if not pairs:
        catch_up(Path(where))
