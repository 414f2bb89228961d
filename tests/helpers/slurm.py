"""A SLURM cluster of one node, this machine, in a folder of its own: Debian's packages, as root."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING = ("slurmdbd", "mariadbd")
MINUTES = 60  # at most, of a job in the partition `cpu`
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/{accounting}
AccountingStoragePort={ports[2]}
AccountingStoragePass={folder}/munge.socket
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=2
MessageTimeout=60
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 Gres=gpu:2
PartitionName=cpu Nodes=ALL Default=YES State=UP MaxTime={minutes}
PartitionName=gpu Nodes=ALL State=UP
"""
DATABASE_CONF = """\
DbdHost=localhost
DbdPort={ports[2]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[3]}
StorageUser=root
"""
DATABASE = ("mariadbd", "--no-defaults", "--user=root", "--skip-grant-tables")
DATABASE += ("--bind-address=127.0.0.1", "--innodb-buffer-pool-size=32M")
MUNGE_FILES = ("key", "pid", "log", "seed")
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"  # two that only look like GPUs


def missing(*programs: str) -> str | None:
    """Why there can be no cluster here; None if there can. `programs`: besides the usual ones."""
    if os.geteuid() != 0:
        return "SLURM is started by root alone"
    lacking = [name for name in (*PROGRAMS, *programs) if shutil.which(name) is None]
    return f"{', '.join(lacking)} not found: .ci/run installs SLURM on Debian" if lacking else None


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def ask(*command: str) -> str:
    """What a command of SLURM prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_until(holds, seconds: float = 240.0) -> None:
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@contextmanager
def cluster(accounting: bool = False) -> Iterator[None]:
    """Within it SLURM's commands reach a cluster of one node, whose jobs end with it."""
    folder, daemons = Path(tempfile.mkdtemp(prefix="slurm-")), []  # short: it holds sockets
    folder.chmod(0o755)  # munge asks for it
    host, ports = socket.gethostname().partition(".")[0], free_ports(4)

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.log").open("w") as log:
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log))

    def write(name: str, content: bytes, mode: int = 0o600) -> None:
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)

    for name in ("state", "spool", "data"):
        (folder / name).mkdir()
    write("munge.key", os.urandom(128), 0o400)
    values = {"host": host, "ports": ports, "folder": folder, "minutes": MINUTES}
    values |= {"cpus": os.cpu_count(), "accounting": "slurmdbd" if accounting else "none"}
    for name, text in (("slurm", CONF), ("slurmdbd", DATABASE_CONF), ("gres", GRES)):
        write(f"{name}.conf", text.format(**values).encode())
    with patch.dict(os.environ, SLURM_CONF=str(folder / "slurm.conf")):
        try:
            files = (f"--{name}-file={folder}/munge.{name}" for name in MUNGE_FILES)
            start("munged", "--foreground", f"--socket={folder}/munge.socket", *files)
            wait_until((folder / "munge.socket").exists)
            if accounting:
                database, port = folder / "database.socket", f"--port={ports[3]}"
                start(*DATABASE, f"--datadir={folder}/data", f"--socket={database}", port)
                wait_until(database.exists)
                start("slurmdbd", "-D")
                wait_until(lambda: answers("sacctmgr", "--immediate", "list", "cluster"))
            start("slurmctld", "-D")
            start("slurmd", "-D")
            wait_until(lambda: "idle" in answers("sinfo", "--noheader", "--format=%T"))
            yield
            ask("scancel", "--me")
            wait_until(lambda: not ask("squeue", "--noheader"))
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait()
            shutil.rmtree(folder)


def answers(*command: str) -> str:
    """What a command prints; nothing if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode else done.stdout
