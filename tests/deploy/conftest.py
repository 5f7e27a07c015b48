"""Certificates, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagtrain.deploy import make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates for loopback."""
    pytest.importorskip("cryptography", reason="certificates are made by cryptography")
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, ["node7", "10.0.0.7"])
    return folder
