"""The client's event loop serves callers of every kind, and ends with them."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from concurrent.futures import CancelledError

from models.remote.answers import Capabilities, Request
from models.remote.client import Limits, RemoteClient
from tests.models.servers import FakeServer, Reply, vllm_answer, vllm_choice

GOOD = vllm_answer([vllm_choice("1", [-0.5, -0.5])], 2)


def open_policy(url: str, **limits) -> RemoteClient:
    return RemoteClient(url, "small", capabilities=Capabilities(), limits=Limits(**limits))


def test_a_caller_inside_a_running_event_loop_is_served():
    async def caller(policy):
        return policy.complete([Request("p")])

    with FakeServer(lambda call: GOOD) as server, open_policy(server.url) as policy:
        assert asyncio.run(caller(policy))[0].completions[0].text == "1"


def test_threads_share_a_policy_with_its_limits_and_connections():
    def late(call):
        time.sleep(0.005)
        return vllm_answer([vllm_choice(call.body["prompt"], None)], 1)

    with FakeServer(late) as server:
        with open_policy(server.url, concurrency=2) as policy:
            found = {}
            threads = [
                threading.Thread(target=lambda i=i: found.update({i: policy.complete([Request(str(i))] * 3)}))
                for i in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(server.calls) == 15
        assert server.most_in_flight == 2
        assert server.connections <= 3
    assert {i: {a.completions[0].text for a in answers} for i, answers in found.items()} == {
        i: {str(i)} for i in range(5)
    }


def test_closing_ends_what_is_under_way_and_the_policy_can_be_used_again():
    with FakeServer(lambda call: GOOD if call.number else Reply(GOOD, fault="hang")) as server:
        policy = open_policy(server.url)
        ended = []

        def wait_in_vain():
            try:
                policy.complete([Request("p")])
            except CancelledError:
                ended.append(True)

        thread = threading.Thread(target=wait_in_vain)
        thread.start()
        while not server.calls:
            time.sleep(0.005)
        policy.close()
        thread.join(5.0)
        assert ended == [True]
        with policy:
            assert policy.complete([Request("p")])[0].completions[0].text == "1"


def test_a_fork_opens_connections_of_its_own():
    with FakeServer(lambda call: GOOD) as server, open_policy(server.url) as policy:
        policy.complete([Request("p")])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if policy.complete([Request("p")])[0].completions else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert policy.complete([Request("p")])[0].error is None
        assert len(server.calls) == 3


def test_a_forgotten_policy_ends_its_thread():
    before = set(threading.enumerate())
    with FakeServer(lambda call: GOOD) as server:
        policy = open_policy(server.url)
        policy.complete([Request("p")])
        started = {thread for thread in set(threading.enumerate()) - before if thread.name == "remote-policy"}
        assert len(started) == 1
        del policy
        gc.collect()
        assert not any(thread.is_alive() for thread in started)
