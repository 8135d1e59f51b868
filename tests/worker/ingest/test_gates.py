"""A server that says it is busy is asked for less at once, and only when it wants."""

import threading
import time

import pytest

from shared.errors import OutageError
from shared.source_addresses import parse_address
from tests.worker.ingest.test_remote import make_courier
from tests.worker.ingest.uploads import png
from worker.ingest.remote.answers import FetchError
from worker.ingest.remote.gates import Gate

PARALLEL, LONG = 8, 1000
WANTED = threading.Event()


class BusyServer:
    """Answers the first requests, which come together, that it is busy."""

    def __init__(self, server):
        self._answer = server.answer
        self._together = threading.Barrier(PARALLEL)
        self._lock = threading.Lock()
        self._asked = self._under_way = self.most = 0
        self.refused_at = self.asked_again_at = 0.0
        server.answer = self.answer

    def answer(self, handler, fault, **options):
        with self._lock:
            self._asked += 1
            is_busy = self._asked <= PARALLEL
        if is_busy:
            self._together.wait(20)
            self.refused_at = time.monotonic()
            self._answer(handler, (429, {"retry-after": "1"}), **options)
            return
        with self._lock:
            self.asked_again_at = self.asked_again_at or time.monotonic()
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        time.sleep(0.02)
        with self._lock:  # before the other side may ask again
            self._under_way -= 1
        self._answer(handler, fault, **options)


def test_half_as_much_is_asked_for_after_the_time_that_a_busy_server_wants(
    tmp_path, serve
):
    server = serve({f"/{at}.png": png(at) for at in range(24)})
    busy = BusyServer(server)
    # A test may run where nothing else does: patience costs it nothing.
    courier = make_courier(tmp_path, server, parallel=PARALLEL, stall_seconds=20)
    wanted = [(path, parse_address(f"{server.url}{path}")) for path in server.files]

    came = list(courier.fetch_all(wanted, len(wanted)))

    assert all(parcel.fetched for parcel in came)
    assert busy.asked_again_at - busy.refused_at > 0.9
    assert 1 < busy.most <= PARALLEL // 2 + 1


def be_busy(gate, meanwhile=lambda: None):
    def ask():
        with gate.turn(WANTED):
            meanwhile()
            raise FetchError("It is busy.", passes=True, is_busy=True)

    with pytest.raises(FetchError):
        ask()


def test_what_was_asked_together_halves_once_and_one_is_always_let_through():
    gate, rooms = Gate(PARALLEL, LONG), []
    be_busy(gate, meanwhile=lambda: be_busy(gate))
    rooms.append(gate.room)
    for _ in range(3):
        be_busy(gate)
        rooms.append(gate.room)

    assert rooms == [4, 2, 1, 1]


def test_it_grows_by_one_after_twenty_files_and_never_above_the_most():
    gate, rooms = Gate(2, LONG), []
    be_busy(gate)
    for _ in range(3):
        rooms.append(gate.room)
        for _ in range(21):  # sums of twentieths are not exact
            with gate.turn(WANTED):
                pass

    assert rooms == [1, 2, 2]


def test_a_server_that_is_busy_for_long_is_not_waited_for(tmp_path, serve):
    server = serve({})
    busy = (429, {"retry-after": "1"})
    server.faults = {f"/{at}.png": [busy] * 9 for at in range(30)}
    courier = make_courier(tmp_path, server, parallel=4, tries=9, busy_seconds=0.5)
    wanted = [(at, parse_address(f"{server.url}/{at}.png")) for at in range(30)]

    with pytest.raises(OutageError, match="answers 429"):
        list(courier.fetch_all(wanted, len(wanted)))

    # All together twice at most; the rest hears of that.
    assert len(server.got) <= 2 * 4


def test_who_waits_hears_that_a_server_is_busy_for_long_and_a_file_heals_it():
    gate, heard = Gate(1, 0.0), []

    def wait_for_a_turn():
        try:
            with gate.turn(WANTED):
                pass
        except FetchError as error:
            heard.append(error)

    be_busy(gate)
    waiting = threading.Thread(target=wait_for_a_turn)

    def start_waiting():
        waiting.start()
        time.sleep(0.05)

    be_busy(gate, meanwhile=start_waiting)
    waiting.join(20)
    wait_for_a_turn()

    (error,) = heard
    assert (error.passes, error.is_final) == (True, True)
    be_busy(gate)
    wait_for_a_turn()
    assert heard == [error]


def test_another_fault_is_no_reason_to_ask_for_less():
    gate = Gate(PARALLEL, LONG)

    with pytest.raises(FetchError), gate.turn(WANTED):
        raise FetchError("It changed meanwhile.", passes=True)

    assert gate.room == PARALLEL


def test_nobody_waits_for_a_turn_when_nothing_is_wanted_any_more():
    gate, ended = Gate(1, LONG), threading.Event()
    ended.set()

    with gate.turn(ended), gate.turn(ended):
        pass
