"""What the benchmarks of speed and the regression gate rest on."""

from __future__ import annotations

import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.exchange_speed import frame_of, measure
from benchmarks.lines import lines_run
from benchmarks.plot import speedup_svg
from benchmarks.record import write_record
from benchmarks.slow_store import Distance, log_normal, run_slow_store
from benchmarks.smoke import Limit, over, read_limits

BODY = b"x" * 100_000


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()
        thread.join()


def test_a_slow_store_passes_what_is_asked_for_at_no_more_than_its_bandwidth(server: str) -> None:
    near = Distance(bytes_s=1e6, median_s=0.0001, p99_s=0.0002)
    with run_slow_store(server, near) as slow:
        began = time.monotonic()
        for _ in range(3):  # connections of their own, but one process
            with urllib.request.urlopen(slow.endpoint, timeout=30) as answer:
                assert answer.read() == BODY
        seconds = time.monotonic() - began
    assert seconds >= 3 * len(BODY) / near.bytes_s
    (process,) = slow.gets
    assert slow.gets == {process: 3}
    assert slow.bytes_sent[process] >= 3 * len(BODY)


def test_a_get_waits_before_it_is_sent_on(server: str) -> None:
    with run_slow_store(server, Distance(bytes_s=1e9, median_s=0.2, p99_s=0.21)) as slow:
        began = time.monotonic()
        with urllib.request.urlopen(slow.endpoint, timeout=30) as answer:
            answer.read()
        assert time.monotonic() - began >= 0.18


def test_latencies_have_the_median_and_the_99th_percentile_that_were_asked_for() -> None:
    draw = log_normal(Distance(), random.Random(7))
    drawn = sorted(draw() for _ in range(20_000))
    assert statistics.median(drawn) == pytest.approx(0.027, rel=0.03)
    assert drawn[int(0.99 * len(drawn))] == pytest.approx(0.106, rel=0.06)
    again = log_normal(Distance(), random.Random(7))
    assert sorted(again() for _ in range(20_000)) == drawn


def test_nested_rows_have_as_many_bytes_as_flat_ones_and_both_are_written_and_read(tmp_path: Path) -> None:
    flat, nested = frame_of("flat", 2_000_000), frame_of("nested", 2_000_000)
    assert nested.estimated_size() == pytest.approx(flat.estimated_size(), rel=0.1)
    assert nested.schema["lines"].is_nested()
    cell = measure("nested", nested, 16, "auto", 1, tmp_path)
    assert cell.raw_bytes == nested.estimated_size()
    assert cell.part_s > 0
    assert cell.object_bytes > 1_000_000


def test_a_curve_is_well_formed_and_says_the_efficiency_of_each_point() -> None:
    drawing = speedup_svg("title", [1, 2, 4], [1.0, 1.9, 3.0], floor=0.85)
    words = {text.text for text in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")}
    assert {"title", "100%", "95%", "75%", "85%", "ideal"} <= words


def test_a_record_says_commit_and_date(tmp_path: Path) -> None:
    write_record(tmp_path / "x.json", "name", {"figure": 1})
    text = (tmp_path / "x.json").read_text()
    assert all(f'"{name}"' in text for name in ("benchmark", "commit", "date", "cores", "figure"))


def test_lines_are_counted_with_each_turn_of_a_loop() -> None:
    def loop(turns: int) -> int:
        total = 0
        for _ in range(turns):
            total += 1
        return total

    assert lines_run(lambda: loop(100)) - lines_run(lambda: loop(50)) == 100


LIMITS = {"a": Limit(figure="lines a task", limit=10, command="python -m benchmarks.simulation")}


def test_the_gate_names_figure_limit_and_command_of_what_is_above_its_limit() -> None:
    assert over({"a": 10}, LIMITS) == []
    (line,) = over({"a": 10.5}, LIMITS)
    assert "lines a task" in line
    assert "is 10.500, above its limit of 10 in benchmarks/smoke_limits.json" in line
    assert "look closer: python -m benchmarks.simulation" in line


def test_the_gate_does_not_pass_what_was_not_measured_or_has_no_limit() -> None:
    assert over({}, LIMITS) == ["a (lines a task) was not measured, but has a limit in benchmarks/smoke_limits.json"]
    assert over({"a": 1, "b": 1}, LIMITS) == ["b has no limit in benchmarks/smoke_limits.json"]


def test_every_limit_names_a_benchmark_that_is_there() -> None:
    limits = read_limits()
    assert len(limits) >= 15
    for limit in limits.values():
        assert find_spec(limit.command.split()[2]) is not None, limit
