from grav_actors.bus.lookout import (
    ACTIVE_LOOKS,
    ALERT_BYTES,
    CUT_BYTES,
    FEWEST_LOOKS,
    GRACE,
    LOOK_BYTES,
    MIB,
    OWN_BYTES,
    SETTLING,
    SHORTEST_SILENCE,
    SILENCE,
    UNREAD_LOOKS,
    Lookout,
)

LARGEST = MIB
STEP = 0.005
START = 100 * MIB
ALERT = START + ALERT_BYTES + 1
LIMIT = START + CUT_BYTES + 4 * LARGEST
TOO_MUCH = LIMIT + 1


def lookout(*numbers: int) -> Lookout:
    """One that knows these connections, and is not alert."""
    made = Lookout(LARGEST)
    assert made.look(0.0, START, []) == []
    for number in numbers:
        made.opened(number, 0.0)
    return made


def test_growth_alone_has_the_connections_watched_and_cuts_nobody() -> None:
    watcher = lookout(1, 2)

    assert watcher.look(1.0, START + ALERT_BYTES, []) == []
    was_alert = watcher.is_alert
    assert not was_alert
    assert watcher.look(1.1, ALERT, []) == []
    assert watcher.is_alert
    for step in range(100):
        assert watcher.look(1.2 + step * STEP, TOO_MUCH, []) == []


def test_a_connection_with_unread_input_and_no_whole_message_is_cut_when_too_much_has_grown() -> None:
    watcher = lookout(1, 2)
    watcher.look(1.0, ALERT, [])

    for step in range(1, UNREAD_LOOKS + 1):
        assert watcher.look(1.0 + step * STEP, ALERT, [(1, True)]) == []
    assert watcher.look(1.1, TOO_MUCH, [(1, True)]) == [1]


def test_input_that_was_read_at_once_does_not_convict_before_the_silence_does() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])
    for step in range(1, int(ACTIVE_LOOKS * SILENCE) + 2):
        assert watcher.look(1.0 + step * STEP, TOO_MUCH, [(1, False)]) == []

    assert watcher.look(1.0 + SILENCE, TOO_MUCH, []) == [1]


def test_pings_that_the_library_reads_for_a_busy_process_do_not_convict() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])

    for second in range(2, 20):
        assert watcher.look(float(second), TOO_MUCH, [(1, False)]) == []


def test_a_connection_at_which_nothing_happens_is_never_cut() -> None:
    watcher = lookout(1, 2)
    watcher.look(1.0, ALERT, [])
    cut = [watcher.look(1.0 + step * STEP, TOO_MUCH, [(2, True)]) for step in range(1, 2000)]

    assert [2] in cut
    assert [1] not in cut


def test_a_whole_message_clears_its_connection() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])

    for step in range(1, 2000):
        now = 1.0 + step * STEP
        assert watcher.look(now, TOO_MUCH, [(1, True)]) == []
        if step % (UNREAD_LOOKS - 1) == 0:
            watcher.heard(1, now)


def test_growth_before_its_last_whole_message_is_not_charged_to_a_connection() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])
    watcher.look(1.1, TOO_MUCH, [])
    watcher.heard(1, 1.2)

    for step in range(1, UNREAD_LOOKS * 2):
        assert watcher.look(1.2 + step * STEP, TOO_MUCH + OWN_BYTES // 2, [(1, True)]) == []
    assert watcher.look(2.0, TOO_MUCH + OWN_BYTES + 2 * LARGEST, [(1, True)]) == [1]


def test_messages_that_leave_the_bus_while_their_memory_stays_convict_nobody() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT + 400 * MIB, [], 200 * MIB)
    watcher.heard(1, 1.0)

    for step in range(1, UNREAD_LOOKS * 2):
        assert watcher.look(1.0 + step * STEP, ALERT + 400 * MIB, [(1, True)]) == []


def test_the_more_has_grown_the_fewer_looks_convict() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])
    much = LIMIT + 100 * LOOK_BYTES

    cut = [watcher.look(1.0 + step / 10, much, [(1, True)]) for step in range(1, FEWEST_LOOKS + 1)]
    assert cut == [[]] * (FEWEST_LOOKS - 1) + [[1]]


def test_a_message_that_came_whole_a_moment_ago_is_followed_by_no_conviction() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])
    much = LIMIT + 100 * LOOK_BYTES
    for step in range(10):
        assert watcher.look(1.0 + step * SHORTEST_SILENCE / 11, much, [(1, True)]) == []
    assert watcher.look(1.0 + SHORTEST_SILENCE, much, [(1, True)]) == [1]


def test_growth_before_the_alert_may_be_any_connection_s() -> None:
    watcher = lookout(1)
    watcher.look(1.0, TOO_MUCH, [])

    cut = [watcher.look(1.0 + step / 10, TOO_MUCH, [(1, True)]) for step in range(1, UNREAD_LOOKS + 1)]
    assert cut[-1] == [1]


def test_of_several_those_are_cut_that_were_busy_longest() -> None:
    watcher = lookout(1, 2, 3)
    watcher.look(1.0, ALERT, [])
    for step in range(1, 3 * UNREAD_LOOKS):
        watcher.look(1.0 + step * STEP, ALERT, [(1, True), (2, True)])
    for step in range(3 * UNREAD_LOOKS, 4 * UNREAD_LOOKS):
        watcher.look(1.0 + step * STEP, ALERT, [(1, True), (2, True), (3, True)])

    assert watcher.look(2.0, TOO_MUCH, [(3, True)]) == [1, 2]


def test_after_a_cut_nothing_more_is_cut_until_memory_may_have_been_freed() -> None:
    watcher = lookout(1, 2)
    watcher.look(1.0, ALERT, [])
    for step in range(1, 3 * UNREAD_LOOKS):
        watcher.look(1.0 + step * STEP, ALERT, [(1, True)])
    assert watcher.look(2.0, TOO_MUCH, [(2, True)]) == [1]
    for _ in range(UNREAD_LOOKS):
        assert watcher.look(2.0 + GRACE / 2, TOO_MUCH, [(2, True)]) == []

    assert watcher.look(2.0 + GRACE, TOO_MUCH, [(2, True)]) == [2]


def test_a_connection_that_has_ended_is_not_cut() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])
    for step in range(1, UNREAD_LOOKS + 1):
        watcher.look(1.0 + step * STEP, ALERT, [(1, True)])
    watcher.closed(1)

    assert watcher.look(1.1, TOO_MUCH, [(1, True)]) == []
    watcher.heard(1, 1.2)


def test_growth_in_which_all_were_above_suspicion_counts_as_the_bus_s_own() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])
    watcher.look(1.0 + SETTLING, TOO_MUCH, [])
    watcher.look(1.1 + SETTLING, TOO_MUCH, [])

    assert not watcher.is_alert


def test_growth_beside_a_suspect_does_not_count_as_the_bus_s_own() -> None:
    watcher = lookout(1)
    watcher.look(1.0, ALERT, [])

    for second in range(2, 60):
        watcher.look(float(second), ALERT, [(1, False)])
    assert watcher.is_alert


def test_memory_that_was_given_back_is_growth_when_it_comes_again() -> None:
    watcher = lookout(1)
    watcher.look(1.0, START // 2, [])
    watcher.look(1.1, START // 2 + ALERT_BYTES + 1, [])

    assert watcher.is_alert
