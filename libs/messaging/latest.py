"""What a stream stores, asked of itself.

What a consumer has pending does not tell: the server counts a message there some time after it stored it, and until
then says that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

_NO_MESSAGE_FOUND = 10037


async def latest_sequence(js: JetStreamContext, stream: str, subjects: Iterable[str]) -> int:
    """Return the sequence of the last message on any of the subjects (wildcards are fine); 0 if there is none.

    :raises nats.js.errors.NotFoundError: if there is no such stream
    :raises nats.errors.Error: if the server does not answer
    """
    return max([await _latest(js, stream, subject) for subject in subjects], default=0)


async def _latest(js: JetStreamContext, stream: str, subject: str) -> int:
    try:
        return (await js.get_last_msg(stream, subject)).seq or 0
    except NotFoundError as error:
        if error.err_code != _NO_MESSAGE_FOUND:
            raise
        return 0
