"""SignalingClient: the table over all its pairs, and its deadlines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallow_net.errors import MalformedMessageError, MisuseError, UnexpectedFrameError
from tallow_net.limits import ANSWER_S, IN_FLIGHT_BYTES, KEEP_ALIVE_S, SILENCE_S
from tallow_net.relay.session import (
    TABLE,
    Called,
    LeftRoom,
    NameplateReserved,
    Paired,
    Redirected,
    Refused,
    RelayRestarts,
    RelaySilent,
    SessionState,
    SignalingClient,
    Standing,
    Welcomed,
)
from tallow_net.signaling import (
    Allocate,
    Allocated,
    Call,
    Join,
    KeepAlive,
    Leave,
    LeaveReason,
    Left,
    Ready,
    Redirect,
    Restarting,
    Side,
    SignalingError,
    Waiting,
    Welcome,
    WelcomeLimits,
    decode,
    encode,
)

ROOM, OTHER_ROOM, LEASE = b"r" * 32, b"s" * 32, b"l" * 16
NOW = 1000.0
TOKENS = tuple(bytes([n]) * 32 for n in range(4))

EXAMPLES = {
    Welcome: Welcome(),
    Join: Join(1, (ROOM,), Side.A, LEASE),
    Waiting: Waiting(),
    Allocate: Allocate(1, LEASE),
    Allocated: Allocated("4821"),
    Leave: Leave(ROOM, LEASE, LeaveReason.LEFT),
    Left: Left(),
    KeepAlive: KeepAlive(),
    Ready: Ready(TOKENS),
    Call: Call(ROOM, LEASE),
    Redirect: Redirect("other.example", 443),
    Restarting: Restarting(1500, 60_000),
    SignalingError: SignalingError(10, 30),
}

S = SessionState
# The event of each pair that has a place, written down a second time: (state, message) -> (next state, event class).
EXPECTED = {
    **{(s, Welcome): (s, Welcomed) for s in S if s not in {S.READY, S.CLOSED}},
    **{(s, Restarting): (S.CLOSED, RelayRestarts) for s in S if s not in {S.READY, S.CLOSED}},
    **{(s, SignalingError): (S.CLOSED, Refused) for s in S if s not in {S.READY, S.CLOSED}},
    (S.ALLOCATING, Allocated): (S.IDLE, NameplateReserved),
    (S.ALLOCATING, Redirect): (S.CLOSED, Redirected),
    (S.JOINING, Waiting): (S.WAITING, Standing),
    (S.JOINING, Ready): (S.READY, Paired),
    (S.JOINING, Redirect): (S.CLOSED, Redirected),
    (S.WAITING, KeepAlive): (S.WAITING, None),
    (S.WAITING, Ready): (S.READY, Paired),
    (S.JOINING_MANY, Waiting): (S.LISTENING, Standing),
    (S.JOINING_MANY, Redirect): (S.CLOSED, Redirected),
    (S.LISTENING, KeepAlive): (S.LISTENING, None),
    (S.LISTENING, Call): (S.LISTENING, Called),
    (S.LEAVING, Left): (S.IDLE, LeftRoom),
    (S.LEAVING, Redirect): (S.CLOSED, Redirected),
    (S.LEAVING, KeepAlive): (S.LEAVING, None),
    (S.LEAVING, Ready): (S.LEAVING, None),
    (S.LEAVING, Call): (S.LEAVING, None),
}
PAIRS = [(state, message) for state in SessionState for message in EXAMPLES]


def in_state(state):
    session = SignalingClient()
    if state is S.ALLOCATING:
        session.allocate(LEASE, NOW)
    elif state in {S.JOINING, S.WAITING, S.READY}:
        session.join([ROOM], Side.A, LEASE, NOW, wait=False)
    elif state in {S.JOINING_MANY, S.LISTENING}:
        session.join([ROOM, OTHER_ROOM], Side.B, LEASE, NOW, wait=True)
    elif state is S.LEAVING:
        session.leave(ROOM, LEASE, LeaveReason.BURNED, NOW)
    if state in {S.WAITING, S.LISTENING}:
        session.receive(encode(Waiting()), NOW)
    elif state is S.READY:
        session.receive(encode(Ready(())), NOW)
    elif state is S.CLOSED:
        session.receive(encode(SignalingError(1)), NOW)
    session.frames_to_send()
    assert session.state is state
    return session


def test_the_table_has_the_pairs_that_are_expected_and_no_other():
    assert set(TABLE) == set(EXPECTED)


@pytest.mark.parametrize(
    ("state", "kind"), PAIRS, ids=lambda v: getattr(v, "name", getattr(v, "__name__", v))
)
def test_each_pair_of_state_and_message_is_taken_or_refused(state, kind):
    session = in_state(state)
    body = encode(EXAMPLES[kind])
    if state in {S.READY, S.CLOSED}:
        with pytest.raises(MisuseError):
            session.receive(body, NOW)
        assert session.state is state
    elif (state, kind) not in EXPECTED:
        with pytest.raises(UnexpectedFrameError, match=f"{kind.__name__}.*{state.value}"):
            session.receive(body, NOW)
        assert session.state is S.CLOSED
    else:
        next_state, event_class = EXPECTED[state, kind]
        event = session.receive(body, NOW)
        assert session.state is next_state
        assert isinstance(event, event_class or type(None))


@pytest.mark.parametrize("state", [s for s in S if s not in {S.READY, S.CLOSED}])
def test_garbage_closes_the_session_in_every_state(state):
    session = in_state(state)
    with pytest.raises(MalformedMessageError):
        session.receive(b"\x00\x03\xff", NOW)
    assert session.state is S.CLOSED
    assert session.next_deadline() is None


@pytest.mark.parametrize("state", list(S))
def test_a_question_is_asked_only_from_where_it_has_a_place(state):
    for ask, allowed in (
        (lambda s: s.allocate(LEASE, NOW), {S.IDLE}),
        (lambda s: s.join([ROOM], Side.A, LEASE, NOW, wait=False), {S.IDLE}),
        (lambda s: s.leave(ROOM, LEASE, LeaveReason.LEFT, NOW), {S.IDLE, S.WAITING, S.LISTENING}),
    ):
        session = in_state(state)
        if state in allowed:
            ask(session)
            assert len(session.frames_to_send()) == 1
        else:
            with pytest.raises(MisuseError):
                ask(session)
            assert session.frames_to_send() == []


def test_a_second_welcome_is_a_violation():
    session = in_state(S.WAITING)
    session.receive(encode(Welcome()), NOW)
    with pytest.raises(UnexpectedFrameError):
        session.receive(encode(Welcome()), NOW)


def test_nobody_waits_for_the_welcome_and_its_limit_counts_once_it_came():
    session = in_state(S.JOINING)
    assert session.in_flight_bytes == IN_FLIGHT_BYTES
    session.receive(encode(Welcome(limits=WelcomeLimits(in_flight_bytes=1 << 20))), NOW)
    assert session.in_flight_bytes == 1 << 20
    assert session.receive(encode(Ready(())), NOW) == Paired(())


def test_a_relay_without_our_version_is_refused_by_name():
    session = in_state(S.JOINING)
    event = session.receive(encode(Welcome(versions=(2, 3))), NOW)
    assert isinstance(event, Refused)
    assert event.error.code == "version"
    assert session.state is S.CLOSED


def test_ready_is_answered_with_an_empty_map_and_nothing_after_it():
    session = in_state(S.WAITING)
    assert session.receive(encode(Ready(TOKENS)), NOW) == Paired(TOKENS)
    assert session.frames_to_send() == [bytes.fromhex("0009a0")]
    assert session.next_deadline() is None


def test_events_carry_what_the_relay_said():
    assert in_state(S.ALLOCATING).receive(encode(Allocated("4821")), NOW) == NameplateReserved("4821")
    assert in_state(S.LISTENING).receive(encode(Call(ROOM, LEASE)), NOW) == Called(ROOM, LEASE)
    assert in_state(S.WAITING).receive(encode(Restarting(1500, 60_000)), NOW) == RelayRestarts(1.5, 60.0)
    redirect = Redirect("other.example", 8443, b"p" * 32)
    assert in_state(S.JOINING).receive(encode(redirect), NOW) == Redirected(redirect)
    refused = in_state(S.JOINING).receive(encode(SignalingError(10, 30)), NOW)
    assert (refused.error.code, refused.error.retry_after_s, refused.error.retryable) == (
        "relay_full",
        30,
        True,
    )


def test_several_rooms_are_asked_for_in_one_join():
    session = SignalingClient()
    session.join([ROOM, OTHER_ROOM], Side.B, LEASE, NOW, wait=True)
    (body,) = session.frames_to_send()
    assert decode(body) == Join(1, (ROOM, OTHER_ROOM), Side.B, LEASE, wait=True)


@pytest.mark.parametrize("state", [S.ALLOCATING, S.JOINING, S.JOINING_MANY, S.LEAVING])
def test_an_answer_is_due_within_ten_seconds(state):
    session = in_state(state)
    assert session.next_deadline() == NOW + ANSWER_S
    assert session.handle_timeout(NOW + ANSWER_S - 0.001) is None
    assert session.state is state
    assert session.handle_timeout(NOW + ANSWER_S) == RelaySilent(ANSWER_S)
    assert session.state is S.CLOSED


@pytest.mark.parametrize("state", [S.IDLE, S.READY, S.CLOSED])
def test_nothing_is_due_where_nothing_is_awaited(state):
    session = in_state(state)
    assert session.next_deadline() is None
    assert session.handle_timeout(NOW + 1e6) is None


@pytest.mark.parametrize("state", [S.WAITING, S.LISTENING])
def test_a_keep_alive_goes_out_every_twenty_seconds(state):
    session = in_state(state)
    for count in range(1, 6):
        due = NOW + count * KEEP_ALIVE_S
        assert session.next_deadline() == due
        assert session.handle_timeout(due - 0.001) is None
        assert session.frames_to_send() == []
        assert session.handle_timeout(due) is None
        assert session.frames_to_send() == [encode(KeepAlive())]
        session.receive(encode(KeepAlive()), due)


@pytest.mark.parametrize("state", [S.WAITING, S.LISTENING])
def test_a_relay_that_is_silent_for_45_seconds_is_dead(state):
    session = in_state(state)
    session.handle_timeout(NOW + 20)
    session.handle_timeout(NOW + 40)
    assert session.next_deadline() == NOW + SILENCE_S
    assert session.handle_timeout(NOW + SILENCE_S - 0.001) is None
    assert session.handle_timeout(NOW + SILENCE_S) == RelaySilent(SILENCE_S)
    assert session.state is S.CLOSED


def test_any_message_is_a_sign_of_life():
    session = in_state(S.LISTENING)
    session.handle_timeout(NOW + 20)
    session.receive(encode(Call(ROOM, LEASE)), NOW + 39)
    session.handle_timeout(NOW + 40)
    session.handle_timeout(NOW + 60)
    session.handle_timeout(NOW + 80)
    assert session.handle_timeout(NOW + 39 + SILENCE_S - 0.001) is None
    assert session.handle_timeout(NOW + 39 + SILENCE_S) == RelaySilent(SILENCE_S)


@given(st.lists(st.sampled_from(list(EXAMPLES.values())), max_size=12), st.sampled_from(list(S)))
def test_any_order_of_messages_ends_in_an_event_or_a_named_violation(messages, state):
    session = in_state(state)
    for message in messages:
        if session.state in {S.READY, S.CLOSED}:
            break
        try:
            session.receive(encode(message), NOW)
        except UnexpectedFrameError:
            assert session.state is S.CLOSED
    assert session.state in S
