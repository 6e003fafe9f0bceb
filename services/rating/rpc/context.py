"""The context that generated code passes to a handler; nothing here uses it."""

from __future__ import annotations

from typing import TypeAlias

import grpc
from google.protobuf.message import Message

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]
