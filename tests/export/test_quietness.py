"""What exporters say is hidden; what msdet says, and an interruption, are not."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest

from msdet.errors import MsdetError
from msdet.export.formats import quiet


def test_chatter_is_hidden_and_then_heard_again(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("to whom it may concern")
        print("or not", file=sys.stderr)
        warnings.warn("hm", stacklevel=1)
        logging.getLogger("exporter").critical("hm")
    assert capsys.readouterr() == ("", "")
    print("heard")
    print("as well", file=sys.stderr)
    assert capsys.readouterr() == ("heard\n", "as well\n")
    with pytest.warns(UserWarning, match="hm"):
        warnings.warn("hm", stacklevel=1)
    assert logging.root.manager.disable < logging.CRITICAL


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MsdetError("a line"), SystemExit(3)])
def test_what_ends_it_gets_out(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)) as raised, quiet():
        raise error
    assert raised.value is error
    print("heard")
    assert capsys.readouterr().out == "heard\n"
