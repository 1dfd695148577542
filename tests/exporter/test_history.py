"""The history of a bot: bounded, newest last, failures outliving successes."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.history import append_probe, past_probes
from exporter.probing.probe import EndpointResult, ProbeResult, Reason

reasons = st.none() | st.sampled_from(Reason)


def result(at: float, health: Reason | None, mesh: Reason | None) -> ProbeResult:
    def answer(reason: Reason | None) -> EndpointResult:
        return EndpointResult(reason is None, reason, None, 0.5, None)

    return ProbeResult("forge", at, answer(health), answer(mesh))


@given(st.lists(st.tuples(reasons, reasons), max_size=60))
def test_the_newest_of_each_kind_are_kept_in_order(probes: list[tuple[Reason | None, Reason | None]]) -> None:
    history = b""
    for at, (health, mesh) in enumerate(probes):
        history = append_probe(history, result(at, health, mesh))
    numbered = list(enumerate(probes))
    well = [at for at, probe in numbered if probe == (None, None)][-4:]
    ill = [at for at, probe in numbered if probe != (None, None)][-10:]
    past = past_probes(history)
    assert [entry.at for entry in past] == sorted(well + ill)
    assert all((entry.health, entry.mesh) == probes[int(entry.at)] for entry in past)


def test_a_failure_outlives_many_successes() -> None:
    history = append_probe(b"", result(1, Reason.tls, None))
    for at in range(2, 1000):
        history = append_probe(history, result(at, None, None))
    assert past_probes(history)[0].health is Reason.tls
    assert len(history) < 100
