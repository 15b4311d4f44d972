"""An artifact over HTTP: answers, bad requests, too many of them, and a node that dies."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import RAY_WARNINGS, TwoNodes, token_feeds, two_nodes
from generating import artifact, built
from harness import unsupervised
from test_cli import command

import burnish
from burnish import driver
from burnish.driver import Request
from burnish.driver.serving import scale_of, serving
from burnish.optimizer.errors import BurnishError, UsageError
from burnish.runtimes.requests import open_answerer

pytestmark = [pytest.mark.filterwarnings(line) for line in RAY_WARNINGS]

TAGGER = Path(__file__).parents[2] / "examples" / "tagger" / "model.onnx"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PORT = free_port()
"""Serve has one place on a cluster."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """Serve stays between services, as on a cluster that has others."""
    from burnish.runtimes.ray_cluster.connection import Connection
    from burnish.runtimes.ray_cluster.serving import _start

    with two_nodes() as found:
        Connection(found.address)
        _start("127.0.0.1", PORT, local=False)
        yield found


@contextlib.contextmanager
def served(cluster: TwoNodes, model: Path, task: str | None = None, **wishes: Any) -> Iterator[Any]:
    request = Request(str(model), task=task)
    service, _ = serving(request, cluster.address, lambda words: None, port=PORT, **wishes)
    with service:
        yield service


def asked(body: Any, path: str = "/", method: str | None = None) -> tuple[int, Any]:
    """What comes back: the status, and the JSON."""
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", content, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def refused(body: Any, status: int, words: str, **where: Any) -> None:
    code, told = asked(body, **where)
    assert code == status
    assert list(told) == ["error"] and words in told["error"] and "\n" not in told["error"]


def test_texts_and_what_is_wrong_with_them(cluster: TwoNodes) -> None:
    texts = (TAGGER.parent / "sentences.txt").read_text().splitlines()
    here = open_answerer(TAGGER, threads=1)
    with (
        served(cluster, TAGGER, batch=1, queue=2) as service,
        ThreadPoolExecutor(30) as pool,
    ):
        assert service.facts["task"] == "token-classification"
        assert asked(None)[1]["example"] == service.facts["example"]
        status, found = asked({"texts": texts})
        (wanted,) = here.answer([here.read({"texts": texts})])
        assert status == 200 and found == json.loads(json.dumps(wanted))
        assert asked(None, "/health")[1]["status"] == "ok"
        refused({"texts": 3}, 400, "there are no texts")
        refused({"texts": ["a"] * 257}, 400, "257 texts in one request")
        refused({"texts": ["a"], "contxt": "b"}, 400, "there is no field contxt")
        refused([1], 400, "no JSON object")
        refused(b"{", 400, "not JSON")
        refused(b"[" * 100_000, 400, "not JSON")
        refused({"texts": "a", "stream": True}, 400, "no text that could be streamed")
        refused(b" " * ((16 << 20) + 1), 413, "larger than 16777216 bytes")
        refused(None, 404, "nothing at /other", path="/other")
        refused(None, 405, "/ takes GET and POST", method="DELETE")
        much = {"texts": [texts[0] * 10] * 16}
        found = Counter(code for code, _ in pool.map(asked, [much] * 60))
        assert set(found) == {200, 503} and sum(found.values()) == 60
        with pytest.raises(UsageError, match="Serve runs on this cluster already"):
            serving(Request(str(TAGGER)), cluster.address, lambda words: None, port=PORT + 1)
    here.close()


def test_arrays_under_load_and_a_node_that_dies(cluster: TwoNodes) -> None:
    feeds = token_feeds(150, seed=2)
    bodies = [{"inputs": {key: item.tolist() for key, item in feed.items()}} for feed in feeds]
    one = burnish.load(TAGGER, threads=1)
    with (
        served(cluster, TAGGER, "arrays", replicas=(3, 3), batch=4, queue=1000),
        ThreadPoolExecutor(8) as pool,
    ):
        refused({"inputs": {"input_ids": [[1]]}}, 400, "input attention_mask is missing")
        given = {"input_ids": [[10**9]], "attention_mask": [[1]]}
        refused({"inputs": given}, 400, "indices element out of data bounds")
        answers = pool.map(asked, bodies)
        first = [next(answers) for _ in range(20)]
        cluster.lose_a_node()
        found = [*first, *answers]
    assert Counter(status for status, _ in found) == {200: len(feeds)}
    for (_, body), feed in zip(found, feeds, strict=True):
        wanted = one.run(None, feed)[0]
        np.testing.assert_allclose(body["outputs"]["logits"], wanted, atol=1e-5)
    one.close()


def test_texts_are_written_and_streamed(cluster: TwoNodes, tmp_path: Path) -> None:
    folder = artifact("llama", tmp_path / "llama", built("llama"))
    here = open_answerer(folder, threads=1)
    body = {"texts": ["a b", "c"], "max_new_tokens": 5}
    with served(cluster, folder):
        status, found = asked(body)
        (wanted,) = here.answer([here.read(body)])
        assert status == 200 and found == json.loads(json.dumps(wanted))
        refused({"texts": "a", "temprature": 1}, 400, "there is no field temprature")
        refused({"texts": "a", "max_new_tokens": 10**6}, 400, "max_new_tokens is 1000000")
        refused({"texts": ["a", "b"], "stream": True}, 400, "one text is streamed at a time")
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        alone = {"texts": "a b", "max_new_tokens": 5}
        connection.request("POST", "/", json.dumps(alone | {"stream": True}))
        lines = [json.loads(line) for line in connection.getresponse().read().splitlines()]
        connection.close()
        assert lines.pop() == {"done": True}
        text = "".join(line["text"] for line in lines)
        assert text == asked(alone)[1]["texts"][0]["text"]
    here.close()


def test_stages_are_served(cluster: TwoNodes, tmp_path: Path) -> None:
    """Each is an actor of its own, on what the cluster has."""
    (tmp_path / "cluster.yaml").write_text("devices: [{count: 2, flops: 1G, bandwidth: 1G}]")
    plan = str(tmp_path / "cluster.yaml"), str(tmp_path / "stages")
    with unsupervised():
        driver.plan_stages(Request(str(TAGGER)), *plan)
    feeds = token_feeds(20, seed=3)
    bodies = [{"inputs": {key: item.tolist() for key, item in feed.items()}} for feed in feeds]
    one = burnish.load(TAGGER, threads=1)
    with served(cluster, tmp_path / "stages"), ThreadPoolExecutor(4) as pool:
        assert asked(None, "/health")[0] == 200
        given = {"input_ids": [[10**9]], "attention_mask": [[1]]}
        refused({"inputs": given}, 400, "indices element out of data bounds")
        for (status, body), feed in zip(pool.map(asked, bodies), feeds, strict=True):
            wanted = one.run(None, feed)[0]
            assert status == 200
            np.testing.assert_allclose(body["outputs"]["logits"], wanted, atol=1e-5)
    one.close()


def test_what_cannot_be_served(
    cluster: TwoNodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BurnishError), served(cluster, tmp_path / "broken.onnx"):
        pass
    with (
        pytest.raises(UsageError, match="9 replicas need 9"),
        served(cluster, TAGGER, replicas=(9, 9)),
    ):
        pass
    assert command("serve", tmp_path / "none.onnx") == 7
    assert "no such file or directory" in capsys.readouterr().err
    assert command("serve", TAGGER, "--replicas", 2, "--autoscale", "1:2") == 2
    assert command("serve", TAGGER, "--autoscale", "2") == 2
    assert "--autoscale 2 is no MIN:MAX; try --autoscale 1:4" in capsys.readouterr().err


def test_ranges_of_replicas() -> None:
    assert scale_of(3, None) == (3, 3)
    assert scale_of(1, "0:4") == (0, 4)
    for wrong in ("0:0", "3:2", "a:b", "1:"):
        with pytest.raises(UsageError):
            scale_of(1, wrong)
