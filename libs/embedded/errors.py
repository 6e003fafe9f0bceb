"""What can go wrong when servers run on the developer's own machine."""


class EmbeddedError(RuntimeError):
    """A server or service process could not be found, started or stopped; the message says why and where to look."""
