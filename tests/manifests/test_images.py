"""The images as they run: built here, started as a pod would start them, asked a whole query.

It needs buildah, podman and, in ``FRAZIL_TEST_BASE_IMAGE``, the name of an image that is on the machine already:
``python:3.13-slim`` or a copy of it. Containers share the machine's network, all on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import frazil
from frazil_functions.cloudevent import parse_line
from frazil_functions.errors import OutOfMemoryError
from frazil_functions.storage import FolderStore
from frazil_functions.task import Failed, Heartbeat, Output, Started, Succeeded, TaskRequest
from support.crd import REPOSITORY
from support.functions import KEY, Function, slow_plan, task
from support.parity import assert_same
from support.polling import eventually
from support.processes import free_ports
from support.seaweed import SeaweedFS

BASE = os.environ.get("FRAZIL_TEST_BASE_IMAGE", "")
MISSING = [name for name in ("buildah", "podman") if shutil.which(name) is None]
TOKEN = "token-of-the-test"
INLINE = Output(kind="single", prefix="ab/q/2/5", inline_limit_bytes=1 << 20)
LISTED = (
    "import json; found = json.load(open('/opt/frazil/sbom.cdx.json')); "
    "print(found['bomFormat'], 'polars' in [each['name'] for each in found['components']])"
)
READ_ONLY = "try: open('/written', 'w')\nexcept OSError as error: print(error.errno)"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}"),
    pytest.mark.skipif(not BASE, reason="FRAZIL_TEST_BASE_IMAGE names no image with Python"),
]


def podman(*arguments: str, folder: str | None = None) -> str:
    done = subprocess.run(["podman", *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    id: str
    port: int

    @property
    def function(self) -> Function:
        """How to talk to it; its store is not for us to see."""
        return Function(self.port, 0, FolderStore(Path("/nowhere")))

    def run(self, script: str) -> str:
        return podman("exec", self.id, "python", "-c", script)

    def logs(self) -> str:
        done = subprocess.run(["podman", "logs", self.id], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def wait(self) -> int:
        return int(podman("wait", self.id))


@contextlib.contextmanager
def container(image: str, env: Mapping[str, str], *, memory: str = "2g", path: str = "/healthz") -> Iterator[Container]:
    """Run `image` with a pod's restrictions while the context lasts; it answers `path`."""
    (port,) = free_ports(1)
    variables = [f"--env={name}={value}" for name, value in {**env, "PORT": str(port)}.items()]
    # The folder: what watches a container leaves a file where it was started when the memory ends.
    with tempfile.TemporaryDirectory() as folder:
        running = Container(
            podman(
                "run", "--detach", "--network=host", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,mode=1777",
                "--cap-drop=all", "--security-opt=no-new-privileges", f"--memory={memory}", f"--memory-swap={memory}",
                *variables, image, folder=folder,
            ),
            port,
        )  # fmt: skip
        try:
            eventually(lambda: running.function.status(path) == 200, f"{image} answers {path}")
            yield running
        except BaseException as error:
            error.add_note(running.logs())
            raise
        finally:
            podman("rm", "--force", "--time=5", running.id)


def built(folder: str) -> str:
    name = f"localhost/frazil-{folder}:test"
    command = ["buildah", "build", "--network=host", f"--build-arg=BASE={BASE}", "--pull=never"]
    done = subprocess.run(
        [*command, f"--file={folder}/Dockerfile", f"--tag={name}", "."],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture(scope="module")
def function_image() -> str:
    return built("functions")


@pytest.fixture(scope="module")
def coordinator_image() -> str:
    return built("coordinator")


def function_env(**more: str) -> dict[str, str]:
    settings = {"FRAZIL_TASK_KEYS": KEY, "FRAZIL_STORE_URL": "/tmp/store", "FRAZIL_FUNCTION_HOST": "127.0.0.1"}
    return {**settings, "POLARS_MAX_THREADS": "1", **more}


def coordinator_env(**more: str) -> dict[str, str]:
    settings = {"FRAZIL_TASK_KEYS": f"{KEY}\n", "FRAZIL_TOKEN": TOKEN, "FRAZIL_HOST": "127.0.0.1"}
    return {**settings, "FRAZIL_PLATFORM": "knative", **more}


def growing() -> TaskRequest:
    return task(pl.LazyFrame({"x": [0]}).select(pl.int_range(0, 250_000_000).sqrt().sort(descending=True).alias("y")))


@contextlib.contextmanager
def one_url(ports: list[int]) -> Iterator[str]:
    """Give one URL for all `ports`, each connection going to the next, as Knative's ingress would."""
    loop = asyncio.new_event_loop()
    turn = iter(range(1 << 30))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", ports[next(turn) % len(ports)])
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(reader, behind_writer))
            group.create_task(copy(behind_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(connected, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        asyncio.run_coroutine_threadsafe(ended(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def ended(server: asyncio.Server) -> None:
    """Close a server, and end what still runs on its loop."""
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def test_a_function_runs_unprivileged_on_a_read_only_root_and_finds_its_bytecode(function_image: str) -> None:
    with container(function_image, function_env()) as running:
        assert running.run("import os; print(os.getuid())") == "65532"
        assert running.run(READ_ONLY) == "30"
        assert running.run(LISTED) == "CycloneDX True"
        assert running.run("import asyncio, pathlib; print(pathlib.Path(asyncio.__cached__).exists())") == "True"
        assert running.run("import polars, pathlib; print(pathlib.Path(polars.__cached__).exists())") == "True"
        assert running.run("import importlib.util as u; print(u.find_spec('frazil'), u.find_spec('pyarrow'))") == "None None"
        assert isinstance(running.function.events(task(pl.LazyFrame({"a": [1]}), output=INLINE))[-1], Succeeded)


def test_a_function_finishes_its_task_on_sigterm_and_ends_with_0(function_image: str) -> None:
    with container(function_image, function_env()) as running:
        with running.function.posted(task(slow_plan(30), output=INLINE)) as response:
            assert isinstance(parse_line(response.readline()), Started)
            podman("kill", "--signal=TERM", running.id)
            eventually(lambda: running.function.status() == 0, "nothing new is accepted")
            assert isinstance(parse_line(response.readlines()[-1]), Succeeded)
        assert running.wait() == 0


def test_a_task_over_the_memory_limit_of_the_function_says_so(function_image: str) -> None:
    env = function_env(FRAZIL_MEMORY_LIMIT_BYTES=str(int(0.8 * (600 << 20))))
    with container(function_image, env, memory="600m") as running:
        last = running.function.events(growing())[-1]
        assert isinstance(last, Failed)
        assert last.error.kind == "out_of_memory"
        assert running.wait() == 137
        assert podman("inspect", "--format={{.State.OOMKilled}}", running.id) == "false"


def test_a_function_that_the_kernel_kills_for_memory_ends_with_137_in_the_middle_of_its_answer(function_image: str) -> None:
    with container(function_image, function_env(), memory="600m") as running:
        with running.function.posted(growing()) as response:
            assert isinstance(parse_line(response.readline()), Started)
            with contextlib.suppress(http.client.HTTPException, ConnectionError):
                while line := response.readline():
                    assert isinstance(parse_line(line), Heartbeat)
        assert running.wait() == 137


def test_wrong_settings_are_named_and_end_with_2(function_image: str, coordinator_image: str) -> None:
    for image in (function_image, coordinator_image):
        command = ["podman", "run", "--rm", "--network=host", "--read-only", "--env=FRAZIL_TOKEN=t", image]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "FRAZIL_TASK_KEYS" in done.stderr


@pytest.fixture
def table(seaweed: SeaweedFS, tmp_path: Path) -> pl.DataFrame:
    """Put the table, in two files, and return it."""
    frame = pl.DataFrame({"k": [f"k{value % 7}" for value in range(1000)], "v": range(1000)})
    for number, part in enumerate((frame[:600], frame[600:])):
        part.write_parquet(tmp_path / "part.parquet", row_group_size=100)
        seaweed.put("images-data", f"t/{number}.parquet", (tmp_path / "part.parquet").read_bytes())
    return frame


def query(table: pl.LazyFrame) -> pl.LazyFrame:
    sums = table.group_by("k").agg(pl.col("v").sum().alias("total"))
    return table.join(sums, on="k").filter(pl.col("v") % 3 == 0).sort("v", descending=True)


def test_a_whole_query_of_coordinator_two_functions_and_s3_is_what_polars_says(
    function_image: str, coordinator_image: str, seaweed: SeaweedFS, table: pl.DataFrame
) -> None:
    options = seaweed.storage_options
    store = {
        "FRAZIL_STORE_URL": seaweed.url("images-exchange/frazil"),
        "FRAZIL_STORE_OPTIONS": json.dumps({**options, "aws_allow_http": True}),
    }
    knobs = {"FRAZIL_START_SMALL": "false", "FRAZIL_MAX_ROWS_PER_SPLIT": "100", "FRAZIL_INLINE_LIMIT_BYTES": "0"}
    with contextlib.ExitStack() as stack:
        functions = [stack.enter_context(container(function_image, function_env(**store))) for _ in range(2)]
        url = stack.enter_context(one_url([each.port for each in functions]))
        env = coordinator_env(FRAZIL_FUNCTION_URL=url, FRAZIL_MAX_IN_FLIGHT="2", **store, **knobs)
        coordinator = stack.enter_context(container(coordinator_image, env, path="/readyz"))
        assert coordinator.run("import os; print(os.getuid())") == "65532"
        assert coordinator.run(READ_ONLY) == "30"
        assert coordinator.run(LISTED) == "CycloneDX True"
        with frazil.connect(f"http://127.0.0.1:{coordinator.port}", token=TOKEN) as engine:
            lf = query(pl.scan_parquet("s3://images-data/t/*.parquet", storage_options=options, credential_provider=None))
            running = engine.submit(lf)
            assert_same(running.result(), query(table.lazy()).collect(), ordered=True)
            assert sum(stage.tasks for stage in running.progress()) > 10
        assert seaweed.keys("images-exchange", "frazil/") == []
        podman("kill", "--signal=TERM", coordinator.id)
        assert coordinator.wait() == 0


def test_a_query_over_the_memory_of_its_function_is_an_out_of_memory_error(
    function_image: str, coordinator_image: str, seaweed: SeaweedFS, table: pl.DataFrame
) -> None:
    options = seaweed.storage_options
    store = {"FRAZIL_STORE_URL": seaweed.url("images-exchange/memory"), "FRAZIL_STORE_OPTIONS": json.dumps(options)}
    limit = {"FRAZIL_MEMORY_LIMIT_BYTES": str(int(0.8 * (600 << 20)))}
    with contextlib.ExitStack() as stack:
        function = stack.enter_context(container(function_image, function_env(**store, **limit), memory="600m"))
        env = coordinator_env(FRAZIL_FUNCTION_URL=f"http://127.0.0.1:{function.port}/", FRAZIL_MAX_ATTEMPTS="1", **store)
        coordinator = stack.enter_context(container(coordinator_image, env, path="/readyz"))
        with frazil.connect(f"http://127.0.0.1:{coordinator.port}", token=TOKEN) as engine:
            rows = pl.scan_parquet("s3://images-data/t/*.parquet", storage_options=options, credential_provider=None)
            grows = rows.select(pl.int_range(0, 250_000 * pl.len()).sqrt().sort(descending=True).alias("y"))
            with pytest.raises(OutOfMemoryError):
                grows.collect(engine=engine)
