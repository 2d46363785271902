"""What tests of several folders need: a web server that misbehaves as it is told, worker processes, a Slurm."""

import http.server
import logging
import subprocess
import threading

import pytest


@pytest.fixture(autouse=True)
def heard():
    """Each test begins with the levels that Python begins with, whatever a library or a command set before.

    A library that configures logging for itself (`dictConfig`) disables the loggers that are there.
    """
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("densem").setLevel(logging.NOTSET)
    logging.getLogger("densem").propagate = True
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "densem" and isinstance(logger, logging.Logger):
            logger.disabled = False


class Web:
    """What the server gives out, and how it misbehaves.

    `cuts`: for each of the next answers, after how many bytes of the body it breaks off (None: not);
    `answers`: status and headers to give instead of the file, one for each of the next requests.
    """

    def __init__(self):
        self.files = {}
        self.cuts, self.answers, self.asked = [], [], []
        self.ranges, self.tag, self.shift = True, '"v1"', 0
        self.headers = {}
        self.address = ""

    def url(self, name):
        return f"{self.address}/{name}"


def handler_of(web):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            web.asked.append(dict(self.headers))
            if web.answers:
                status, headers = web.answers.pop(0)
                self.answer(status, headers, b"")
                return
            body = web.files.get(self.path.lstrip("/").partition("?")[0])
            if body is None:
                self.answer(404, {}, b"gone")
                return
            self.give(body)

        def give(self, body):
            headers = {"ETag": web.tag} if web.tag else {}
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            if web.ranges and asked and condition in (None, web.tag):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                    return
                start = max(0, start - web.shift)
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.answer(206, headers, body[start:])
                return
            self.answer(200, headers, body)

        def answer(self, status, headers, body):
            cut = web.cuts.pop(0) if web.cuts else None
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers, **web.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])

    return Handler


@pytest.fixture
def web(monkeypatch):
    """A server on loopback; pauses between tries take no time."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("densem.datasets.download.PAUSES_S", (0.0, 0.0))
    made = Web()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(made))
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def dask_scheduler(tmp_path_factory):
    """Address of a Dask scheduler on loopback with two worker processes."""
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        memory_limit=0, silence_logs=50, local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


@pytest.fixture(scope="session")
def why_no_slurm():
    """Why no Slurm with nodes on this machine's loopback interface can be used; empty if one can. Asked once."""
    try:
        nodes = subprocess.run(["scontrol", "show", "node"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return "no Slurm here"
    return "" if "NodeAddr=127.0.0.1" in nodes.stdout else "no Slurm answers on this machine"


@pytest.fixture
def slurm(why_no_slurm):
    """Settings of a Slurm with nodes on this machine's loopback interface, if one answers."""
    pytest.importorskip("dask_jobqueue")
    if why_no_slurm:
        pytest.skip(why_no_slurm)
    return 'time = "5:00"\nmemory = "1GB"\ncores = 1\njobs = 2\ninterface = "lo"\n'


@pytest.fixture
def once():
    """Makes a progress that does something when a share of the work is done, and a list that tells when it did."""

    def make(share, action):
        did = []

        def progress(done, total):
            if done >= share * total and not did:
                did.append(done)
                action()

        return progress, did

    return make
