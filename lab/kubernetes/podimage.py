"""The image of test pods: one static program, packed as an archive that container runtimes import."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

NAME = "localhost/pod:1"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(archive: Path, program: Path) -> Path:
    """Write the archive, in ``docker save``'s format; return its path. Equal programs give equal bytes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, "pod", program.read_bytes(), 0o755)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": MACHINES[os.uname().machine],
            "os": "linux",
            "config": {"Entrypoint": ["/pod"], "Cmd": ["pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, config_name, config)
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return archive


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
