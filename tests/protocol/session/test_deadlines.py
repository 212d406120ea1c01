"""A session's next deadline, of which a shell makes a timer: one in the past would be due at once, again and again."""

from tallow_net import Side
from tallow_protocol.testing import Pair


def test_a_ping_that_no_writer_can_take_is_looked_at_again_in_its_time() -> None:
    pair = Pair({"a": b"1"}, answer=False)
    pair.run(until=lambda: not pair.step())
    session = pair.sessions[Side.A]
    due = session.next_deadline()
    session.tick(due)
    assert session.next_deadline() > due


def test_a_connection_that_may_not_speak_yet_has_no_ping_to_wait_for() -> None:
    pair = Pair({"a": b"1"}, answer=False)
    pair.run(until=lambda: not pair.step())
    sender, receiver = pair.sessions[Side.A], pair.sessions[Side.B]
    attempt = sender.open_link(sender.next_number(), bytes(32))
    link, _ = receiver.accept_link(attempt.attach, bytes(32), pair.now)
    for seconds in range(1, 8):
        receiver.tick(pair.now + seconds)
        assert receiver.control_frame(link, pair.now + seconds) is None
        assert receiver.next_deadline() > pair.now + seconds
