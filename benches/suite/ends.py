"""The processes of a run: Postgres, the null sink, Forebay. Each lives in the run's temporary directory and dies with it."""

import http.client
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess

from machine import until

STREAM = "bench"
STARTED = []


def start(command, log, **options):
    """Starts a child with its output in a file."""
    with open(log, "ab") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    STARTED.append(child)
    return child


def end_all():
    """Ends what is still running, the latest first."""
    for child in reversed(STARTED):
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def programs(version):
    """Where the programs of a Postgres are: the system's, or one that scripts/setup has fetched."""
    places = [f"/usr/lib/postgresql/{version}/bin", f"{os.environ['FOREBAY_CACHE']}/pg/{version}/bin"]
    for place in places:
        if os.path.exists(f"{place}/postgres"):
            return os.path.realpath(place)
    raise SystemExit(f"no Postgres {version}: run scripts/setup (looked at {', '.join(places)})")


class Postgres:
    """A cluster on a Unix socket. Without fsync: what is measured is not the database's disk."""

    SETTINGS = """
listen_addresses = ''
wal_level = logical
fsync = off
full_page_writes = off
max_wal_size = 20GB
checkpoint_timeout = 1h
autovacuum = off
max_replication_slots = 60
max_wal_senders = 20
wal_sender_timeout = 10min
"""

    def __init__(self, home, version):
        self.programs = programs(version)
        self.home = home / "postgres"
        self.home.mkdir()
        user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.home, entry.pw_uid, entry.pw_gid)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        data = str(self.home / "data")
        initdb = [f"{self.programs}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)
        with open(self.home / "data/postgresql.conf", "a", encoding="utf-8") as file:
            file.write(f"{self.SETTINGS}unix_socket_directories = '{self.home}'\n")
        # psql and pgbench are not in every package: any version's will do.
        self.clients = next((place for place in [self.programs, *self.others()] if os.path.exists(f"{place}/psql")), "")
        log = home / "postgres.log"
        self.process = start([f"{self.programs}/postgres", "-D", data], log, cwd="/", **user)
        until(lambda: self.ready(), 60, "Postgres")
        self.version = self.sql("show server_version").split()[0]

    @staticmethod
    def others():
        return sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)

    def client(self, program):
        return [f"{self.clients}/{program}" if self.clients else program, "-h", str(self.home), "-U", "postgres"]

    def ready(self):
        probe = [*self.client("psql"), "-qAtX", "-d", "postgres", "-c", "select 1"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    def sql(self, text):
        command = [*self.client("psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", text]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def url(self):
        return f"postgres://postgres@/postgres?host={self.home}"


class Stub:
    """The stand-in for Kinesis that counts records and drops them."""

    def __init__(self, home, binary, *options):
        self.port = free_port()
        self.command = [binary, "--port", str(self.port), "--streams", f"{STREAM}:1", "--null", *options]
        self.log = home / "stub.log"
        self.process = None

    def start(self):
        self.process = start(self.command, self.log)
        until(self.stats, 20, "the stub")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def stats(self):
        try:
            return json.loads(self.request("GET", "/_stub/stats"))
        except OSError:
            return None

    def reset(self):
        self.request("POST", "/_stub/stats/reset")


class Forebay:
    """One daemon with a slot and a directory of its own. Made before the rows are, so that its slot has them all."""

    def __init__(self, home, name, binary, postgres, stub, confirm_after="5s", pack="off"):
        self.name, self.binary, self.postgres = name, binary, postgres
        self.home = home / name
        self.home.mkdir()
        self.port = free_port()
        self.process = None
        (self.home / "forebay.toml").write_text(f"""
name = "{name}"
[source]
url = "{postgres.url}"
slot = "{name}"
publication = "{name}"
tables = ["public.ev"]
[kinesis]
stream = "{STREAM}"
region = "us-east-1"
endpoint = "http://127.0.0.1:{stub.port}"
pack = "{pack}"
[buffer]
dir = "{self.home}/buffer"
max_size = "20 GiB"
confirm_after = "{confirm_after}"
[http]
listen = "127.0.0.1:{self.port}"
""")
        self.start()
        until(lambda: self.slot("active") == "t", 60, f"the slot {name}")
        self.stop()

    def start(self, prefix=()):
        environment = os.environ | {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
        command = [*prefix, self.binary, "run", "--config", str(self.home / "forebay.toml")]
        self.process = start(command, self.home / "log", env=environment)

    @property
    def pid(self):
        return self.process.pid

    def stop(self, pid=None):
        """A clean stop. `pid`: the daemon's own, if something runs it."""
        os.kill(pid or self.pid, signal.SIGTERM)
        if self.process.wait(30) != 0:
            raise SystemExit(f"{self.name} failed:\n{(self.home / 'log').read_text()[-2000:]}")

    def drop(self):
        """Gives slot and disk back."""
        self.postgres.sql(f"select pg_drop_replication_slot('{self.name}')")
        shutil.rmtree(self.home / "buffer")

    def slot(self, column):
        return self.postgres.sql(f"select {column} from pg_replication_slots where slot_name = '{self.name}'")

    def metric(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            for line in connection.getresponse().read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        except OSError:
            pass
        finally:
            connection.close()
        return None
