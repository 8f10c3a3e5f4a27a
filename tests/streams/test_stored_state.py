import msgspec
import pytest

from leadline.config import Config, ConfigError, Join, Panes
from leadline.events import Digest
from streams.baselines.reference_book import ReferenceBook
from streams.core.stage import Record
from streams.judge.judge import Judge
from streams.observe.observe import Observer

CLOCK = Record(0, b"", msgspec.json.encode(Digest(0, 1, "", "", 1.7e9, 1.7e9, [])), 0.0)


def test_a_window_that_changed_under_stored_state_is_refused_with_the_key_and_the_mend() -> None:
    before, after = Config(join=Join(delay_window=3600.0)), Config(join=Join(delay_window=7200.0))
    checkpoint = Observer(0, before, ReferenceBook(before)).checkpoint()
    Observer(0, before, ReferenceBook(before), checkpoint)
    with pytest.raises(ConfigError, match=r"join\.delay_window was 3600 s and is 7200 s.*redis\.prefix"):
        Observer(0, after, ReferenceBook(after), checkpoint)


def test_a_pane_that_changed_under_stored_state_is_refused() -> None:
    before, after = Config(panes=Panes(pane=10.0)), Config(panes=Panes(pane=5.0))
    checkpoint = Judge(0, before, ReferenceBook(before)).fold({"digests": [CLOCK]}, {}, 0.0).checkpoint
    with pytest.raises(ConfigError, match=r"panes\.pane was 10 s and is 5 s"):
        Judge(0, after, ReferenceBook(after), checkpoint)
