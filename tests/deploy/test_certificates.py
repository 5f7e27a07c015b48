import json
import ssl
import stat
import sys
import time

import pytest
from click.testing import CliRunner
from distributed import Client

from dagtrain.cli import main
from dagtrain.deploy import make_certificates, security
from dagtrain.deploy.certificates import ROLES, client_security, expiry
from dagtrain.errors import ArgumentError, MissingDependencyError

DAY = 86400


def contexts(folder, listening, connecting):
    made = security(folder)
    return made.get_listen_args(listening)["ssl_context"], made.get_connection_args(connecting)["ssl_context"]


def command(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), prog_name="dagtrain")


def test_every_role_accepts_every_other(certificates):
    for listening in ROLES:
        for connecting in ROLES:
            assert expiry(*contexts(certificates, listening, connecting)) == pytest.approx(time.time() + 365 * DAY, abs=600)


def test_another_authority_is_refused(certificates, tmp_path):
    make_certificates(tmp_path)
    listen, connect = contexts(certificates, "scheduler", "client")[0], contexts(tmp_path, "scheduler", "client")[1]
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed|signature failure"):
        expiry(listen, connect)


def test_hosts_and_loopback_stand_in_the_certificates(certificates):
    x509 = pytest.importorskip("cryptography.x509")
    names = x509.load_pem_x509_certificate((certificates / "worker.pem").read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "node7"]
    assert list(map(str, names.value.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1", "10.0.0.7"]


def test_only_the_user_reads_keys_and_the_authority_keeps_none(certificates):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in certificates.iterdir()}
    assert sorted(name for name, mode in modes.items() if mode == 0o600) == ["client-key.pem", "scheduler-key.pem", "worker-key.pem"]
    assert sorted(name for name, mode in modes.items() if mode != 0o600) == ["ca.pem", "client.pem", "scheduler.pem", "worker.pem"]


def test_existing_files_stay(certificates):
    before = {path: path.read_bytes() for path in certificates.iterdir()}
    result = command("certs", certificates)
    assert result.exit_code == 2
    assert "already holds ca.pem, scheduler.pem" in result.stderr
    assert {path: path.read_bytes() for path in certificates.iterdir()} == before


def test_the_command_prints_how_dask_uses_them(tmp_path):
    pytest.importorskip("cryptography")
    result = command("certs", tmp_path / "new", "--hosts", "10.0.0.1, node7", "--days", "3")
    assert result.exit_code == 0, result.output
    assert f"dask scheduler --protocol tls --tls-ca-file {tmp_path}/new/ca.pem --tls-cert {tmp_path}/new/scheduler.pem" in result.stdout
    assert "dask worker tls://SCHEDULER:8786 --protocol tls" in result.stdout
    assert expiry(*contexts(tmp_path / "new", "worker", "client")) == pytest.approx(time.time() + 3 * DAY, abs=600)


def test_without_cryptography_the_error_gives_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dagtrain\[certs\]"'):
        make_certificates(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("hosts", "days", "words"), [(["nöde"], 1, "neither a name in ASCII"), ([], 0, "days is at least 1")])
def test_wrong_arguments(hosts, days, words, tmp_path):
    pytest.importorskip("cryptography")
    with pytest.raises(ArgumentError, match=words):
        make_certificates(tmp_path / "new", hosts, days)
    assert not (tmp_path / "new").exists()


def test_files_that_cannot_be_used_are_named(certificates, tmp_path):
    with pytest.raises(ArgumentError, match="holds no certificates"):
        security(tmp_path)
    with pytest.raises(ArgumentError, match=r"client's certificate in .* cannot be used: KEY_VALUES_MISMATCH"):
        client_security(certificates / "ca.pem", certificates / "client.pem", certificates / "worker-key.pem")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scheduler", "tls://127.0.0.1:1"], "add --certs FOLDER"),
        (["--scheduler", "tcp://127.0.0.1:1", "--certs", "{}"], "begins with tls://"),
        (["--scheduler", "tls://127.0.0.1:1", "--tls-cert", "{}/client.pem"], "needs both --tls-ca-file and --tls-cert"),
        (["--scheduler", "tls://127.0.0.1:1", "--tls-cert", "{}/client.pem", "--certs", "{}"], "give one of them"),
    ],
)
def test_options_that_do_not_fit(options, words, certificates):
    result = command("train", "digits", "--no-pictures", *(text.format(certificates) for text in options))
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.fixture(scope="module")
def encrypted(local_cluster, certificates):
    """A cluster that talks TLS, within this process."""
    with local_cluster(2, security=security(certificates), protocol="tls") as made:
        yield made


@pytest.mark.cluster
@pytest.mark.parametrize(
    "files", [["--certs", "{}"], ["--tls-ca-file", "{0}/ca.pem", "--tls-cert", "{0}/client.pem", "--tls-key", "{0}/client-key.pem"]]
)
def test_digits_are_trained_on_a_cluster_that_encrypts(files, encrypted, certificates, digits, fingerprint):
    options = [text.format(certificates) for text in files]
    result = command("train", "digits", "--scheduler", encrypted.scheduler_address, "--epochs", 1, "--no-pictures", "--json", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["fingerprint"] == fingerprint
    assert encrypted.scheduler_address.startswith("tls://")


@pytest.fixture(scope="module")
def fingerprint():
    """Of the same training without a cluster."""
    return json.loads(command("train", "digits", "--epochs", 1, "--no-pictures", "--json").stdout)["fingerprint"]


@pytest.mark.cluster
def test_a_client_without_certificates_is_refused(encrypted, certificates):
    address = encrypted.scheduler_address.replace("tls://", "tcp://")
    result = command("train", "digits", "--scheduler", address, "--epochs", 1, "--no-pictures")
    assert result.exit_code == 2
    assert f"no Dask scheduler answers at {address}" in result.stderr
    with Client(encrypted.scheduler_address, security=security(certificates)) as client:  # the cluster lives
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
