"""Workers in a Ray cluster: on this machine, killed, lost with their node, and asked for as a job."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from gliosight.archive.cluster import ATTEMPTS, Cluster, Nodes, connected
from gliosight.archive.workers import Lost
from gliosight.cli import run
from gliosight.errors import InternalError, LimitExceededError, ModelError, PeerError
from gliosight.phantom import PhantomSpec, make_phantom, write_nifti
from tests.archive.test_batch import batch, content, made, rows

# Ray itself is imported when it is connected: it takes the cluster's token from the environment then.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra scale is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="Ray's clusters are for Linux"),
]


TOOL = str(Path(sys.executable).with_name("ray"))


def ray(*words: str) -> str:
    """What Ray's own command prints."""
    done = subprocess.run([TOOL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextlib.contextmanager
def node(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A node of a cluster, as long as this is open."""
    room = ("--object-store-memory", str(100 * 2**20))
    # Else all nodes of a machine want the same.
    ports = (
        "--dashboard-agent-listen-port",
        free_port(),
        "--dashboard-agent-grpc-port",
        free_port(),
    )
    command = [TOOL, "start", *words, *room, *ports, "--block"]
    with subprocess.Popen(command, stdout=-1, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """End a node with all its processes at once, as when its power fails."""
    if process.poll() is None:
        whole = psutil.Process(process.pid)
        for one in [whole, *whole.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@dataclass(frozen=True)
class Head:
    """Where a cluster is reached: itself, and its page and job API."""

    address: str
    page: str


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster of one node on this machine, with room for two workers."""
    port = free_port()
    page = ("--dashboard-host", "127.0.0.1", "--dashboard-port", port)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        words = ("--head", "--port", "0", "--num-cpus", "2", *page, "--temp-dir", folder)
        with node(*words) as process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "ray start --address=" in line:
                    break
            else:
                pytest.skip(f"Ray cannot start a node on this machine: {''.join(said)[-300:]}")
            yield Head(line.split("--address='")[1].split("'")[0], f"127.0.0.1:{port}")


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again, for two minutes at least."""
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("nothing happened")


@pytest.fixture
def cluster(head: Head) -> Iterator[None]:
    """A connection to it."""
    with connected(head.address) as nodes:
        assert nodes == Nodes(1, 2, head.page)
        yield


def _start(folder: Path) -> Callable[[str], str]:
    (folder / f"started-{os.getpid()}").touch()
    return partial(_answer, folder)


def _answer(folder: Path, task: str) -> str:
    (folder / f"begun-{task}-{os.getpid()}").touch()
    if task == "with another":
        while len(list(folder.glob("started-*"))) < 2:
            time.sleep(0.01)
    if task.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        time.sleep(600)
    if task == "bug":
        raise ZeroDivisionError(task)
    return f"{task} by {os.getpid()}"


def _again(task: str) -> str:
    """A task that kills its worker once does not do so again."""
    return "survived" if task == "die once" else task


def _refuse() -> Callable[[str], str]:
    raise ModelError("no such model", where="x.json", remedy="choose another")


def _leave() -> Callable[[str], str]:
    os._exit(3)


def _cluster(
    start: Callable[[], Callable[[str], str]], most: int = 99, seconds: float = 60
) -> Cluster[str, str]:
    return Cluster(start, None, seconds, threads=1, most=most, again=_again)


@pytest.mark.usefixtures("cluster")
def test_every_task_is_answered_once_by_few_actors(tmp_path: Path) -> None:
    taken = []

    def tasks() -> Iterator[str]:
        for task in ("with another", "a", "b", "c", "d", "e"):
            taken.append(task)
            yield task

    answers = _cluster(partial(_start, tmp_path)).answers(tasks())
    first = next(answers)
    assert len(taken) <= 2  # each has one in hand
    assert sorted(task for task, _ in (first, *answers)) == sorted(taken)
    assert len(taken) == 6
    assert len(list(tmp_path.glob("started-*"))) == 2
    assert list(_cluster(_refuse, most=0).answers([])) == []


@pytest.mark.usefixtures("cluster")
def test_a_task_is_done_again_whose_actor_died_and_given_up_in_the_end(tmp_path: Path) -> None:
    tasks = ["a", "die once", "b", "die", "c", "bug"]
    answers = dict(_cluster(partial(_start, tmp_path)).answers(tasks))
    assert sorted(answers) == ["a", "b", "bug", "c", "die", "survived"]
    assert str(answers["survived"]).startswith("survived by")
    for task, words in (("die", f"lost, {ATTEMPTS} times"), ("bug", "ZeroDivisionError")):
        lost = answers[task]
        assert isinstance(lost, Lost)
        assert isinstance(lost.error, InternalError)
        assert words in lost.error.what
    assert len(list(tmp_path.glob("begun-die-*"))) == ATTEMPTS
    assert len(list(tmp_path.glob("begun-bug-*"))) == 1
    # Also where nothing else is left to do.
    last = dict(_cluster(partial(_start, tmp_path)).answers(["with another", "die"]))
    assert isinstance(last["die"], Lost)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_no_node_has_room_for() -> None:
    with pytest.raises(PeerError, match="the largest has 2 cores"):
        Cluster(_refuse, None, 60, threads=3, most=1, again=_again)


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_hangs_is_replaced(tmp_path: Path) -> None:
    answers = dict(_cluster(partial(_start, tmp_path), seconds=5).answers(["hang", "a", "b"]))
    lost = answers.pop("hang")
    assert isinstance(lost, Lost)
    assert isinstance(lost.error, LimitExceededError)
    assert sorted(answers) == ["a", "b"]


@pytest.mark.usefixtures("cluster")
def test_actors_that_cannot_start_end_the_run() -> None:
    with pytest.raises(ModelError, match=r"no such model \(x.json\): choose another"):
        list(_cluster(_refuse).answers(["a"]))
    with pytest.raises(PeerError, match="a worker cannot be started"):
        list(_cluster(_leave).answers(["a"]))


def test_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(make_phantom(PhantomSpec(slices=3)), tmp_path / "in" / "a")
    words = ["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--ray"]
    assert run([*words, "127.0.0.1:1"]) == 9
    error = capsys.readouterr().err.splitlines()[-1]
    assert "(--ray 127.0.0.1:1)" in error
    assert "--ray local" in error
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert run([*words, f"127.0.0.1:{server.server_port}"]) == 9
        assert (
            "it is not the port of a Ray cluster (often 6379)"
            in capsys.readouterr().err.splitlines()[-1]
        )
    for address in ("no address", "", "http://127.0.0.1:8265"):
        assert run([*words, address]) == 2
        assert "is not local, auto or HOST:PORT" in capsys.readouterr().err


@pytest.mark.usefixtures("head")  # Ray can start here
def test_one_of_two_workers_is_killed_and_the_results_are_those_of_the_pool(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    for seed in range(6):
        write_nifti(make_phantom(PhantomSpec(slices=3, seed=seed)), archive / f"s{seed}")
    (archive / "broken").mkdir()
    (archive / "broken" / "x_flair.nii.gz").write_bytes(b"no image")
    pool, ray = tmp_path / "pool" / "out", tmp_path / "ray" / "out"
    assert batch(archive, "-o", pool, "--workers", "2", "-q").returncode == 10
    call = [sys.executable, "-m", "gliosight", "batch", str(archive), "-o", str(ray)]
    with subprocess.Popen(
        [*call, "--ray", "local", "--workers", "2"], stdout=-1, stderr=-1, text=True
    ) as process:
        wait_until(lambda: bool(made(ray)) or process.poll() is not None)
        killed = _actors_below(process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 10, said
    assert "Ray: 1 node, 2 cores, page: http://127.0.0.1:" in said
    assert len(rows(ray)) == 7
    assert content(ray) == content(pool)
    # The ledger is the same, too: nothing is left to do.
    before = made(ray)
    assert batch(archive, "-o", ray, "-q").returncode == 10
    assert made(ray) == before


def _actors_below(pid: int) -> list[int]:
    """The processes of actors that a command started, by what Ray calls them."""
    children = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in children if "ray::_Actor" in " ".join(child.cmdline())]


def test_a_job_of_the_cluster_goes_on_when_a_node_is_lost(head: Head, tmp_path: Path) -> None:
    """The command is given to the cluster as a job; then one of its two nodes, both here, is killed."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    for seed in range(8):
        write_nifti(make_phantom(PhantomSpec(slices=3, seed=seed)), archive / f"s{seed}")
    jobs = ("--address", f"http://{head.page}")

    def state() -> str:
        said = ray("job", "status", *jobs, "all").lower()
        assert "failed" not in said, ray("job", "logs", *jobs, "all")
        return "done" if "succeeded" in said else "running"

    with node(f"--address={head.address}", "--num-cpus", "1") as second:
        listed = ("list", "nodes", "--address", head.address)
        wait_until(lambda: ray(*listed).count("ALIVE") == 2)
        command = [sys.executable, "-m", "gliosight", "batch", str(archive), "-o", str(out)]
        submitted = ("job", "submit", *jobs, "--submission-id", "all", "--no-wait", "--")
        # The agent that takes jobs starts after its node.
        job = [TOOL, *submitted, *command, "--ray", "auto"]
        wait_until(lambda: subprocess.run(job, capture_output=True, check=False).returncode == 0)
        wait_until(lambda: state() != "running" or len(made(out)) >= 3)
        kill(second)
    wait_until(lambda: state() == "done")
    said = ray("job", "logs", *jobs, "all")
    assert "Ray: 2 nodes, 3 cores" in said
    assert "8 of 8 studies analysed" in said
    assert len(made(out)) == 8
    assert {row["status"] for row in rows(out).values()} == {"tumour found"}
