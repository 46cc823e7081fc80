"""Two builders of one key, dead builders and their orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lmgraft.errors import Fault
from lmgraft.store import Store
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Holder, Lease, Leases
from lmgraft.store._process import Process

KEY = "aa11bb22cc33"
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def wait_for(happened: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def script(body: str, *arguments: object) -> subprocess.Popen[str]:
    code = "import os, sys, time\nfrom pathlib import Path\nfrom lmgraft.store import Store\n" + textwrap.dedent(body)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


RACER = """
root, flags, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
note = lambda host, pid: (flags / f"waits-{name}").write_text(f"{host} {pid}")
with Store(root, poll=0.02).build("aa11bb22cc33", wait_note=note) as job:
    if job.record is None:
        (flags / f"builds-{name}").write_text(str(os.getpid()))
        while not list(flags.glob("waits-*")):
            time.sleep(0.01)
        (job.out / "who").write_text(name)
        job.publish("corpus", {}, 0.0)
    print((job.record.path / "who").read_text())
"""


def test_of_two_processes_one_builds_and_the_other_gets_the_record(tmp_path: Path) -> None:
    racers = {name: script(RACER, tmp_path / "store", tmp_path, name) for name in "ab"}
    told = {name: racer.communicate(timeout=60)[0].strip() for name, racer in racers.items()}
    [builder] = [path.name[-1] for path in tmp_path.glob("builds-*")]
    [waiter] = [path.name[-1] for path in tmp_path.glob("waits-*")]
    assert {builder, waiter} == {"a", "b"}
    assert told == {"a": builder, "b": builder}
    host, pid = (tmp_path / f"waits-{waiter}").read_text().split()
    assert (host, pid) == (Process.this().host, (tmp_path / f"builds-{builder}").read_text())


HOLDER = """
root, flag = Path(sys.argv[1]), Path(sys.argv[2])
with Store(root).build("aa11bb22cc33") as job:
    (job.work / "unit").write_text("1")
    log = open(job.work / "log", "a")
    log.write("row\\n"); log.flush()
    if len(sys.argv) > 3 and os.fork() == 0:  # a worker that outlives its parent, the log open
        while not Path(sys.argv[3]).exists():
            time.sleep(0.01)
        log.write("from the orphan\\n"); log.flush()
        Path(sys.argv[3] + ".done").touch()
        os._exit(0)
    flag.touch()
    time.sleep(600)
"""


@linux
def test_a_killed_run_is_taken_over_at_once(tmp_path: Path) -> None:
    holder = script(HOLDER, tmp_path / "store", tmp_path / "flag")
    wait_for((tmp_path / "flag").exists)
    holder.kill()  # and not waited for: a zombie has ended too
    deadline = time.monotonic() + 10.0

    def check() -> None:
        assert time.monotonic() < deadline, "waits for a dead process"

    with Store(tmp_path / "store", ttl=600.0).build(KEY, check=check) as job:
        assert job.resumed
        assert (job.work / "unit").read_text() == "1"
    holder.communicate()


@linux
def test_the_workers_of_a_killed_run_no_longer_reach_its_files(tmp_path: Path) -> None:
    go = tmp_path / "go"
    holder = script(HOLDER, tmp_path / "store", tmp_path / "flag", go)
    wait_for((tmp_path / "flag").exists)
    holder.kill()
    with Store(tmp_path / "store").build(KEY) as job:
        go.touch()
        wait_for(Path(f"{go}.done").exists)
        assert (job.work / "log").read_text() == "row\n"
    holder.communicate()


@linux
def test_a_paused_holder_that_has_been_replaced_hears_of_it(tmp_path: Path) -> None:
    body = """
    from lmgraft.errors import Fault
    try:
        with Store(Path(sys.argv[1]), ttl=0.3, beat=0.05).build("aa11bb22cc33") as job:
            (job.work / "unit").write_text("1")
            Path(sys.argv[2]).touch()
            while True:
                time.sleep(0.01)
                job.alive() if sys.argv[3] == "asks" else (job.work / "next").write_text("2")
    except Fault as fault:
        print("taken over" in str(fault))
    """
    for how in ("asks", "writes"):
        root, flag = tmp_path / how, tmp_path / f"flag-{how}"
        holder = script(body, root, flag, how)
        wait_for(flag.exists)
        holder.send_signal(signal.SIGSTOP)
        with Store(root, ttl=0.3, beat=0.05, poll=0.02).build(KEY) as job:
            holder.send_signal(signal.SIGCONT)
            assert holder.communicate(timeout=30)[0].strip() == "True"
            job.alive()
            (job.out / "a").write_text("mine")
            job.publish("corpus", {}, 0.0)
        assert (Store(root).lookup(KEY).path / "a").read_text() == "mine"


def leases(tmp_path: Path, **changes: float) -> Leases:
    layout = Layout(tmp_path)
    layout.prepare()
    return Leases(layout, changes.get("ttl", 60.0), changes.get("beat", 5.0))


def test_tokens_only_rise_and_the_lower_ones_lose(tmp_path: Path) -> None:
    book = leases(tmp_path, ttl=0.0, beat=60.0)
    first = book.acquire(KEY, above=7, patient=False)
    assert isinstance(first, Lease)
    time.sleep(0.02)
    second = book.acquire(KEY, patient=False)
    assert isinstance(second, Lease)
    assert (first.token, second.token) == (8, 9)
    with pytest.raises(Fault, match="taken over"):
        first.check()
    with pytest.raises(Fault, match="taken over"):
        first.alive()
    first.release()
    second.check()
    second.release()
    assert book.live(KEY) is None


def test_a_heartbeat_keeps_a_lease_longer_than_its_time_to_live(tmp_path: Path) -> None:
    book = leases(tmp_path, ttl=0.6, beat=0.05)
    held = book.acquire(KEY)
    assert isinstance(held, Lease)
    time.sleep(1.0)
    found = book.acquire(KEY, patient=False)
    assert isinstance(found, Holder)
    assert found.process == Process.this()
    held.release()
    again = book.acquire(KEY)
    assert isinstance(again, Lease)
    again.release()


def test_another_machines_holder_dies_by_time_alone(tmp_path: Path) -> None:
    book = leases(tmp_path, ttl=0.2, beat=0.055)
    folder = tmp_path / "leases" / KEY
    folder.mkdir(parents=True)
    (folder / "4").write_text('{"host": "far", "machine": "other boot", "pid": 1, "start": "1", "nonce": "x"}')
    found = book.acquire(KEY)
    assert isinstance(found, Holder)
    assert (found.process.host, found.process.gone) == ("far", False)
    time.sleep(0.3)
    # The heartbeat looks old; a patient waiter watches it for two beats more before it believes that.
    assert isinstance(book.acquire(KEY), Holder)
    time.sleep(0.2)
    lease = book.acquire(KEY)
    assert isinstance(lease, Lease)
    assert lease.token == 5
    lease.release()


def test_a_lease_without_its_holders_name_is_respected_for_its_time(tmp_path: Path) -> None:
    book = leases(tmp_path, ttl=0.2, beat=0.05)
    folder = tmp_path / "leases" / KEY
    folder.mkdir(parents=True)
    (folder / "1").touch()
    assert isinstance(book.acquire(KEY, patient=False), Holder)
    time.sleep(0.3)
    lease = book.acquire(KEY, patient=False)
    assert isinstance(lease, Lease)
    lease.release()


def test_of_many_threads_that_ask_at_once_one_gets_the_lease(tmp_path: Path) -> None:
    book = leases(tmp_path)
    got: list[Lease | Holder] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        got.append(book.acquire(KEY))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [held] = [one for one in got if isinstance(one, Lease)]
    assert len(got) == 8
    held.release()


@linux
def test_a_number_given_out_again_is_another_process() -> None:
    this = Process.this()
    assert this.here
    assert not this.gone
    assert Process(this.host, this.machine, this.pid, "1").gone
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        assert Process(this.host, this.machine, ended.pid, "1").gone
    assert not Process(this.host, "another boot", ended.pid, "1").gone
    assert Process.from_json(this.as_json()) == this
    assert not Process.from_json({"pid": "?"}).gone


def test_while_waiting_the_caller_may_stop(tmp_path: Path) -> None:
    class StopHereError(Exception):
        pass

    def check() -> None:
        raise StopHereError

    store = Store(tmp_path / "store")
    with (
        store.build(KEY),
        pytest.raises(StopHereError),
        Store(tmp_path / "store", poll=0.01).build(KEY, check=check),
    ):
        pass
    assert os.listdir(tmp_path / "store" / "leases") == []
