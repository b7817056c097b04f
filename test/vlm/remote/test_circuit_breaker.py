"""Who fails some times in a row is left alone for a while, then tried once."""

from epvlm_ros.vlm.remote.circuit_breaker import CircuitBreaker


def test_the_breaker_opens_and_lets_one_trial_through():
    now = [100.0]
    breaker = CircuitBreaker(2, 10.0, lambda: now[0])
    breaker.fail()
    assert (breaker.state, breaker.remaining_s) == ('closed', 0.0)
    breaker.succeed()
    breaker.fail()
    assert breaker.state == 'closed'  # not in a row
    breaker.fail()
    assert (breaker.state, breaker.remaining_s) == ('open', 10.0)
    now[0] = 107.5
    assert (breaker.state, breaker.remaining_s) == ('open', 2.5)
    now[0] = 110.0
    assert (breaker.state, breaker.remaining_s) == ('half_open', 0.0)
    breaker.fail()
    assert (breaker.state, breaker.remaining_s) == ('open', 10.0)
    now[0] = 120.0
    breaker.succeed()
    assert (breaker.state, breaker.num_failures) == ('closed', 0)
