"""Certificates are checked against the name in the address."""

import shutil
import ssl
import subprocess

import pytest


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a directory with a self-signed certificate of images.test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=images.test"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:images.test", "-keyout", "key.pem", "-out", "c.pem"],
        cwd=path,
        check=True,
        capture_output=True,
    )
    return path


def test_an_image_over_tls_needs_a_valid_certificate_of_its_host(faulty, fetch, certificate):
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
    trusting = ssl.create_default_context(cafile=str(certificate / "c.pem"))

    async def lookup(_host):
        return ["127.0.0.1"]

    with faulty.serving(
        faulty.FaultyServer(num_hosts=1, images=[faulty.make_jpeg(0)], ssl_context=server_context)
    ) as server:
        urls = [f"https://{name}.test:{server.port}/ok/0.jpg" for name in ("images", "other")]
        outcomes = [
            [
                fetch([url], lookup=lookup, ssl_context=context, folder=f"{number}-{index}")[url]
                for index, url in enumerate(urls)
            ]
            for number, context in enumerate((trusting, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
        ]
    invalid = ("permanent", "invalid certificate")
    assert [[(image.status, image.reason) for image in row] for row in outcomes] == [
        [("kept", None), invalid],
        [invalid, invalid],
    ]
