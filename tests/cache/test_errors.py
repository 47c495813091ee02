"""Errors cross process borders unchanged: `hvd reproduce` runs stages in processes."""

import pickle
from pathlib import Path

from cache.errors import Busy, Corrupt, NoSpace


def test_errors_survive_pickling():
    for error in (Corrupt("bad", Path("/x"), "why"), NoSpace(Path("/x"), 10, 5), Busy("artifact", "host", "1", "now")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__
