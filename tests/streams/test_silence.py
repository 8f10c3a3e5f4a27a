from streams.judge.silence import Silence


def test_a_model_that_goes_quiet_is_reported_once_and_its_return_too() -> None:
    silence = Silence(900.0)
    assert silence.hear("m", 1000.0) is None
    assert silence.check(1001.0) == []
    assert silence.hear("m", 1060.0) is None
    assert silence.check(1900.0) == []
    (alert,) = silence.check(2000.0)
    assert (alert.life, alert.layer, alert.onset_at, alert.model_id) == ("open", "operation", 1060.0, "m")
    assert silence.check(2500.0) == []
    over = silence.hear("m", 3000.0)
    assert over is not None
    assert (over.life, over.incident_id, over.opened_at) == ("resolved", alert.incident_id, 2000.0)


def test_a_nightly_batch_learns_its_own_gap() -> None:
    silence = Silence(900.0)
    silence.hear("m", 0.0)
    assert silence.check(1.0) == []
    assert len(silence.check(5000.0)) == 1
    silence.hear("m", 86_400.0)
    assert silence.check(86_400.0 + 100_000.0) == []
    assert len(silence.check(86_400.0 + 180_000.0)) == 1


def test_a_resent_digest_is_no_sign_of_life() -> None:
    silence = Silence(900.0)
    silence.hear("m", 1000.0)
    assert silence.hear("m", 1000.0) is None
    assert silence.check(1001.0) == []
    assert len(silence.check(2000.0)) == 1
    assert silence.hear("m", 1000.0) is None
    assert silence.models["m"].alarm_since is not None


def test_without_a_limit_silence_is_accepted() -> None:
    silence = Silence(None)
    silence.hear("m", 0.0)
    assert silence.check(1e9) == []


def test_a_worker_that_was_away_listens_first_before_it_speaks_of_silence() -> None:
    before = Silence(900.0)
    before.hear("m", 1000.0)
    after = Silence(900.0, before.models)
    assert after.check(50_000.0) == []
    assert len(after.check(51_000.0)) == 1
