"""The examples of deploy/ agree with the server, and pass the checks of the programs that read them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zebra.cli.main import VERBS
from zebra.config.serve import BatchingConfig, ServeConfig
from zebra.serve import limits, server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE, NGINX, UNIT = (DEPLOY / name for name in ("Dockerfile", "nginx.conf", "zebra.service"))


def instructions():
    """Return the instructions of the Dockerfile by stage."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages = []
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, value))
    return stages


def unit():
    return [line.partition("=")[::2] for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w+=", line)]


def test_the_image_runs_as_an_unprivileged_user_with_a_health_check():
    *_, final = instructions()
    names = [name for name, _ in final]
    values = dict(final)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", values["USER"])
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert f"http://127.0.0.1:{ServeConfig().port}/readyz" in values["HEALTHCHECK"]
    assert values["EXPOSE"] == str(ServeConfig().port)
    assert values["ENTRYPOINT"].startswith('["zebra", "serve"')  # no shell, so that SIGTERM arrives
    assert not {"ADD", "MAINTAINER"} & set(names)
    assert "XDG_CACHE_HOME=/cache" in values["ENV"]
    assert values["VOLUME"] == "/cache"


def test_the_image_is_built_from_files_that_exist_and_fixed_versions_of_its_base():
    build, final = instructions()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sources = [source for name, value in build if name == "COPY" for source in value.split()[:-1]]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
    assert {"src", "pyproject.toml"} <= set(sources)
    for stage in (build, final):
        assert re.match(r"python:3\.\d+-slim\b", dict(stage)["FROM"])


def test_hadolint_accepts_the_dockerfile():
    hadolint = shutil.which("hadolint") or pytest.skip("hadolint is not installed")
    result = subprocess.run([hadolint, DOCKERFILE], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_flags_of_the_examples_exist():
    commands = [value for name, value in unit() if name == "ExecStart"]
    [entry] = [value for name, value in instructions()[-1] if name == "ENTRYPOINT"]
    for words in (*map(shlex.split, commands), re.findall(r'"([^"]+)"', entry), ["zebra", "serve", "--root-path"]):
        assert words[1] in VERBS
        for flag in (word for word in words if word.startswith("--")):
            assert hasattr(ServeConfig(), flag.removeprefix("--").replace("-", "_")), flag


def test_the_unit_waits_for_accepted_requests_and_is_confined():
    settings = dict(unit())
    assert int(settings["TimeoutStopSec"]) > server.DRAIN_TIMEOUT_SECONDS
    assert settings["KillMode"] == "mixed"
    assert settings["Restart"] == "on-failure"
    for name in ("NoNewPrivileges", "DynamicUser", "ProtectHome", "PrivateTmp"):
        assert settings[name] == "yes"
    assert settings["ProtectSystem"] == "strict"


def test_systemd_accepts_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze") or pytest.skip("systemd is not installed")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/zebra/bin/zebra", sys.executable))
    result = subprocess.run([analyze, "verify", path], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_proxy_allows_what_the_server_allows():
    settings = dict(re.findall(r"^\s*(\w+) ([^;]+);", NGINX.read_text(), re.MULTILINE))
    assert settings["client_max_body_size"] == f"{limits.MAX_BODY_BYTES // 2**20}m"
    assert float(settings["client_body_timeout"].rstrip("s")) >= limits.BODY_TIMEOUT_SECONDS
    assert float(settings["proxy_read_timeout"].rstrip("s")) > BatchingConfig().timeout_seconds
    assert float(settings["keepalive_timeout"].rstrip("s")) < server.KEEP_ALIVE_SECONDS
    assert f"server {ServeConfig().host}:{ServeConfig().port};" in NGINX.read_text()
    assert "proxy_set_header Host 127.0.0.1;" in NGINX.read_text()


def test_nginx_accepts_the_site(tmp_path):
    nginx = shutil.which("nginx") or pytest.skip("nginx is not installed")
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a"]
    subprocess.run([openssl, *request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    site = re.sub(r"(ssl_certificate(_key)?) [^;]+;", rf"\1 {tmp_path}/\1.pem;", NGINX.read_text())
    key.rename(tmp_path / "ssl_certificate_key.pem")
    certificate.rename(tmp_path / "ssl_certificate.pem")
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; {folders}\n{site}}}")
    result = subprocess.run([nginx, "-t", "-c", config], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
