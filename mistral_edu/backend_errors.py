"""The error of a backend that cannot do what it is asked, in a place every backend can import."""


class BackendUnavailable(RuntimeError):
    """The attention backend asked for cannot run here; the message says why and what to do."""
